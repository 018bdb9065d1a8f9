"""labelstream train ranker: a ranker from the tables, into a folder, without registry and gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.commands.options import with_options
from labelstream.commands.ranker_training import ranker_training
from labelstream.console import err, print_facts, print_table
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

SHOWN_FEATURES = 12


def ranker(
    out: Annotated[Path, typer.Option("--out", help="Folder of the new ranker; must not exist.")],
    snapshot: Annotated[int | None, typer.Option(min=0, help="Of the lake; left out, the newest.")] = None,
    label: Annotated[
        str | None,
        typer.Option(help="What it is taught, see docs/learning.md; left out, LABELSTREAM_RETRAIN_LABEL."),
    ] = None,
    window_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Newest days, which the labels' engagement is from; left out, LABELSTREAM_RETRAIN_WINDOW_DAYS.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a group of features out, such as engagement.")
    ] = None,
    ltr: Annotated[
        Path | None, typer.Option(help="Also write it for the learning-to-rank plug-in of Elasticsearch or OpenSearch.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Same snapshot, same seed, same ranker; left out, LABELSTREAM_RANKER_SEED."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train together, on Ray; left out, LABELSTREAM_RANKER_WORKERS."),
    ] = None,
    storage: Annotated[
        Path | None,
        typer.Option("--storage", help="Folder that all Ray nodes see; left out, LABELSTREAM_RAY_STORAGE."),
    ] = None,
) -> None:
    """Train an XGBoost ranker on the tables. `labelstream retrain` does it on a schedule, with a gate."""
    from labelstream.streaming.lake import Lake
    from labelstream.training.durable_files import require_folder
    from labelstream.training.ltr_export import write_ltr_model
    from labelstream.training.ranking_task import read_task

    if out.exists():
        raise SettingsError(f"--out {out} exists; name a new folder, or remove this one")
    for path in (out, ltr):
        if path is not None:
            require_folder(path.parent)
    settings = with_options(
        Settings.load(),
        retrain={"label": label, "window_days": window_days},
        ranker={"seed": seed, "workers": workers},
        ray={"storage": storage},
    )
    with ranker_training(settings) as train:
        with Lake(settings.lake, read_only=True) as lake:
            err.print(f"reading snapshot {lake.snapshot if snapshot is None else snapshot} …")
            task = read_task(
                lake, settings.scale, settings.engagement, window_days=settings.retrain.window_days, snapshot=snapshot
            )
        features = task.features.without(*without) if without else task.features
        found = train(features, task.labels(settings.retrain.ranking_label), task.queries)
    found.save(out)
    if ltr is not None:
        write_ltr_model(ltr, found, out.name)
    facts = {"ranker": out, "snapshot": task.snapshot, "pairs": len(task), "trees": found.card.rounds}
    print_facts("trained", facts | {"validation NDCG": found.card.validation_ndcg})
    important = sorted(found.importance(features), key=lambda one: -one.mean_absolute_shap)[:SHOWN_FEATURES]
    rows = [(one.name, f"{one.mean_absolute_shap:.4f}", f"{one.total_gain:.4g}") for one in important]
    print_table("what it looks at", ("feature", "mean |SHAP|", "total gain"), rows)
