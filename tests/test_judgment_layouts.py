from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.commands.judgements import Layout, read_judgements
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale
from labelstream.training.judgment_layouts import load_esci, load_wands, load_workbench

SCALES = {levels: LabelScale(levels=("bad", "good", "better", "best", "perfect")[:levels]) for levels in (2, 3, 4, 5)}
THREE = LabelScale()

WANDS = {
    "query.csv": [
        "query_id\tquery\tquery_class",
        "0\tsalon chair\tMassage Chairs",
        '208\t"fawkes 36"" blue vanity"\tVanities',
        "207\tdull bed with shirt head board\t",
    ],
    "product.csv": [
        "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features"
        "\trating_count\taverage_rating\treview_count",
        "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom Furniture / Beds & Headboards"
        "\tgood , deep sleep\toverallwidth-sidetoside:64.7|color : oak| : gray wood|color : ash|color : oak|finish"
        "\t15.0\t4.5\t15.0",
        '1\t"fawkes 36"" vanity"\tTeen Furniture|Vanities\t\t\t\t\t\t',
        "2\t\tBeds\t\t\t\t\t\t",
        "3\ttoo few fields",
    ],
    "label.csv": [
        "id\tquery_id\tproduct_id\tlabel",
        "0\t0\t0\tExact",
        "1\t0\t1\tIrrelevant",
        "2\t208\t1\tPartial",
        "3\t208\t2\tExact",
        "4\t9\t1\tExact",
        "5\t207\t0\tPerhaps",
        "6\t207\t0",
    ],
}


def wands(folder: Path, **files: list[str]) -> Path:
    """WANDS' three files, some with other lines."""
    for name, lines in (WANDS | {f"{stem}.csv": lines for stem, lines in files.items()}).items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_wands(tmp_path: Path):
    pairs, report = load_wands(wands(tmp_path), THREE)
    assert pairs.queries == ("salon chair", "salon chair", 'fawkes 36" blue vanity')
    assert pairs.product_ids == ("0", "1", "1")
    assert pairs.ratings.tolist() == [2, 0, 1]
    assert pairs.levels.tolist() == [2, 0, 1]
    bed, vanity, _ = pairs.products
    assert (bed.title, bed.category) == (
        "solid wood platform bed",
        "Furniture / Bedroom Furniture / Beds & Headboards",
    )
    assert bed.attributes == {"overallwidth-sidetoside": "64.7", "color": "oak, ash"}
    assert bed.description == "good , deep sleep"
    assert (vanity.title, vanity.category) == ('fawkes 36" vanity', "Teen Furniture|Vanities")
    assert (report.rows, report.pairs, report.unknown_products.examples) == (7, 3, ["2"])
    assert report.unknown_queries.examples == ["9"]
    assert report.bad_ratings.examples == ["line 7: 'Perhaps'"]
    assert report.malformed_rows.examples == ["label.csv, line 8"]
    assert report.bad_products.examples == [
        "2: title: String should have at least 1 character",
        "product.csv, line 5",
    ]


@pytest.mark.parametrize(("levels", "expected"), [(2, [1, 0, 0]), (3, [2, 0, 1]), (4, [3, 0, 1]), (5, [4, 0, 2])])
def test_wands_grades_on_every_scale(tmp_path: Path, levels: int, expected: list[int]):
    pairs, _ = load_wands(wands(tmp_path), SCALES[levels])
    assert pairs.levels.tolist() == expected


def test_wands_without_a_column_is_refused_by_name(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"product\.csv: no column category hierarchy"):
        load_wands(wands(tmp_path, product=["product_id\tproduct_name\tproduct_class"]), THREE)
    with pytest.raises(SettingsError, match=r"label\.csv: no column label"):
        load_wands(wands(tmp_path, label=["id\tquery_id\tproduct_id"]), THREE)


EXAMPLES = [
    ("tv wall mount", "B1", "us", "E", 1, "train"),
    ("tv wall mount", "B2", "us", "S", 1, "train"),
    ("tv wall mount", "B3", "us", "C", 0, "train"),
    ("revent 80 cfm", "B1", "us", "I", 1, "test"),
    ("revent 80 cfm", "B9", "us", "I", 0, "test"),
    ("revent 80 cfm", "B4", "us", "E", 0, "test"),
    ("soporte", "B1", "es", "E", 1, "train"),
]
PRODUCTS: list[dict[str, Any]] = [
    {
        "product_id": "B1",
        "product_title": "Mount &amp; Go",
        "product_description": "<p>Holds <b>any</b> TV.</p>",
        "product_bullet_point": "Strong\nFlat",
        "product_brand": "Acme",
        "product_color": "Black",
        "product_locale": "us",
    },
    *({"product_id": name, "product_title": f"Product {name}", "product_locale": "us"} for name in ("B2", "B3")),
    {"product_id": "B4", "product_title": None, "product_locale": "us"},
    {"product_id": "B1", "product_title": "Soporte", "product_locale": "es"},
]
PRODUCT_COLUMNS = ["title", "description", "bullet_point", "brand", "color", "locale"]


