"""labelstream replay: a recorded search log into the events topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import progress_bar
from labelstream.schemas.settings import Settings


def replay(
    path: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="UBI log: JSON lines or bulk, plain or .gz."),
    ],
    repeat: Annotated[int, typer.Option(min=1, help="Times that the whole log is sent.")] = 1,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Records a second; left out, as fast as it goes.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Records at most.")] = None,
) -> None:
    """Send a recorded search log to Kafka, byte for byte, as the shop would have."""
    from labelstream.streaming.replay import replay as send
    from labelstream.streaming.topics import ensure_topics

    settings = Settings.load()
    ensure_topics(settings.kafka)
    with progress_bar() as bar:
        task = bar.add_task("records", total=limit, note="")
        counts = send(
            path, settings.kafka, repeat=repeat, rate=rate, limit=limit, on_progress=lambda n: bar.advance(task, n)
        )
    typer.echo(
        f"{counts.documents:,} records sent to {settings.kafka.events_topic}: {counts.queries:,} queries, "
        f"{counts.events:,} events, {counts.others:,} others"
    )
