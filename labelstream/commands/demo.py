"""labelstream demo: the whole stream on a made-up shop, from nothing to labelled tables."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.commands.kafka_broker import kafka_settings
from labelstream.commands.run import GIVEN_BACK, run_stream
from labelstream.console import err, out, print_facts, print_table, progress_bar
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import LakeSettings, Settings, StoreSettings

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

_EMPTIED = ("kafka", "lake", "store")
_CATALOG = Path("lake/catalog.sqlite")
_SAMPLE = """
    SELECT query, title, level, round(list_extract(probabilities, -1), 2) AS p_high, round(expected_score, 2) AS score,
           round(polarized_score, 2) AS polarized, round(cross_encoder_score, 2) AS encoder, clicks
    FROM labelled_pairs ORDER BY hash(query || product_id) LIMIT 10
"""


def demo(
    folder: Annotated[Path, typer.Option(help="Where model, broker and lake are kept.")] = Path(".labelstream/demo"),
    sessions: Annotated[int, typer.Option(min=1, help="Length of the simulated search log.")] = 830,
    seed: Annotated[int, typer.Option(help="Another seed makes another shop and another log.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="Print how often the demo labeller agrees with the truth, and stop.")
    ] = False,
) -> None:
    """Make a small shop and a search log, train a small labeller, run everything, and show what came out."""
    _require_own(folder)
    model = _labeller(folder / "labeller")
    if measure:
        _print_agreement(model)
        return
    for leftover in _EMPTIED:  # every demo starts with an empty lake; the model is kept
        shutil.rmtree(folder / leftover, ignore_errors=True)
    (folder / "lake").mkdir(parents=True)
    if _stream(folder, model, sessions, seed):
        raise typer.Exit(GIVEN_BACK)


def _require_own(folder: Path) -> None:
    """Delete nothing that no demo has made: `--folder .labelstream` is where the real lake's neighbours are."""
    taken = [name for name in _EMPTIED if (folder / name).exists()]
    if taken and not ((folder / "labeller").exists() or (folder / _CATALOG).exists()):
        raise SettingsError(
            f"--folder {folder}: holds {', '.join(taken)}, which no demo has made and a demo would delete; name a "
            "folder of its own"
        )


def _labeller(folder: Path) -> Path:
    """The demo labeller, trained the first time."""
    from labelstream.training.demo_labeller import train_demo_labeller

    if not folder.exists():
        err.print("training the demo labeller (once, about a minute) …")
        report = train_demo_labeller(folder)
        err.print(f"it agrees with the truth on {report.agreement:.1%} of held-out pairs")
    return folder


def _print_agreement(model: Path) -> None:
    from labelstream.schemas.scale import LabelScale
    from labelstream.training.demo_labeller import held_out_agreement

    report, levels = held_out_agreement(model), LabelScale().levels
    print_facts(
        "demo labeller on held-out queries and products",
        {"agreement with the truth": f"{report.agreement:.1%}", "temperature": report.temperature,
         "parameters": f"{report.parameters:,}"},
    )  # fmt: skip
    rows = [(level, *counts) for level, counts in zip(levels, report.confusion, strict=True)]
    print_table("pairs by true level (rows) and judged level (columns)", ("", *levels), rows)


def _stream(folder: Path, model: Path, sessions: int, seed: int) -> int:
    from labelstream.streaming.broker import local_broker

    with local_broker(folder / "kafka") as broker:
        settings = _settings(folder, model, broker.settings_environment())
        _send(settings, sessions, seed)
        given_back = run_stream(settings, until_drained=True)
    _show(settings)
    return given_back


def _settings(folder: Path, model: Path, environment: dict[str, str]) -> Settings:
    chosen = Settings.load()
    return chosen.model_copy(
        update={
            "kafka": kafka_settings(environment),
            "lake": LakeSettings(catalog=f"sqlite:{folder / _CATALOG}", data_path=f"{folder}/lake/files"),
            "store": StoreSettings(path=folder / "store"),
            "labeller": chosen.labeller.model_copy(update={"model": os.fspath(model)}),
        }
    )


def _send(settings: Settings, sessions: int, seed: int) -> None:
    from labelstream.streaming.importers import publish_products
    from labelstream.streaming.publish import Outgoing, publish
    from labelstream.streaming.topics import ensure_topics
    from labelstream.training.demo_catalogue import demo_catalogue
    from labelstream.training.demo_log import search_log

    kafka = settings.kafka
    ensure_topics(kafka)
    catalogue = demo_catalogue(seed=seed)
    with progress_bar() as bar:
        products = bar.add_task("catalogue to Kafka", total=len(catalogue), note="")
        publish_products(catalogue, kafka, lambda count: bar.advance(products, count))
        log = [Outgoing(key, value) for key, value in search_log(catalogue, seed=seed, sessions=sessions)]
        events = bar.add_task("search log to Kafka", total=len(log), note="")
        publish(log, kafka.events_topic, kafka, lambda count: bar.advance(events, count))


def _show(settings: Settings) -> None:
    from labelstream.streaming.lake import Lake
    from labelstream.streaming.status import dead_letter_reasons

    with Lake(settings.lake, read_only=True) as lake:
        print_facts("records", {name.replace("_", " "): f"{count:,}" for name, count in lake.totals().items()})
        _show_levels(lake)
        print_table("dead letters", ("stage", "reason", "records"), dead_letter_reasons(lake))
        cursor = lake.execute(_SAMPLE)
        columns = [column[0] for column in cursor.description or ()]
        print_table("ten labelled pairs", columns, cursor.fetchall())
    catalog, data = shlex.quote(settings.lake.catalog), shlex.quote(settings.lake.data_path)
    out.print("look further with, for example:")
    statement = "SELECT query, title, level, expected_score FROM labelled_pairs WHERE query LIKE '%lamp%' LIMIT 20"
    out.print(
        f"  LABELSTREAM_LAKE_CATALOG={catalog} LABELSTREAM_LAKE_DATA_PATH={data} \\\n"
        f'    .venv/bin/labelstream sql "{statement}"',
        soft_wrap=True,
    )


def _show_levels(lake: Lake) -> None:
    rows = lake.query(
        "SELECT level, count(*), avg(expected_score), avg(polarized_score) FROM labels GROUP BY ALL ORDER BY 3"
    )
    print_table("labels", ("level", "pairs", "mean score", "mean polarized"), rows)
