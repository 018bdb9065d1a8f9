from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.importers import read_chorus_products
from labelstream.training.judgments import (
    JudgedPairs,
    load_judged_pairs,
    number_queries,
    ratings_to_levels,
)
from labelstream.training.load_report import LoadReport

SCALES = {levels: LabelScale(levels=("bad", "good", "better", "best", "perfect")[:levels]) for levels in (2, 3, 4, 5)}
THREE = LabelScale()
HEADER = "query,docid,rating"
CATALOGUE = [Product(product_id=name, title=f"Product {name}") for name in "abcdef"]


def load(
    folder: Path, rows: Sequence[str], *, raters: Sequence[str] | None = None, **options: object
) -> tuple[JudgedPairs, LoadReport]:
    """Read files with these lines."""
    judgments = folder / "judgments.csv"
    judgments.write_text("\n".join(rows) + "\n", encoding="utf-8")
    if raters is not None:
        (folder / "raters.csv").write_text("\n".join(raters) + "\n", encoding="utf-8")
        options["raters"] = folder / "raters.csv"
    return load_judged_pairs(judgments, CATALOGUE, THREE, **options)


@pytest.mark.parametrize(
    ("levels", "highest", "expected"),
    [
        (2, 1, [0, 1]),
        (2, 2, [0, 0, 1]),
        (2, 3, [0, 0, 1, 1]),
        (3, 1, [0, 2]),
        (3, 2, [0, 1, 2]),
        (3, 3, [0, 1, 1, 2]),
        (3, 4, [0, 1, 1, 1, 2]),
        (4, 2, [0, 1, 3]),
        (4, 3, [0, 1, 2, 3]),
        (4, 4, [0, 1, 1, 2, 3]),
        (5, 3, [0, 1, 3, 4]),
        (5, 4, [0, 1, 2, 3, 4]),
        (5, 6, [0, 1, 1, 2, 3, 3, 4]),
    ],
)
def test_ratings_share_the_levels_between_evenly(levels: int, highest: int, expected: list[int]):
    assert ratings_to_levels(np.arange(highest + 1.0), SCALES[levels], highest).tolist() == expected


@given(st.sampled_from([2, 3, 4, 5]), st.integers(1, 12), st.lists(st.floats(0, 1), max_size=20))
def test_a_better_rating_is_never_a_worse_level(levels: int, highest: int, shares: list[float]):
    ratings = np.array(sorted([0.0, *shares, 1.0])) * highest
    found = ratings_to_levels(ratings, SCALES[levels], highest)
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, levels - 1)


@given(st.sampled_from([2, 3, 4, 5]), st.integers(1, 12))
def test_no_level_between_has_two_grades_more_than_another(levels: int, highest: int):
    between = ratings_to_levels(np.arange(1.0, highest), SCALES[levels], highest)
    counts = np.bincount(between, minlength=levels)[1 : levels - 1]
    assert levels == 2 or highest == 1 or counts.max() - counts.min() <= 1


def test_pairs_come_in_file_order(tmp_path: Path):
    pairs, report = load(tmp_path, [HEADER, "red shoe,b,3", "red shoe,a,0", "tv,c,1", "tv,d,2.5"])
    assert pairs.queries == ("red shoe", "red shoe", "tv", "tv")
    assert pairs.product_ids == ("b", "a", "c", "d")
    assert pairs.ratings.tolist() == [3, 0, 1, 2.5]
    assert pairs.levels.tolist() == [2, 0, 1, 1]
    assert pairs.rater_levels is None
    assert pairs.texts == (list(pairs.queries), [product_text(product) for product in pairs.products])
    assert (report.rows, report.pairs, report.queries, report.warnings) == (4, 4, 2, [])
    assert report.lines() == [f"{tmp_path / 'judgments.csv'}: 4 pairs of 2 queries, from 4 rows"]


