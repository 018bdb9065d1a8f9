"""labelstream retrain: a new ranker from the tables, champion only if it is no worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelstream.commands.registry import FOLDER
from labelstream.console import err, print_facts, print_table
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.training.retraining import Retrained

REFUSED = 4


def retrain(
    registry: Annotated[Path, typer.Option("--registry", help="Folder of the registry.")] = FOLDER,
    snapshot: Annotated[int | None, typer.Option(min=0, help="Of the lake; left out, the newest.")] = None,
    label: Annotated[str, typer.Option(help="What the ranker is taught: a name of `labelstream experiment`.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and judge, but change nothing.")] = False,
) -> None:
    """Train a ranker on the tables and promote it if the gate lets it pass. Exit code 4: it was refused.

    Run it on a schedule. It may run twice at once and be killed at any moment; the same snapshot gives the same
    ranker. `labelstream models rollback` brings the former one back.
    """
    from labelstream.streaming.lake import Lake
    from labelstream.training.ranker_fit import fit_ranker
    from labelstream.training.ranker_settings import RankerSettings
    from labelstream.training.registry import Registry
    from labelstream.training.retraining import RetrainSettings, ranking_label
    from labelstream.training.retraining import retrain as train_again

    settings = Settings.load()
    chosen = RetrainSettings() if not label else RetrainSettings(label=ranking_label(label))
    how = RankerSettings(seed=chosen.seed)
    with Lake(settings.lake, read_only=True) as lake:
        err.print(f"reading snapshot {lake.snapshot if snapshot is None else snapshot} …")
        done = train_again(
            lake, Registry(registry), chosen, settings.scale, snapshot=snapshot, dry_run=dry_run,
            train=lambda features, labels, queries: fit_ranker(
                features, labels, queries, how, label=str(chosen.label.description)
            ),
        )  # fmt: skip
    _print(done)
    if not done.verdict.passed:
        raise typer.Exit(REFUSED)


def _print(done: Retrained) -> None:
    rows = [(check.name, "passed" if check.passed else "FAILED", check.detail) for check in done.verdict.checks]
    print_table("the gate", ("check", "", "detail"), rows)
    champion = "nobody" if done.champion is None else done.champion.version
    facts = {"challenger": done.version or "not kept: a dry run", "promoted": "yes" if done.promoted else "no"}
    print_facts("ranker", facts | {"champion": champion})