@pytest.fixture
def esci(tmp_path: Path) -> Path:
    """The two files of the Shopping Queries data."""
    names = ("query", "product_id", "product_locale", "esci_label", "small_version", "split")
    examples = [dict(zip(names, row, strict=True)) for row in EXAMPLES]
    for number, row in enumerate(examples):
        row |= {"example_id": number, "query_id": number // 3, "large_version": 1}
    pq.write_table(pa.Table.from_pylist(examples), tmp_path / "shopping_queries_dataset_examples.parquet")
    columns = ["product_id", *(f"product_{name}" for name in PRODUCT_COLUMNS)]
    schema = pa.schema([(name, pa.string()) for name in columns])
    table = pa.Table.from_pylist(PRODUCTS, schema=schema)
    pq.write_table(table, tmp_path / "shopping_queries_dataset_products.parquet")
    return tmp_path


def test_esci(esci: Path):
    pairs, report = load_esci(esci, THREE)
    assert list(zip(pairs.queries, pairs.product_ids, strict=True)) == [
        ("tv wall mount", "B1"),
        ("tv wall mount", "B2"),
        ("tv wall mount", "B3"),
        ("revent 80 cfm", "B1"),
    ]
    assert pairs.ratings.tolist() == [3, 2, 1, 0]
    assert pairs.levels.tolist() == [2, 1, 1, 0]
    mount = pairs.products[0]
    assert (mount.title, mount.brand, mount.attributes) == ("Mount & Go", "Acme", {"colour": "Black"})
    assert mount.description.split() == ["Strong", "Flat", "Holds", "any", "TV."]
    assert (report.rows, report.unknown_products.examples) == (6, ["B9", "B4"])
    assert report.bad_products.examples == ["B4: title: String should have at least 1 character"]


@pytest.mark.parametrize(
    ("levels", "expected"), [(2, [1, 1, 0, 0]), (3, [2, 1, 1, 0]), (4, [3, 2, 1, 0]), (5, [4, 3, 1, 0])]
)
def test_esci_grades_on_every_scale(esci: Path, levels: int, expected: list[int]):
    pairs, _ = load_esci(esci, SCALES[levels])
    assert pairs.levels.tolist() == expected


def test_a_part_of_esci(esci: Path):
    spanish, _ = load_esci(esci, THREE, locale="es")
    assert [product.title for product in spanish.products] == ["Soporte"]
    train, _ = load_esci(esci, THREE, split="train", small_version=True)
    assert train.product_ids == ("B1", "B2")
    with pytest.raises(SettingsError, match="none that was asked for"):
        load_esci(esci, THREE, locale="jp")


def read(folder: Path, layout: Layout, *, raters: Path | None = None, part: str | None = None) -> Any:
    """As a command reads them."""
    return read_judgements(folder, None, raters, layout, THREE, part)


def test_a_part_of_esci_by_command(esci: Path):
    assert read(esci, Layout.ESCI).product_ids == ("B1", "B2", "B3", "B1")
    assert read(esci, Layout.ESCI, part="es").products[0].title == "Soporte"
    assert read(esci, Layout.ESCI, part="small/us/train").product_ids == ("B1", "B2")
    assert read(esci, Layout.ESCI, part="test").queries == ("revent 80 cfm",)
    for part, match in (("us/dev", "'dev' is none of us, es"), ("us/es", "one shop"), ("us/", "'' is none of")):
        with pytest.raises(SettingsError, match=f"--part {part}: .*{match}"):
            read(esci, Layout.ESCI, part=part)
    with pytest.raises(SettingsError, match="--part: --layout wands has no parts"):
        read(esci, Layout.WANDS, part="us")


@pytest.mark.parametrize("layout", [Layout.WANDS, Layout.ESCI, Layout.WORKBENCH])
def test_raters_are_refused_where_the_layout_has_none(esci: Path, layout: Layout):
    raters = esci / "raters.csv"
    raters.write_text("query,docid,agent_1_rating\n")
    with pytest.raises(SettingsError, match=f"--raters: --layout {layout} has no single raters"):
        read(esci, layout, raters=raters)


def test_every_command_that_reads_judgements_takes_a_part(esci: Path, tmp_path: Path):
    commands = [["train", "labeller"], ["train", "cross-encoder"], ["evaluate", "--cross-encoder", "packaged"]]
    commands += [["experiment", "--predictions", str(esci)], ["simulate"], ["retrain"]]
    for command in commands:
        out = [] if command == ["retrain"] else ["--out", str(tmp_path / "out")]
        options = ["--judgments", str(esci), "--layout", "esci", "--part", "moon", *out]
        refused = CliRunner().invoke(app, [*command, *options])
        assert str(refused.exception).startswith("--part moon: 'moon' is none of"), (command, refused.output)


def test_esci_files_of_no_use_are_refused_by_name(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"examples\.parquet: .*No such file"):
        load_esci(tmp_path, THREE)
    path = tmp_path / "shopping_queries_dataset_examples.parquet"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SettingsError, match=r"examples\.parquet: .*as downloaded"):
        load_esci(tmp_path, THREE)
    pq.write_table(pa.table({"query": ["tv"], "product_id": ["B1"]}), path)
    with pytest.raises(SettingsError, match=r"examples\.parquet: no column product_locale, esci_label"):
        load_esci(tmp_path, THREE)