def test_a_byte_order_mark_gzip_and_other_columns_do_no_harm(tmp_path: Path):
    path = tmp_path / "judgments"
    path.write_bytes(gzip.compress('\ufeffnote, docid ,rating,query\n,a,3,"a, ""b"""\n\n,b,0,x\n'.encode()))
    pairs, _ = load_judged_pairs(path, CATALOGUE, THREE)
    assert pairs.queries == ('a, "b"', "x")
    assert pairs.product_ids == ("a", "b")


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path):
    rows = [
        "tv,a,3",
        "tv,b,0",
        "tv,nowhere,3",
        "sofa,elsewhere,1",
        "sofa,nowhere,1",
        "tv,c,4",
        "tv,c,-1",
        "tv,c,good",
        "tv,c,",
        "tv,c,nan",
        "tv,c,inf",
        "tv,d",
        "tv, wall mounted,d,3",
        ",d,3",
        "tv,,3",
        "sofa,c,2",
    ]
    pairs, report = load(tmp_path, [HEADER, *rows])
    assert pairs.product_ids == ("a", "b", "c")
    assert report.rows == 16
    assert (report.unknown_products.count, report.unknown_products.examples) == (3, ["nowhere", "elsewhere"])
    assert report.bad_ratings.count == 6
    assert report.bad_ratings.examples[:3] == ["line 7: '4'", "line 8: '-1'", "line 9: 'good'"]
    assert (report.malformed_rows.count, report.malformed_rows.examples[0]) == (4, "line 13")
    told = "\n".join(report.lines())
    assert "6 (line 7: '4'" in told
    assert "3 (nowhere, elsewhere, …)" in told
    assert report.as_dict()["unknown_products"] == {"count": 3, "examples": ["nowhere", "elsewhere"]}


def test_the_same_again_counts_once_and_contradictions_become_their_median(tmp_path: Path):
    rows = ["TV,a,3", " tv ,a,3", "Ｔｖ,a,3", "tv,b,0", "tv,b,3", "tv,c,3", "tv,c,2", "tv,c,0", "tv,c,2", "tv,A,3"]
    pairs, report = load(tmp_path, [HEADER, *rows])
    assert pairs.queries == ("TV", "tv", "tv")
    assert pairs.ratings.tolist() == [3, 1, 2]
    assert report.duplicates == 3
    assert report.contradictions.examples == ["'tv', b: 0, 3", "'tv', c: 3, 2, 0"]
    assert (report.contradictions.count, report.contradicting_rows) == (2, 3)
    assert report.unknown_products.examples == ["A"]


CELLS = st.tuples(
    st.sampled_from(["tv", "TV ", "sofa", "", "red  shoe", "red shoe", "é"]),
    st.sampled_from(["a", "b", "c", "nowhere", ""]),
    st.sampled_from(["0", "1", "2", "3", "3.0", "1.5", "7", "x", ""]),
    st.sampled_from(["", "", "", ",more"]),
)


@given(st.lists(CELLS, min_size=1, max_size=30))
def test_every_row_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str, str, str]]):
    rows = [HEADER, *(f"{query},{product},{rating}{more}" for query, product, rating, more in cells), "last,f,3"]
    pairs, report = load(tmp_path_factory.getbasetemp(), rows)
    left_out = (report.malformed_rows, report.bad_ratings, report.unknown_products)
    counted = report.duplicates + report.contradicting_rows + sum(tally.count for tally in left_out)
    assert report.rows == len(cells) + 1 == len(pairs) + counted
    keys = set(zip(number_queries(pairs.queries).tolist(), pairs.product_ids, strict=True))
    assert len(keys) == len(pairs) == report.pairs


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("query;docid;rating\ntv;a;3\n", "separate the fields by commas, not by semicolons"),
        ("query,docid\ntv,a\n", "no column rating; its header says query, docid"),
        (f"{HEADER}\n", "no rows"),
        (
            f"{HEADER}\ntv,nowhere,3\n",
            "not in the catalogue: 1 .nowhere..; give .* the form that --layout",
        ),
        (f"{HEADER}\ntv,a,9\n", "off the scale or not a number: 1 .line 2: '9'.*; give a file .* ratings on its scale"),
        (f'{HEADER}\n"tv,a,3\n', "line 2: unexpected end of data; double the quotes"),
        (f'{HEADER}\n"tv" big,a,3\n', "line 2: .* double the quotes"),
    ],
)
def test_a_file_of_no_use_is_refused_by_name(tmp_path: Path, content: str, says: str):
    path = tmp_path / "judgments.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=f"judgments.csv: .*{says}"):
        load_judged_pairs(path, CATALOGUE, THREE)


