"""What `labelstream train` reads, and the teacher that labels pairs of queries which nobody has judged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labelstream.commands.judgements import Layout, read_catalogue
from labelstream.console import err
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings
from labelstream.streaming.lines import read_text_lines

if TYPE_CHECKING:
    from labelstream.training.fine_tuning import FineTuneSettings
    from labelstream.training.judge_training import Weaken
    from labelstream.training.judgments import JudgedPairs
    from labelstream.training.weak_pairs import WeakPairs


class TrainingFiles(NamedTuple):
    """What is read for a training.

    Attributes:
        judgments: See the options of these names, as for the next four.
        catalogue: None where the layout has one of its own.
        raters: What each rater said.
        layout: How judgements and catalogue are written.
        part: Of the layout.
        queries: Of a log, one a line.
        teacher_pairs: Where the teacher's pairs are kept; None to make them anew.
    """

    judgments: Path
    catalogue: Path | None
    raters: Path | None
    layout: Layout
    part: str | None
    queries: Path | None
    teacher_pairs: Path | None

    @property
    def version(self) -> str:
        """Changes when a file that the teacher reads does."""
        stats = [(file.resolve(), file.stat()) for file in (self.catalogue, self.queries) if file]
        return ", ".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)


def teacher(files: TrainingFiles, judged: JudgedPairs, settings: Settings, tuning: FineTuneSettings) -> Weaken | None:
    """What makes weak pairs; None where none are wanted.

    Raises:
        SettingsError: Pairs are to be kept, and none are wanted.
    """
    if tuning.weak_pairs:
        return _CatalogueTeacher(files, judged, settings, tuning)
    if files.teacher_pairs is not None:
        raise SettingsError("--teacher-pairs: there are none to keep; say with --weak-pairs how many a teacher labels")
    return None


class _CatalogueTeacher:
    """Makes weak pairs, or reads those that are kept; reads the catalogue only when it is asked."""

    def __init__(self, files: TrainingFiles, judged: JudgedPairs, settings: Settings, tuning: FineTuneSettings) -> None:
        self._files, self._judged, self._scale, self._tuning = files, judged, settings.scale, tuning
        self._queries = [line.strip() for _, line in read_text_lines(files.queries)] if files.queries else []

    def __call__(self, taught: JudgedPairs) -> WeakPairs:
        from labelstream.training.durable_files import require_folder
        from labelstream.training.teacher_pairs import kept_pairs, origin_of

        kept = self._files.teacher_pairs
        if kept is None:
            return self._made(taught)
        require_folder(kept.parent)
        if kept.exists():
            err.print(f"reading the teacher's pairs from {kept} …", soft_wrap=True)
        origin = origin_of(
            taught, rater_share=self._tuning.rater_share, catalogue=self._digest(), queries=self._queries,
            scale=self._scale, count=self._tuning.weak_pairs, seed=self._tuning.seed,
        )  # fmt: skip
        return kept_pairs(kept, self._scale, origin, lambda: self._made(taught))

    def _made(self, taught: JudgedPairs) -> WeakPairs:
        from labelstream.schemas.model_folder import packaged_encoder
        from labelstream.training.catalogue_index import CatalogueIndex
        from labelstream.training.embedding import embedder
        from labelstream.training.weak_pairs import make_weak_pairs

        files, count = self._files, self._tuning.weak_pairs
        # A layout without a catalogue of its own has had all its products judged.
        products = read_catalogue(files.catalogue, files.layout) if files.catalogue else self._judged.products
        distinct = list({product.product_id: product for product in products}.values())
        err.print(f"reading {len(distinct):,} products, for a teacher to label {count:,} pairs …")
        return make_weak_pairs(
            taught, CatalogueIndex(distinct, embedder(packaged_encoder())), levels=len(self._scale.levels),
            count=count, seed=self._tuning.seed, rater_share=self._tuning.rater_share, queries=self._queries,
        )  # fmt: skip

    def _digest(self) -> str:
        """Of the catalogue: of its file, and else of the judged products."""
        if self._files.catalogue is None:
            products = "\n".join(product.model_dump_json() for product in self._judged.products)
            return hashlib.sha256(products.encode()).hexdigest()
        with self._files.catalogue.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