CATALOGUE = [Product(product_id=name, title=name) for name in ("B1", "B2", "B3", "B4")]


def workbench(folder: Path, ratings: object) -> Path:
    """A file in the import form."""
    path = folder / "judgments.json"
    document = {"name": "Judgments", "type": "IMPORT_JUDGMENT", "judgmentRatings": ratings}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def entry(query: str, **ratings: object) -> dict[str, object]:
    """What is said of the products of one query."""
    return {"query": query, "ratings": [{"docId": name, "rating": rating} for name, rating in ratings.items()]}


def test_workbench(tmp_path: Path):
    path = workbench(
        tmp_path,
        [
            entry("tv", B1="100.000", B2="10.000", B3=1, B4="0.000"),
            entry("sofa", B1="100", B9="0", B2="many"),
            {"query": "no ratings"},
            {"query": "lamp", "ratings": ["B1", {"docId": "B1"}]},
        ],
    )
    pairs, report = load_workbench(path, CATALOGUE, THREE)
    assert pairs.queries == ("tv",) * 4 + ("sofa",)
    assert pairs.ratings.tolist() == [3, 2, 1, 0, 3]
    assert pairs.levels.tolist() == [2, 1, 1, 0, 2]
    assert (report.rows, report.unknown_products.examples) == (10, ["B9"])
    assert report.malformed_rows.examples == ["judgmentRatings[2]", "judgmentRatings[3].ratings[0]"]
    assert report.bad_ratings.examples == [
        "judgmentRatings[1].ratings[2]: 'many'",
        "judgmentRatings[3].ratings[1]: ''",
    ]


def test_workbench_grades_can_be_named(tmp_path: Path):
    path = workbench(tmp_path, [entry("tv", B1="100", B2="10", B3="7")])
    pairs, report = load_workbench(path, CATALOGUE, SCALES[4], grades=[0, 1, 10, 100])
    assert pairs.levels.tolist() == [3, 2]
    assert report.bad_ratings.examples == ["judgmentRatings[0].ratings[2]: '7'"]


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ("all good", "judgmentRatings is no list"),
        ([], "no rows"),
        ([entry("tv", B1="3", B2="3")], "1 different ratings .3. are no grades; set grades"),
        ([entry("tv", **{f"B{i}": str(i / 7) for i in range(30)})], "30 different ratings .* are no grades"),
        ([entry("tv", X1="3", X2="2")], "not in the catalogue: 2 .X1, X2."),
    ],
)
def test_a_workbench_file_of_no_use_is_refused_by_name(tmp_path: Path, ratings: object, says: str):
    with pytest.raises(SettingsError, match=rf"judgments\.json: .*{says}"):
        load_workbench(workbench(tmp_path, ratings), CATALOGUE, THREE)


def test_a_file_that_is_no_workbench_export_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "judgments.json"
    with pytest.raises(SettingsError, match=r"judgments\.json: No such file"):
        load_workbench(path, CATALOGUE, THREE)
    path.write_text("query,docid,rating\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"judgments\.json: no JSON"):
        load_workbench(path, CATALOGUE, THREE)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(SettingsError, match="judgmentRatings is no list"):
        load_workbench(path, CATALOGUE, THREE)


def test_the_real_workbench_judgements(data_dir: Path):
    path = data_dir / "ubi" / "esci_us_judgments.json"
    named = {
        rating["docId"] for entry in json.loads(path.read_bytes())["judgmentRatings"] for rating in entry["ratings"]
    }
    pairs, report = load_workbench(path, [Product(product_id=name, title=name) for name in sorted(named)], THREE)
    assert (len(pairs), report.queries) == (6678, 150)
    by_rating = {0: 1086, 1: 305, 2: 1898, 3: 3389}
    assert {rating: int((pairs.ratings == rating).sum()) for rating in by_rating} == by_rating