def test_a_file_that_is_not_there_or_no_text_is_refused_by_name(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.csv: No such file"):
        load_judged_pairs(tmp_path / "nowhere.csv", CATALOGUE, THREE)
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\ncafé,a,3\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin\.csv: line 2 is not UTF-8"):
        load_judged_pairs(tmp_path / "latin.csv", CATALOGUE, THREE)


def test_a_data_set_that_says_little_is_warned_of(tmp_path: Path):
    _, report = load(tmp_path, [HEADER, "tv,a,3", "TV,b,0"])
    assert [warning.partition(":")[0] for warning in report.warnings] == ["one query only", "no pair is moderate"]
    assert report.lines()[-1].startswith("warning: no pair is moderate")


def test_of_two_products_with_one_id_the_later_counts(tmp_path: Path):
    (tmp_path / "judgments.csv").write_text(f"{HEADER}\ntv,a,3\n", encoding="utf-8")
    catalogue = iter([*CATALOGUE, Product(product_id="a", title="Newer")])
    pairs, _ = load_judged_pairs(tmp_path / "judgments.csv", catalogue, THREE)
    assert [product.title for product in pairs.products] == ["Newer"]


def test_single_raters_are_aligned_to_the_pairs(tmp_path: Path):
    raters = [
        "agent_2_rating,query,docid,agent_1_rating,agent_11_rating,agent_rating",
        "1,TV,b,3,0,x",
        "2,tv,a,,3,x",
        "9,sofa,c,0,bad,x",
        "0,sofa,c,0,0,x",
        "0,sofa,nowhere,0,0,x",
        "0,sofa,f",
    ]
    pairs, report = load(tmp_path, [HEADER, "tv,a,3", "tv,b,1", "sofa,c,0", "sofa,d,0"], raters=raters)
    assert pairs.rater_levels is not None
    assert pairs.rater_levels.tolist() == [[1, -1, 2], [1, 2, 0], [-1, 0, -1], [-1, -1, -1]]
    assert report.raters_bad_ratings.examples == ["line 4, agent_2_rating: '9'", "line 4, agent_11_rating: 'bad'"]
    assert (report.raters_repeated.examples, report.raters_unmatched.examples) == (["line 5"], ["line 6"])
    assert report.raters_malformed_rows.examples == ["line 7"]
    assert report.malformed_rows.count == 0


def test_a_final_rating_that_is_not_the_judged_one_is_told(tmp_path: Path):
    raters = ["query,docid,agent_1_rating,final_rating", "tv,a,3,2", "tv,b,0,0", "sofa,c,0,"]
    pairs, report = load(tmp_path, [HEADER, "tv,a,3", "tv,b,0", "sofa,c,2"], raters=raters)
    assert pairs.ratings.tolist() == [3, 0, 2]
    assert report.raters_adjudicated_differently.examples == ["line 2: 2, judged 3"]


def test_raters_without_a_rater_are_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"raters\.csv: no column agent_1_rating"):
        load(tmp_path, [HEADER, "tv,a,3"], raters=["query,docid,rater", "tv,a,3"])


def test_other_scales_of_ratings(tmp_path: Path):
    pairs, _ = load(tmp_path, [HEADER, "tv,a,4", "tv,b,0", "tv,c,3"], highest_rating=4)
    assert pairs.levels.tolist() == [2, 0, 1]
    with pytest.raises(SettingsError, match="highest_rating: 0 must be above 0"):
        load(tmp_path, [HEADER, "tv,a,0"], highest_rating=0)


def test_pairs_can_be_selected(tmp_path: Path):
    raters = ["query,docid,agent_1_rating", "tv,a,3", "tv,b,1"]
    pairs, _ = load(tmp_path, [HEADER, "tv,a,3", "tv,b,1", "sofa,c,0"], raters=raters)
    some = pairs.select(np.array([2, 0]))
    assert (some.queries, some.product_ids) == (("sofa", "tv"), ("c", "a"))
    assert (some.ratings.tolist(), some.levels.tolist()) == ([0, 3], [0, 2])
    assert some.rater_levels is not None
    assert some.rater_levels.tolist() == [[-1], [2]]
    assert len(pairs.select(np.array([], np.int64))) == 0


def test_parts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="each of the 1 pairs"):
        JudgedPairs(("tv",), tuple(CATALOGUE[:2]), np.zeros(1), np.zeros(1, np.int64))


def test_queries_are_numbered_as_they_appear():
    assert number_queries(["b", "a", " B ", "a", "ﬁn", "fin"]).tolist() == [0, 1, 0, 1, 2, 2]
    assert number_queries([]).tolist() == []


def test_the_real_judgements(data_dir: Path):
    folder = data_dir / "chorus"
    products = list(read_chorus_products(folder / "products.jsonl.gz"))
    pairs, report = load_judged_pairs(folder / "judgments.csv", products, THREE, raters=folder / "raters.csv")
    assert (len(pairs), report.queries, report.rows) == (2773, 102, 2773)
    assert np.bincount(pairs.levels).tolist() == [1355, 238, 1180]
    assert pairs.rater_levels is not None
    assert (pairs.rater_levels >= 0).all(axis=1).sum() == 2440
    assert report.raters_adjudicated_differently.count == 12
    assert report.warnings == []
    names = [product.product_id for product, _ in itertools.groupby(pairs.products)]
    assert set(names) <= {product.product_id for product in products}
