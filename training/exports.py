"""The lake's labels in the forms that other tools read: TREC qrels, Quepid, OpenSearch's Search Relevance Workbench.

A rating is the label's worth in [0, 1] times the highest rating of the tool. Queries are written as the lake has them,
normalised. Rows are read and written as they stream, ordered by query and product id, so the same snapshot gives the
same file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import LabelScale
from labelstream.training.durable_files import whole_file

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

_QUEPID_HIGHEST = 3  # Quepid's own scorers rate from 0 to 3
_DECIMALS = 4


class Form(StrEnum):
    """Whose form the file has."""

    QRELS = "qrels"
    QUEPID = "quepid"
    WORKBENCH = "workbench"


class Score(StrEnum):
    """What of a label becomes its rating."""

    LEVEL = "level"
    EXPECTED = "expected"
    POLARIZED = "polarized"


class RatedPair(NamedTuple):
    """One label.

    Attributes:
        worth: In [0, 1].
    """

    query: str
    product_id: str
    worth: float


class Exported(NamedTuple):
    """What a file holds.

    Attributes:
        snapshot: Of the lake.
        pairs: Rows of the file.
        queries: Different ones among them.
        other_scale: Pairs whose newest label is of another scale; they are left out.
        unwritable: Pairs whose product id the form cannot hold; they are left out.
        example: A product id that the form cannot hold, or an empty string.
        side_file: The queries by their ids, where the form needs one.
    """

    snapshot: int
    pairs: int
    queries: int
    other_scale: int
    unwritable: int
    example: str
    side_file: Path | None


def export_labels(
    lake: Lake,
    scale: LabelScale,
    path: Path,
    form: Form,
    *,
    score: Score = Score.LEVEL,
    highest: int | None = None,
    snapshot: int | None = None,
) -> Exported:
    """Write the newest label of each pair, whole or not at all.

    Args:
        lake: Open, read-only or not.
        scale: Labels of another scale are left out and counted.
        path: The file; one that is there is replaced. TREC's form puts ``<path>.queries.tsv`` beside it.
        form: Whose form.
        score: What of a label becomes its rating.
        highest: The best rating, 0 is the worst; None for 3 in Quepid and for the number of the best level elsewhere.
        snapshot: Which state of the lake; None for the newest.

    Raises:
        SettingsError: No label of this scale, no such snapshot, or the file may not be written.
        TransientError: The lake or the disk does not answer.
    """
    number = lake.known_snapshot(snapshot)
    of_scale, others = _count(lake, scale, number)
    if not of_scale:
        raise SettingsError(
            f"snapshot {number} holds no label of the scale {list(scale.levels)}; stream a search log first, name a "
            "later snapshot, or set LABELSTREAM_SCALE_LEVELS"
        )
    best = highest or (_QUEPID_HIGHEST if form is Form.QUEPID else len(scale.levels) - 1)
    tally = _Tally()
    pairs = tally.of(_rated_pairs(lake, scale, score, number), writable=_WRITABLE[form])
    side = path.with_name(f"{path.name}.queries.tsv") if form is Form.QRELS else None
    if side is not None:
        with whole_file(path) as file, whole_file(side) as queries:
            write_qrels(pairs, best, file, queries)
    else:
        with whole_file(path) as file:
            _WRITERS[form](pairs, best, file)
    return Exported(number, tally.pairs, tally.queries, others, tally.unwritable, tally.example, side)


class _Tally:
    """Counts pairs as they pass, and holds back those that cannot be written."""

    def __init__(self) -> None:
        self.pairs = self.queries = self.unwritable = 0
        self.example = ""

    def of(self, pairs: Iterable[RatedPair], writable: Callable[[str], bool]) -> Iterator[RatedPair]:
        last = None
        for pair in pairs:
            if not writable(pair.product_id):
                self.unwritable += 1
                self.example = self.example or pair.product_id
                continue
            self.pairs += 1
            self.queries += pair.query != last
            last = pair.query
            yield pair


def query_id(query: str) -> str:
    """A query's id in TREC's form: the same for the same normalised query in every export; 16 hexadecimal digits."""
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def write_qrels(pairs: Iterable[RatedPair], highest: int, file: IO[bytes], queries: IO[bytes]) -> None:
    """TREC qrels: ``query-id 0 docid grade``, a whole grade, halves up. The form has no way to write a space.

    Args:
        pairs: Ordered by query; product ids without white space.
        highest: The best grade.
        file: Gets the qrels.
        queries: Gets ``query-id<TAB>query``; a normalised query holds neither tab nor line end.
    """
    for query, judged in groupby(pairs, attrgetter("query")):
        name = query_id(query)
        queries.write(f"{name}\t{query}\n".encode())
        file.writelines(f"{name} 0 {pair.product_id} {_whole(pair.worth * highest)}\n".encode() for pair in judged)


def write_quepid(pairs: Iterable[RatedPair], highest: int, file: IO[bytes]) -> None:
    """Quepid's CSV: ``query,docid,rating``, a whole rating, halves up."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(("query", "docid", "rating"))
    writer.writerows((pair.query, pair.product_id, _whole(pair.worth * highest)) for pair in pairs)
    text.detach()


