"""labelstream report: what was measured, as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import err
from labelstream.printable import printable
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings


def report(
    evaluation: Annotated[
        list[str] | None,
        typer.Option("--evaluation", metavar="NAME=FOLDER", help="A folder of 'evaluate', and its name; repeatable."),
    ] = None,
    ablation: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="ablation.json: what the training labels are worth."),
    ] = None,
    tradeoff: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="tradeoff.json: content against engagement.")
    ] = None,
    cost: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="cost.json: time to label a million pairs.")
    ] = None,
    lake: Annotated[
        bool, typer.Option("--lake", help="Show the lake's labels by day, and how far they moved.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The page; one that is there is replaced.")] = Path(
        "report.html"
    ),
) -> None:
    """One HTML page with tables and figures, that needs no network and runs no script."""
    from labelstream.training.report import read_report_inputs, write_report

    folders = _named_folders(evaluation or [])
    settings = Settings.load() if lake else None
    inputs = read_report_inputs(
        folders,
        ablation=ablation,
        tradeoff=tradeoff,
        cost=cost,
        lake=None if settings is None else settings.lake,
        scale=None if settings is None else settings.scale,
    )
    write_report(out, inputs)
    err.print(f"written to {printable(out)}; open it in a browser", soft_wrap=True)


def _named_folders(given: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not (name.strip() and equals and folder):
            raise SettingsError(f"--evaluation {one}: write NAME=FOLDER, such as judge=runs/judge")
        if name in folders:
            raise SettingsError(f"--evaluation {one}: the name {name} is there twice; give each its own")
        folders[name] = Path(folder)
    return folders
