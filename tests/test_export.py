from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import MOMENT, a_commit, lake_settings
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.tables import LABELS
from labelstream.streaming.commit import rows
from labelstream.streaming.lake import Lake
from labelstream.training.exports import (
    Form,
    RatedPair,
    Score,
    export_labels,
    query_id,
    write_qrels,
    write_quepid,
    write_workbench,
)
from labelstream.training.judgment_layouts import load_workbench
from labelstream.training.judgments import load_judged_pairs

SCALE = LabelScale()
LEVELS = {("red sofa", "a"): 2, ("red sofa", "b"): 1, ("red sofa", "c"): 0, ('lamp 12" "x", ½', "a"): 2}


def label(query: str, product_id: str, level: int, key: int, **changes: Any) -> dict[str, Any]:
    row = {
        "label_key": f"{key:032x}", "query": query, "product_id": product_id, "product_hash": "h",
        "probabilities": [0.25, 0.25, 0.5], "level": SCALE.levels[level], "expected_score": 0.3 + level / 10,
        "polarized_score": level / 3, "temperature": 1.0, "shortened": False, "model_version": "m",
        "prompt_version": "p", "scale_version": SCALE.version, "judged_at": MOMENT,
    }  # fmt: skip
    return row | {field.name: None for field in LABELS.schema if field.name not in row} | changes


