"""labelstream export: the lake's labels for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.console import err
from labelstream.printable import printable
from labelstream.schemas.settings import Settings
from labelstream.training.exports import Form, Score

if TYPE_CHECKING:
    from labelstream.training.exports import Exported


def export(
    form: Annotated[
        Form,
        typer.Argument(
            help="qrels: TREC's, for trec_eval and ir_measures. quepid: CSV query,docid,rating. workbench: JSON for "
            "OpenSearch's Search Relevance Workbench.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The file; one that is there is replaced.")],
    score: Annotated[
        Score, typer.Option(help="What of a label becomes its rating: its level, or one of its scores.")
    ] = Score.LEVEL,
    highest: Annotated[
        int | None,
        typer.Option(min=1, help="The best rating; 0 is the worst. Left out: 3 for quepid, else the best level."),
    ] = None,
    snapshot: Annotated[int | None, typer.Option(min=0, help="Of the lake; left out, the newest.")] = None,
) -> None:
    """Write the newest label of every pair for another tool: whole, or not at all. The stream may go on meanwhile.

    qrels have no room for spaces: FILE.queries.tsv beside the file says which query has which id.
    """
    from labelstream.streaming.lake import Lake
    from labelstream.training.exports import export_labels

    settings = Settings.load()
    with Lake(settings.lake, read_only=True) as lake:
        done = export_labels(
            lake, settings.scale, out, form, score=score, highest=highest, snapshot=snapshot
        )  # fmt: skip
    _print(done, out)


def _print(done: Exported, out: Path) -> None:
    if done.other_scale:
        err.print(f"left out: {done.other_scale:,} pairs with a label of another scale")
    if done.unwritable:
        example = printable(done.example)
        err.print(
            f"left out: {done.unwritable:,} pairs whose product id holds white space, such as '{example}'; quepid and "
            "workbench can hold them",
            soft_wrap=True,
        )
    beside = f", its queries to {done.side_file}" if done.side_file else ""
    typer.echo(f"{done.pairs:,} pairs of {done.queries:,} queries of snapshot {done.snapshot} written to {out}{beside}")
