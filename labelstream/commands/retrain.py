"""labelstream retrain: a new ranker from the tables, champion only if it is no worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.commands.judgements import (
    CatalogueOption,
    Layout,
    LayoutOption,
    PartOption,
    file_digests,
    read_judgements,
)
from labelstream.commands.options import with_options
from labelstream.commands.ranker_training import ranker_training
from labelstream.commands.scoring import scores_of
from labelstream.console import err, print_facts, print_table
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.human_content import HumanJudgements
    from labelstream.training.retraining import Retrained

REFUSED = 4


def retrain(
    registry: Annotated[
        Path | None, typer.Option("--registry", help="Folder of the registry; left out, LABELSTREAM_REGISTRY_FOLDER.")
    ] = None,
    snapshot: Annotated[int | None, typer.Option(min=0, help="Of the lake; left out, the newest.")] = None,
    label: Annotated[
        str | None,
        typer.Option(help="What the ranker is taught, see docs/learning.md; left out, LABELSTREAM_RETRAIN_LABEL."),
    ] = None,
    judgments: Annotated[
        Path | None,
        typer.Option("--judgments", exists=True, help="Let people judge content: CSV query,docid,rating, or --layout."),
    ] = None,
    catalogue: CatalogueOption = None,
    layout: LayoutOption = Layout.CHORUS,
    part: PartOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and judge, but change nothing.")] = False,
) -> None:
    """Train a ranker on the tables and promote it if the gate lets it pass. Exit code 4: it was refused.

    Run it on a schedule. It may run twice at once and be killed at any moment; the same snapshot gives the same
    ranker. `labelstream models rollback` brings the former one back. With --judgments the gate measures content on
    judged queries, which no ranker is trained on, and not by the labeller's own labels.
    """
    from labelstream.streaming.lake import Lake
    from labelstream.training.registry import Registry
    from labelstream.training.retraining import retrain as train_again

    settings = with_options(Settings.load(), retrain={"label": label}, registry={"folder": registry})
    humans = None if judgments is None else _humans(judgments, catalogue, layout, part, settings)
    kept = Registry(settings.registry.folder)
    with ranker_training(settings) as train, Lake(settings.lake, read_only=True) as lake:
        err.print(f"reading snapshot {lake.snapshot if snapshot is None else snapshot} …")
        done = train_again(lake, kept, settings, humans=humans, train=train, snapshot=snapshot, dry_run=dry_run)
    _print(done)
    if not done.verdict.passed:
        raise typer.Exit(REFUSED)


def _humans(
    judgments: Path, catalogue: Path | None, layout: Layout, part: str | None, settings: Settings
) -> HumanJudgements:
    """Judged pairs with the cross-encoder's scores, and which files they are from."""
    import numpy as np

    from labelstream.training.human_content import HumanJudgements

    judged = read_judgements(judgments, catalogue, None, layout, settings.scale, part)
    scores = np.full(len(judged), np.nan)
    if settings.encoder.enabled:
        err.print(f"scoring {len(judged):,} judged pairs with the cross-encoder …")
        scores = scores_of(judged, settings)
    return HumanJudgements(judged, scores, file_digests(judgments, catalogue, layout))


def _print(done: Retrained) -> None:
    rows = [(check.name, "passed" if check.passed else "FAILED", check.detail) for check in done.verdict.checks]
    print_table(f"the gate (content judged by: {done.metrics['content_judged_by']})", ("check", "", "detail"), rows)
    champion = "nobody" if done.champion is None else done.champion.version
    facts = {"challenger": done.version or "not kept: a dry run", "promoted": "yes" if done.promoted else "no"}
    print_facts("ranker", facts | {"champion": champion})
