from __future__ import annotations

from collections import Counter
from pathlib import Path

from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.importers import read_products
from labelstream.training.demo_catalogue import demo_catalogue
from labelstream.training.demo_judgments import demo_truth
from labelstream.training.judgments import JudgedPairs, load_judged_pairs


def judged(folder: Path, name: str) -> JudgedPairs:
    pairs, report = load_judged_pairs(folder / name, read_products(folder / "products.jsonl"), LabelScale())
    assert not report.malformed_rows.count
    assert not report.unknown_products.count
    return pairs


def test_a_shop_is_written_that_the_loaders_read(tmp_path: Path):
    command = ["demo-shop", "--out", str(tmp_path / "shop"), "--queries", "40", "--per-query", "12"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "40 queries, 10 of these" in done.output
    assert list(read_products(tmp_path / "shop" / "products.jsonl")) == demo_catalogue(seed=2)
    truth, people = judged(tmp_path / "shop", "truth.csv"), judged(tmp_path / "shop", "judgments.csv")
    rated = dict(zip(zip(truth.queries, truth.product_ids, strict=True), truth.levels.tolist(), strict=True))
    said = dict(zip(zip(people.queries, people.product_ids, strict=True), people.levels.tolist(), strict=True))
    assert said.items() <= rated.items()
    assert len({normalise_query(query) for query in truth.queries}) == 40
    assert set(Counter(truth.queries).values()) == {12}
    assert set(Counter(rated.values())) == {0, 1, 2}
    again = CliRunner().invoke(app, [*command[:2], str(tmp_path / "again"), *command[3:]])
    assert again.exit_code == 0
    for file in (tmp_path / "shop").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_another_seed_asks_for_other_things():
    catalogue = demo_catalogue()
    asked = [{rows[0].query for rows in demo_truth(catalogue, queries=20, per_query=6, seed=seed)} for seed in (1, 2)]
    assert asked[0] != asked[1]
