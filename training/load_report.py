"""What a reader of judgements left out, and why: nothing is dropped in silence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import LabelScale

_EXAMPLES = 5


@dataclass
class Tally:
    """How often something happened, and the first few different places where it did."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < _EXAMPLES and example not in self.examples:
            self.examples.append(example)

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.count} ({', '.join(self.examples)}{more})"


@dataclass
class LoadReport:
    """Counts of one load.

    ``rows`` is the sum of ``pairs``, ``malformed_rows``, ``bad_ratings``, ``unknown_queries``, ``unknown_products``,
    ``duplicates`` and ``contradicting_rows``.

    Attributes:
        source: The file that was read.
        rows: Records in it.
        pairs: Pairs that were kept.
        queries: Different queries among them, as normalised.
        malformed_rows: Too many or too few fields, or no query or product id.
        bad_ratings: Off the scale, or not a rating at all.
        unknown_queries: Their query id is not among the queries.
        unknown_products: Pairs whose product is not in the catalogue.
        bad_products: Records of the catalogue that are no product; their pairs count as unknown.
        duplicates: Rows that say again what a row before them said.
        contradictions: Pairs with different ratings.
        contradicting_rows: Rows of those pairs, beyond the one that counts.
        raters_malformed_rows: Too many or too few fields in the raters' file.
        raters_bad_ratings: Single raters' ratings off the scale; they count as missing.
        raters_unmatched: Raters' rows that match no pair that was kept.
        raters_repeated: Raters' rows for a pair that has one already; the first counts.
        raters_adjudicated_differently: Pairs whose final rating among the raters is not the one judged; the judgement
            counts.
        warnings: What may surprise whoever uses the pairs.
    """

    source: str
    rows: int = 0
    pairs: int = 0
    queries: int = 0
    malformed_rows: Tally = field(default_factory=Tally)
    bad_ratings: Tally = field(default_factory=Tally)
    unknown_queries: Tally = field(default_factory=Tally)
    unknown_products: Tally = field(default_factory=Tally)
    bad_products: Tally = field(default_factory=Tally)
    duplicates: int = 0
    contradictions: Tally = field(default_factory=Tally)
    contradicting_rows: int = 0
    raters_malformed_rows: Tally = field(default_factory=Tally)
    raters_bad_ratings: Tally = field(default_factory=Tally)
    raters_unmatched: Tally = field(default_factory=Tally)
    raters_repeated: Tally = field(default_factory=Tally)
    raters_adjudicated_differently: Tally = field(default_factory=Tally)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report in the form of JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people: what was kept, then one line for each kind of thing that was not, then warnings."""
        said = [
            ("malformed rows left out", self.malformed_rows),
            ("ratings left out, off the scale or not a number", self.bad_ratings),
            ("rows left out, unknown query", self.unknown_queries),
            ("pairs left out, product not in the catalogue", self.unknown_products),
            ("catalogue records that are no product", self.bad_products),
            ("contradicting pairs, the median rounded down counts", self.contradictions),
            ("raters' rows left out, malformed", self.raters_malformed_rows),
            ("raters' ratings left out, off the scale or not a number", self.raters_bad_ratings),
            ("raters' rows left out, no such judged pair", self.raters_unmatched),
            ("raters' rows left out, pair has one already", self.raters_repeated),
            ("pairs adjudicated differently in the raters' file", self.raters_adjudicated_differently),
        ]
        kept = f"{self.source}: {self.pairs} pairs of {self.queries} queries, from {self.rows} rows"
        told = [f"{what}: {tally}" for what, tally in said if tally.count]
        repeats = [f"rows left out, said before: {self.duplicates}"] if self.duplicates else []
        return [kept, *told, *repeats, *(f"warning: {warning}" for warning in self.warnings)]

    def finish(self, queries: int, levels: NDArray[np.int64], scale: LabelScale) -> None:
        """Take the final counts.

        Args:
            queries: Different queries among the pairs that were kept.
            levels: Their levels; shape (pairs,).
            scale: Our label scale.

        Raises:
            SettingsError: No pair is left.
        """
        self.pairs, self.queries = len(levels), queries
        if not self.pairs:
            raise SettingsError(self._nothing_left())
        if queries == 1:
            self.warnings.append("one query only: it cannot be split by query, and there are no intervals")
        occurring = set(levels.tolist())
        for level, name in enumerate(scale.levels):
            if level not in occurring:
                self.warnings.append(f"no pair is {name}: nothing can be learned or measured of that level")

    def _nothing_left(self) -> str:
        if not self.rows:
            return f"{self.source}: no rows, or none that was asked for; name a file with judgements"
        _, *reasons = self.lines()
        remedy = (
            "give the catalogue that was judged, in the form that --layout says"
            if self.unknown_products.count
            else "give a file of the form that --layout says, with ratings on its scale"
        )
        return f"{self.source}: none of its {self.rows} rows is left ({'; '.join(reasons)}); {remedy}"
