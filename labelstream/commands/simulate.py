"""labelstream simulate: invented shoppers for judged pairs, as a search log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.commands.judgements import (
    CatalogueOption,
    JudgmentsOption,
    Layout,
    LayoutOption,
    PartOption,
    read_judgements,
)
from labelstream.commands.options import checked
from labelstream.console import err, progress_bar
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import KafkaSettings, Settings

if TYPE_CHECKING:
    from labelstream.training.simulated_log import LogCounts
    from labelstream.training.simulator import Simulation


def simulate(
    judgments: JudgmentsOption,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The log, JSON lines; gzip if it ends in .gz.")],
    catalogue: CatalogueOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    sessions: Annotated[int, typer.Option(min=1, help="Queries that shoppers send.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other sessions of the same shoppers.")] = 1,
    world_seed: Annotated[int, typer.Option(min=0, help="Another one makes other products popular.")] = 0,
    page: Annotated[int, typer.Option(min=1, max=300, help="Products shown for a query.")] = 20,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day, in UTC.")] = datetime(2026, 1, 1),  # noqa: DTZ001 - a day
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days that the sessions are spread over.")] = 28,
    popular_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of products that draw clicks and carts whatever their relevance.")
    ] = 0.15,
    publish: Annotated[bool, typer.Option("--publish", help="Send the log to Kafka, too.")] = False,
) -> None:
    """Write a search log of a simulation, and the truth behind it. The shoppers in it are invented, every one.

    What is behind it, by pair, is written beside the log, as Parquet: attractiveness, cart and purchase rates.
    """
    from labelstream.training.simulated_log import write_log
    from labelstream.training.simulated_truth import SimulationSettings
    from labelstream.training.simulator import Simulation

    settings = Settings.load()
    if not out.parent.is_dir():
        raise SettingsError(f"--out {out}: there is no folder {out.parent}; make it, or name another file")
    given = {"sessions": sessions, "seed": seed, "world_seed": world_seed, "page": page, "start": start.date(),
             "days": days, "popular_share": popular_share}  # fmt: skip
    chosen = checked(SimulationSettings, given)
    judged = read_judgements(judgments, catalogue, None, layout, settings.scale, part)
    simulation = Simulation(judged, settings.scale, chosen)
    truth = out.with_name(f"{out.name}.truth.parquet")
    simulation.truth.save(truth)
    with progress_bar() as bar:
        task = bar.add_task("simulated sessions", total=sessions, note="")
        counts = write_log(simulation, out, lambda count: bar.advance(task, count))
    _print(simulation, counts, out, truth)
    if publish:
        _publish(out, settings.kafka, sum(counts))


def _print(simulation: Simulation, counts: LogCounts, out: Path, truth: Path) -> None:
    irrelevant = simulation.truth.popular_irrelevant
    err.print(
        f"simulation: {len(irrelevant):,} pairs of {len(simulation.queries):,} queries, "
        f"{irrelevant.sum():,} of them popular but irrelevant; the truth is in {truth}",
        soft_wrap=True,
    )
    held = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts._asdict().items())
    typer.echo(f"simulation: {sum(counts):,} documents written to {out}: {held}")


def _publish(log: Path, kafka: KafkaSettings, documents: int) -> None:
    from labelstream.streaming.replay import replay
    from labelstream.streaming.topics import ensure_topics

    ensure_topics(kafka)
    with progress_bar() as bar:
        task = bar.add_task("simulation to Kafka", total=documents, note="")
        counts = replay(log, kafka, on_progress=lambda count: bar.advance(task, count))
    typer.echo(f"simulation: {counts.documents:,} records sent to {kafka.events_topic}")
