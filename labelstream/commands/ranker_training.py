"""How the commands train a ranker: in this process, or by several workers on Ray; with a bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from labelstream.console import err, progress_bar
from labelstream.schemas.settings import Settings

if TYPE_CHECKING:
    from labelstream.schemas.scale import Floats
    from labelstream.training.features import FeatureTable
    from labelstream.training.ranker import Ranker
    from labelstream.training.retraining import Train


@contextmanager
def ranker_training(settings: Settings) -> Iterator[Train]:
    """What trains a ranker as the settings say; where that takes Ray, it runs as long as the block.

    Args:
        settings: All settings.

    Raises:
        SettingsError: The workers have no folder that all of them see.
    """
    from labelstream.training.ranker_fit import fit_ranker

    label = str(settings.retrain.ranking_label.description)

    def train(features: FeatureTable, labels: Floats, queries: Sequence[str]) -> Ranker:
        with progress_bar() as bar:
            task = bar.add_task("trees", total=settings.ranker.rounds, note="")

            def tell(trees: int, ndcg: float | None) -> None:
                bar.update(task, completed=trees, note="" if ndcg is None else f"validation NDCG {ndcg:.4f}")

            return fit_ranker(features, labels, queries, settings.ranker, label=label, storage=storage, tell=tell)

    with _workers(settings) as storage:
        yield train


def _workers(settings: Settings) -> AbstractContextManager[Path | None]:
    if settings.ranker.workers == 1:
        return nullcontext()
    from labelstream.actors.ranker_workers import ranker_workers

    err.print(f"starting Ray for {settings.ranker.workers} workers …")
    return ranker_workers(settings)
