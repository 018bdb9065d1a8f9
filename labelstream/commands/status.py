"""labelstream status: how the stream is doing, from the lake and the broker alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from labelstream.console import err, print_facts, print_table
from labelstream.printable import printable
from labelstream.schemas.drift import MOVED, WORTH_A_LOOK
from labelstream.schemas.errors import BrokerUnavailable
from labelstream.schemas.settings import Settings

MOST_LAGGING = 10  # a topic may have hundreds of partitions


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Lag, counts, drift and versions. Works while the stream runs and while it does not."""
    facts = collect(Settings.load())
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
    else:
        _print(facts)


def collect(settings: Settings) -> dict[str, Any]:
    """Everything that ``status`` shows.

    Raises:
        SettingsError: There is no lake, or a topic does not exist.
        TransientError: The lake does not answer.
    """
    from labelstream.streaming import status as read
    from labelstream.streaming.lake import Lake

    with Lake(settings.lake, read_only=True) as lake:
        return {
            "snapshot": lake.snapshot,
            "counts": lake.totals(),
            "waiting_now": lake.query("SELECT count(*) FROM waiting")[0][0],
            "lag": _lags(settings, lake),
            "versions": read.label_versions(lake),
            "drift": read.label_drift(lake),
            "dead_letters": read.dead_letter_reasons(lake),
            "ignored": read.ignored_actions(lake),
        }


def _lags(settings: Settings, lake: Any) -> list[dict[str, Any]] | None:
    from labelstream.streaming.status import partition_lags

    try:
        lags = partition_lags(settings, lake)
    except BrokerUnavailable as error:
        err.print(f"no lag: {printable(error)}")
        return None
    return [partition._asdict() for partition in lags]


def _print(facts: dict[str, Any]) -> None:
    print_facts("counts", {"snapshot": facts["snapshot"], **facts["counts"], "waiting now": facts["waiting_now"]})
    if facts["lag"] is not None:
        print_lag(facts["lag"])
    print_table("versions", ("model", "prompt", "scale", "labels"), facts["versions"])
    drift = [
        (model, psi, "moved" if psi > MOVED else "look" if psi > WORTH_A_LOOK else "stable")
        for model, psi in facts["drift"].items()
    ]
    print_table("drift of the labels' mix (PSI, newest against first)", ("model", "PSI", ""), drift)
    print_table("dead letters", ("stage", "reason", "records"), facts["dead_letters"])
    print_table("ignored", ("action", "records"), facts["ignored"])


def print_lag(lags: Sequence[Mapping[str, Any]]) -> None:
    """The lag of all partitions together, and those that have most of it.

    Args:
        lags: Every partition, as ``PartitionLag`` has it.
    """
    most = sorted(lags, key=lambda partition: -partition["lag"])[:MOST_LAGGING]
    total = (f"all {len(lags)} partitions", "", "", sum(partition["lag"] for partition in lags))
    title = "lag" if len(most) == len(lags) else f"lag: the {len(most)} partitions with the most"
    print_table(title, ("topic", "partition", "consumed", "lag"), [*(tuple(row.values()) for row in most), total])
