"""labelstream compact: fewer, larger files."""

from __future__ import annotations

from typing import Annotated

import typer

from labelstream.console import progress_bar
from labelstream.schemas.settings import Settings


def compact(
    keep_days: Annotated[
        float, typer.Option(min=0, max=36_525, help="Forget snapshots older than this many days.")
    ] = 30,
) -> None:
    """Merge small files of the lake and forget old snapshots; safe while the stream runs. Run it by the day."""
    from labelstream.streaming.lake import Lake
    from labelstream.streaming.maintenance import compact as steps

    settings = Settings.load().lake
    Lake(settings, read_only=True).close()  # says so where there is no lake; opening to write would make one
    with Lake(settings) as lake, progress_bar() as bar:
        task = bar.add_task("compacting", total=5, note="")
        for step in steps(lake, keep_days):
            bar.update(task, advance=1, note=f"{step.name}: {step.files}")