def write_workbench(pairs: Iterable[RatedPair], highest: int, file: IO[bytes]) -> None:
    """The body of ``PUT _plugins/_search_relevance/judgments``; a rating is text, with up to four decimals."""
    head = {"name": "labelstream", "description": "Labels of a lake", "type": "IMPORT_JUDGMENT"}
    file.write((json.dumps(head)[:-1] + ', "judgmentRatings": [').encode())
    for number, (query, judged) in enumerate(groupby(pairs, attrgetter("query"))):
        ratings = [{"docId": pair.product_id, "rating": _decimal(pair.worth * highest)} for pair in judged]
        entry = json.dumps({"query": query, "ratings": ratings}, ensure_ascii=False)
        file.write((",\n" if number else "\n").encode() + entry.encode())
    file.write(b"\n]}\n")


def _whole(rating: float) -> int:
    return int(rating + 0.5)


def _decimal(rating: float) -> str:
    return f"{round(rating, _DECIMALS):g}"


def _is_one_word(product_id: str) -> bool:
    return product_id.split() == [product_id]


def _is_anything(_: str) -> bool:
    return True


_WRITABLE: dict[Form, Callable[[str], bool]] = {
    Form.QRELS: _is_one_word,
    Form.QUEPID: _is_anything,
    Form.WORKBENCH: _is_anything,
}
_WRITERS = {Form.QUEPID: write_quepid, Form.WORKBENCH: write_workbench}


def _count(lake: Lake, scale: LabelScale, snapshot: int) -> tuple[int, int]:
    """Pairs whose newest label is of the scale, and all others."""
    statement = f"""
        SELECT count(*) FILTER (scale_version = ?), count(*) FILTER (scale_version <> ?)
        FROM labels_latest AT (VERSION => {snapshot})"""
    try:
        ours, others = lake.query(statement, [scale.version, scale.version])[0]
    except SettingsError as error:
        if "does not exist at version" not in str(error):
            raise
        return 0, 0  # a snapshot from before the lake had tables
    return ours, others


def _rated_pairs(lake: Lake, scale: LabelScale, score: Score, snapshot: int) -> Iterator[RatedPair]:
    worth = {
        Score.LEVEL: f"(list_position(?, level) - 1) / {len(scale.levels) - 1}",
        Score.EXPECTED: "expected_score",
        Score.POLARIZED: "polarized_score",
    }[score]
    statement = f"""
        SELECT query, product_id, greatest(0.0, least(1.0, {worth}))::DOUBLE AS worth
        FROM labels_latest AT (VERSION => {snapshot}) WHERE scale_version = ? ORDER BY query, product_id"""
    parameters = [scale.version] if score is not Score.LEVEL else [list(scale.levels), scale.version]
    for batch in lake.arrow_batches(statement, parameters):
        yield from map(RatedPair, *(batch.column(name).to_pylist() for name in RatedPair._fields))
