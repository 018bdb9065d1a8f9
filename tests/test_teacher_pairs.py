"""A teacher's work is kept, and used again only for the same pupils."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged import demo_judged, with_raters

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.scale import LabelScale
from labelstream.training.judgments import JudgedPairs
from labelstream.training.teacher_pairs import kept_pairs, origin_of
from labelstream.training.weak_pairs import WeakPairs

SCALE = LabelScale()
JUDGED = demo_judged(queries=6, per_query=6)
PAIRS = WeakPairs(
    ("a lamp", "a\n sofa", "ﬁne \u2028"), JUDGED.products[:3], np.random.default_rng(1).dirichlet(np.ones(3), size=3)
)
HOW: dict[str, Any] = {
    "taught": JUDGED, "rater_share": 0.5, "catalogue": "c", "queries": ["a", "b"], "scale": SCALE, "count": 60,
    "seed": 1,
}  # fmt: skip
LEVELS = JudgedPairs(JUDGED.queries, JUDGED.products, JUDGED.ratings, JUDGED.levels[::-1].copy())
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("judgements", {"taught": JUDGED.select(np.arange(len(JUDGED) - 1))}),
    ("judgements", {"taught": LEVELS}),
    ("judgements", {"taught": with_raters(JUDGED)}),
    ("catalogue", {"catalogue": "d"}),
    ("queries", {"queries": ["a"]}),
    ("scale", {"scale": LabelScale(levels=("bad", "fair", "good"))}),
    ("pairs", {"count": 61}),
    ("seed", {"seed": 2}),
]


def origin(**changes: Any) -> Any:
    how = HOW | changes
    return origin_of(how.pop("taught"), **how)


def never() -> WeakPairs:
    raise AssertionError("made again")


def test_they_are_made_once_and_read_back_as_they_were(tmp_path: Path):
    path = tmp_path / "new" / "pairs.parquet"
    assert kept_pairs(path, SCALE, origin(), lambda: PAIRS) is PAIRS
    assert [each.name for each in path.parent.iterdir()] == ["pairs.parquet"]
    again = kept_pairs(path, SCALE, origin(), never)
    assert (again.queries, again.products) == (PAIRS.queries, PAIRS.products)
    np.testing.assert_array_equal(again.distributions, PAIRS.distributions)
    columns = ["query", "product_id", "product", *(f"probability_{name}" for name in SCALE.levels)]
    assert pq.read_table(path).column_names == columns


@pytest.mark.parametrize(("name", "changes"), OTHERS)
def test_another_origin_is_refused_by_name_and_the_file_stays(name: str, changes: dict[str, Any], tmp_path: Path):
    path = tmp_path / "pairs.parquet"
    kept_pairs(path, SCALE, origin(), lambda: PAIRS)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=rf"pairs\.parquet: .* other {name} than"):
        kept_pairs(path, changes.get("scale", SCALE), origin(**changes), never)
    assert path.read_bytes() == before


def test_what_is_no_such_file_is_refused(tmp_path: Path):
    text, table = tmp_path / "text", tmp_path / "table.parquet"
    text.write_text("query,product\n")
    pq.write_table(pa.table({"query": ["a"]}), table)
    for path in (text, table):
        with pytest.raises(SettingsError, match="no file of a teacher's pairs"):
            kept_pairs(path, SCALE, origin(), never)


def test_a_teacher_that_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(AssertionError, match="made again"):
        kept_pairs(tmp_path / "pairs.parquet", SCALE, origin(), never)
    assert list(tmp_path.iterdir()) == []
