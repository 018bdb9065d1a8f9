"""labelstream cost: how long a million labels take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.console import err, print_table
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.cost import Seen
    from labelstream.training.report_inputs import Cost


def cost(
    out: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Also write the table for `labelstream report --cost`.")
    ] = None,
    pairs_per_second: Annotated[
        float | None, typer.Option(help="New pairs a second, as a benchmark measured; left out, the lake's commits.")
    ] = None,
    hit_share: Annotated[
        float | None, typer.Option(help="Share of a log's pairs that are known already; left out, the lake's.")
    ] = None,
    tokens_per_pair: Annotated[
        float | None, typer.Option(help="Tokens of query and product, for the estimate of a GPU; left out, 150.")
    ] = None,
    utilisation: Annotated[
        float | None, typer.Option(help="Share of a GPU's peak that prompts reach; left out, 0.4.")
    ] = None,
) -> None:
    """How long a million labels take: on this machine as the lake saw it, and on one H100 by a formula.

    The lake tells how fast new pairs came in while the stream was busy, and how many pairs the cache answered.
    """
    from labelstream.training.cost import TOKENS, UTILISATION, Seen, cost_table

    seen = Seen(None, None)
    if pairs_per_second is None or hit_share is None:
        seen = _seen(required=pairs_per_second is None)
    found = cost_table(
        _known(pairs_per_second, seen.pairs_per_second),
        "given by --pairs-per-second" if pairs_per_second is not None else "measured: commits of this lake",
        hit_share=hit_share if hit_share is not None else seen.hit_share or 0.0,
        hit_source="given by --hit-share" if hit_share is not None else "this lake's cache",
        tokens=TOKENS if tokens_per_pair is None else tokens_per_pair,
        utilisation=UTILISATION if utilisation is None else utilisation,
    )
    _print(found)
    if out is not None:
        _write(out, found)


def _seen(*, required: bool) -> Seen:
    """What the lake saw; nothing where there is no lake and none is required."""
    from labelstream.streaming.lake import Lake
    from labelstream.training.cost import Seen, seen_in

    try:
        with Lake(Settings.load().lake, read_only=True) as lake:
            return seen_in(lake)
    except SettingsError:
        if required:
            raise
        return Seen(None, None)


def _known(given: float | None, seen: float | None) -> float:
    found = given if given is not None else seen
    if found is None:
        raise SettingsError(
            "the lake has no two commits of labels that followed each other; give --pairs-per-second, as "
            "benchmarks/stream_vs_raw.py prints it"
        )
    return found


def _print(found: Cost) -> None:
    rows = [
        (row.what, f"{row.pairs_per_second:,.1f}", f"{row.hours_per_million:,.2f}", row.source) for row in found.rows
    ]
    print_table("a million pairs", ("", "pairs/s", "hours", "source"), rows)
    err.print(found.formula, soft_wrap=True)


def _write(path: Path, found: Cost) -> None:
    from labelstream.training.durable_files import whole_file

    with whole_file(path) as file:
        file.write(found.model_dump_json(indent=2).encode() + b"\n")
    err.print(f"written to {path}", soft_wrap=True)