def write(lake: Lake, labels: Sequence[dict[str, Any]], first: int = 0) -> None:
    table = rows(LABELS, labels)
    lake.commit(a_commit(first, len(labels), tables={LABELS.name: table}))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Four pairs, one of them judged twice, one with a product id of two words, one of another scale."""
    with Lake(lake_settings(tmp_path_factory.mktemp("lake"))) as lake:
        labels = [label(*pair, level, key) for key, (pair, level) in enumerate(LEVELS.items())]
        older = label("red sofa", "a", 0, 50, judged_at=MOMENT.replace(year=2025))
        write(lake, [*labels, older, label("red sofa", "two words", 2, 51),
                     label("red sofa", "other", 2, 52, scale_version="other")])  # fmt: skip
        yield lake


def products() -> list[Product]:
    return [Product(product_id=name, title=name) for name in ("a", "b", "c", "two words")]


def test_qrels_are_read_by_ir_measures_and_name_their_queries(lake: Lake, tmp_path: Path):
    done = export_labels(lake, SCALE, tmp_path / "labels.qrels", Form.QRELS)
    assert (done.pairs, done.queries, done.other_scale, done.unwritable, done.example) == (4, 2, 1, 1, "two words")
    found = list(ir_measures.read_trec_qrels(str(tmp_path / "labels.qrels")))
    assert done.side_file is not None
    lines = done.side_file.read_text(encoding="utf-8").splitlines()
    queries = dict(line.split("\t") for line in lines)
    assert {(queries[one.query_id], one.doc_id): one.relevance for one in found} == LEVELS
    run = [ir_measures.ScoredDoc(one.query_id, one.doc_id, float(one.relevance)) for one in found]
    assert ir_measures.calc_aggregate([ir_measures.nDCG @ 10], found, run) == {ir_measures.nDCG @ 10: 1.0}


def test_quepid_is_read_by_its_layout_with_the_levels_of_the_lake(lake: Lake, tmp_path: Path):
    done = export_labels(lake, SCALE, tmp_path / "labels.csv", Form.QUEPID)
    assert (done.pairs, done.unwritable, done.side_file) == (5, 0, None)
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        read = {(row["query"], row["docid"]): int(row["rating"]) for row in csv.DictReader(file)}
    assert read == {pair: (0, 2, 3)[level] for pair, level in LEVELS.items()} | {("red sofa", "two words"): 3}
    judged, report = load_judged_pairs(tmp_path / "labels.csv", products(), SCALE)
    assert dict(zip(zip(judged.queries, judged.product_ids, strict=True), judged.levels.tolist(), strict=True)) == (
        LEVELS | {("red sofa", "two words"): 2}
    )
    assert not report.malformed_rows.count


def test_the_workbench_gets_ratings_as_text(lake: Lake, tmp_path: Path):
    export_labels(lake, SCALE, tmp_path / "labels.json", Form.WORKBENCH)
    document = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    assert document["type"] == "IMPORT_JUDGMENT"
    assert all(isinstance(one["rating"], str) for each in document["judgmentRatings"] for one in each["ratings"])
    judged, _ = load_workbench(tmp_path / "labels.json", products(), SCALE)
    assert dict(zip(zip(judged.queries, judged.product_ids, strict=True), judged.levels.tolist(), strict=True)) == (
        LEVELS | {("red sofa", "two words"): 2}
    )


def ratings_of(lake: Lake, folder: Path, **options: Any) -> dict[tuple[str, str], float]:
    export_labels(lake, SCALE, folder / "labels.json", Form.WORKBENCH, **options)
    found = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["judgmentRatings"]
    return {(each["query"], one["docId"]): float(one["rating"]) for each in found for one in each["ratings"]}


def test_a_score_may_be_the_rating(lake: Lake, tmp_path: Path):
    expected = ratings_of(lake, tmp_path, score=Score.EXPECTED, highest=1)
    assert expected["red sofa", "a"] == 0.5
    polarized = ratings_of(lake, tmp_path, score=Score.POLARIZED, highest=100)
    assert polarized["red sofa", "b"] == 33.3333
    export_labels(lake, SCALE, tmp_path / "labels.qrels", Form.QRELS, score=Score.EXPECTED, highest=10)
    grades = {one.relevance for one in ir_measures.read_trec_qrels(str(tmp_path / "labels.qrels"))}
    assert grades == {3, 4, 5}


def test_an_old_snapshot_is_exported_as_it_was(tmp_path: Path):
    with Lake(lake_settings(tmp_path)) as lake:
        write(lake, [label("red sofa", "a", 0, 0)])
        before = lake.snapshot
        write(lake, [label("red sofa", "a", 2, 1, judged_at=MOMENT.replace(year=2027))], first=1)
        assert ratings_of(lake, tmp_path) == {("red sofa", "a"): 2}
        assert ratings_of(lake, tmp_path, snapshot=before) == {("red sofa", "a"): 0}
        with pytest.raises(SettingsError, match="snapshot 999: the lake has"):
            ratings_of(lake, tmp_path, snapshot=999)
        with pytest.raises(SettingsError, match="snapshot 0 holds no label"):
            ratings_of(lake, tmp_path, snapshot=0)
        with pytest.raises(SettingsError, match="no label of the scale"):
            export_labels(lake, LabelScale(levels=("bad", "good")), tmp_path / "none", Form.QUEPID)
    assert not (tmp_path / "none").exists()


def test_a_file_appears_whole_or_not_at_all(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "labels.qrels"
    path.write_text("before")

    def breaks_off(*_: Any) -> Iterator[Any]:
        batch = next(
            iter(lake.execute("SELECT 'q' AS query, 'p' AS product_id, 1.0::DOUBLE AS worth").to_arrow_reader())
        )
        yield batch
        raise SettingsError("the lake cannot be used")

    monkeypatch.setattr(lake, "arrow_batches", breaks_off)
    with pytest.raises(SettingsError, match="cannot be used"):
        export_labels(lake, SCALE, path, Form.QRELS)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_may_not_be_written_is_named(lake: Lake, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="may be written"):
        export_labels(lake, SCALE, tmp_path / "file" / "labels.csv", Form.QUEPID)


def test_by_command(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    done = CliRunner().invoke(app, ["export", "qrels", "--out", str(tmp_path / "new" / "labels.qrels")])
    assert done.exit_code == 0, done.output
    assert "4 pairs of 2 queries" in done.output
    assert "two words" in done.output
    assert "1 pairs with a label of another scale" in done.output
    assert (tmp_path / "new" / "labels.qrels.queries.tsv").exists()


# What a lake can hold: no lone surrogates, queries normalised, product ids of at least one character.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PAIRS = st.dictionaries(
    st.tuples(
        (TEXT | st.sampled_from(['a\tb"c', "x\r\ny", ",;'\"", "=1+1", "\x85\u2028z"])).map(normalise_query), TEXT
    ),
    st.floats(0, 1),
    max_size=12,
)


def rated(pairs: dict[tuple[str, str], float]) -> list[RatedPair]:
    return [RatedPair(query, product_id, worth) for (query, product_id), worth in sorted(pairs.items())]


@given(PAIRS)
def test_any_query_survives_quepid(pairs: dict[tuple[str, str], float]):
    file = io.BytesIO()
    write_quepid(rated(pairs), 3, file)
    read = list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline=""), strict=True))
    assert {(row["query"], row["docid"]) for row in read} == set(pairs)
    assert all(abs(int(row["rating"]) - 3 * pairs[row["query"], row["docid"]]) <= 0.5 for row in read)


@given(PAIRS)
def test_any_query_survives_the_workbench(pairs: dict[tuple[str, str], float]):
    file = io.BytesIO()
    write_workbench(rated(pairs), 1, file)
    found = json.loads(file.getvalue())["judgmentRatings"]
    read = {(each["query"], one["docId"]): float(one["rating"]) for each in found for one in each["ratings"]}
    assert read == pytest.approx(pairs, abs=1e-4)


@given(PAIRS)
def test_any_query_survives_qrels(pairs: dict[tuple[str, str], float]):
    words = {pair: worth for pair, worth in pairs.items() if pair[1].split() == [pair[1]]}
    file, names = io.BytesIO(), io.BytesIO()
    write_qrels(rated(words), 2, file, names)
    queries = dict(line.split("\t") for line in names.getvalue().decode().split("\n") if line)
    assert queries == {query_id(query): query for query, _ in words}
    read = {
        (queries[one.query_id], one.doc_id)
        for one in ir_measures.read_trec_qrels(io.StringIO(file.getvalue().decode()))
    }
    assert read == set(words)
