"""Judgements in the layouts that others publish: WANDS, Amazon ESCI, the OpenSearch Search Relevance Workbench.

Each layout's grades become ratings 0, 1, 2, … in the order of their worth, worst first, and the ratings become our
levels by :func:`labelstream.training.judgments.ratings_to_levels`. On three levels: ESCI's irrelevant is the worst,
complement and substitute are the middle, exact is the best; WANDS' irrelevant, partial and exact are the three.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from html import unescape
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale
from labelstream.training.delimited import Row, Table, read_table
from labelstream.training.judgments import JudgedPairs, RatedRow, collect_pairs
from labelstream.training.load_report import LoadReport
from labelstream.training.raters import as_rating

Loaded = tuple[JudgedPairs, LoadReport]

WANDS_GRADES = {"Irrelevant": 0.0, "Partial": 1.0, "Exact": 2.0}
ESCI_GRADES = {"I": 0.0, "C": 1.0, "S": 2.0, "E": 3.0}
MOST_GRADES = 10

WANDS_FILES = ("label.csv", "product.csv", "query.csv")
ESCI_FILES = ("shopping_queries_dataset_examples.parquet", "shopping_queries_dataset_products.parquet")

_BATCH_ROWS = 65_536
_TAG = re.compile(r"<[^<>]*>")
_EXAMPLES, _PRODUCTS = ESCI_FILES
_EXAMPLE_COLUMNS = ("query", "product_id", "product_locale", "esci_label", "small_version", "split")
_PRODUCT_COLUMNS = (
    "product_id",
    "product_title",
    "product_description",
    "product_bullet_point",
    "product_brand",
    "product_color",
    "product_locale",
)


def load_wands(folder: Path, scale: LabelScale) -> Loaded:
    """Read WANDS (Wayfair, ECIR 2022): ``product.csv``, ``query.csv`` and ``label.csv``, separated by tabs.

    Ratings are 0 (irrelevant), 1 (partial), 2 (exact). The category is the hierarchy where there is one, else the
    class; a feature that is named twice has its values joined.

    Args:
        folder: Holds the three files as they are downloaded.
        scale: Our label scale.

    Raises:
        SettingsError: A file cannot be read or lacks a column, or no pair is left.
    """
    report = LoadReport(str(folder / "label.csv"))

    def open_table(name: str, *columns: str) -> Table:
        def malformed(line: int) -> None:
            tally = report.bad_products if name == "product.csv" else report.malformed_rows
            report.rows += name == "label.csv"
            tally.add(f"{name}, line {line}")

        return read_table(folder / name, columns, on_malformed=malformed, delimiter="\t")

    queries = {row.values["query_id"]: row.values["query"] for row in open_table("query.csv", "query_id", "query").rows}
    labels = open_table("label.csv", "query_id", "product_id", "label")
    columns = ("product_name", "product_class", "category hierarchy", "product_description", "product_features")
    products = open_table("product.csv", "product_id", *columns)

    def find(wanted: Set[str]) -> Iterator[Product]:
        rows = (row for row in products.rows if row.values["product_id"] in wanted)
        yield from _valid_products((_wands_product(row) for row in rows), report)

    rows = _wands_rows(labels, queries, report)
    return collect_pairs(rows, find, scale, highest_rating=max(WANDS_GRADES.values()), report=report), report


def _wands_rows(labels: Table, queries: dict[str, str], report: LoadReport) -> Iterator[RatedRow]:
    for line, values in labels.rows:
        query = queries.get(values["query_id"])
        if query is None:
            report.rows += 1
            report.unknown_queries.add(values["query_id"])
        else:
            rating = WANDS_GRADES.get(values["label"], math.nan)
            yield RatedRow(f"line {line}", query, values["product_id"], rating, values["label"])


def _wands_product(row: Row) -> dict[str, Any]:
    values = row.values
    features: dict[str, list[str]] = {}
    for feature in values["product_features"].split("|"):
        name, _, value = (part.strip() for part in feature.partition(":"))
        if name and value and value not in features.setdefault(name, []):
            features[name].append(value)
    return {
        "product_id": values["product_id"],
        "title": values["product_name"],
        "category": values["category hierarchy"] or values["product_class"],
        "description": values["product_description"],
        "attributes": {name: ", ".join(found) for name, found in features.items() if found},
    }


def load_esci(
    folder: Path,
    scale: LabelScale,
    *,
    locale: str = "us",
    split: Literal["train", "test"] | None = None,
    small_version: bool = False,
) -> Loaded:
    """Read the Amazon Shopping Queries data (arXiv 2206.06588): the examples and the products, as Parquet.

    Ratings are 0 (irrelevant), 1 (complement), 2 (substitute), 3 (exact). Bullet points come before the description,
    both without their HTML tags.

    Args:
        folder: Holds the two files as they are downloaded.
        scale: Our label scale.
        locale: Which shop: us, es or jp. The same product id is another product in another shop.
        split: Only this part; None for both.
        small_version: Only the reduced set, that of the ranking task.

    Raises:
        SettingsError: A file cannot be read or lacks a column, or no pair is left.
    """
    report = LoadReport(str(folder / _EXAMPLES))
    here: dict[str, Collection[object]] = {"product_locale": [locale]}
    chosen = here | ({"split": [split]} if split else {}) | ({"small_version": [1]} if small_version else {})

    def find(wanted: Set[str]) -> Iterator[Product]:
        rows = _parquet_rows(folder / _PRODUCTS, _PRODUCT_COLUMNS, here | {"product_id": wanted})
        return _valid_products((_esci_product(row) for _, row in rows), report)

    rows = (
        RatedRow(
            f"row {number}",
            row["query"] or "",
            row["product_id"] or "",
            ESCI_GRADES.get(row["esci_label"], math.nan),
            str(row["esci_label"]),
        )
        for number, row in _parquet_rows(folder / _EXAMPLES, _EXAMPLE_COLUMNS, chosen)
    )
    return collect_pairs(rows, find, scale, highest_rating=max(ESCI_GRADES.values()), report=report), report


def _parquet_rows(
    path: Path, columns: tuple[str, ...], chosen: Mapping[str, Collection[object]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows whose columns hold one of the chosen values, each with its number in the file, from 1."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SettingsError(f"{path}: {error}; name the folder with the Parquet files as downloaded") from error
    with file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise SettingsError(f"{path}: no column {', '.join(missing)}; fetch the file of the Shopping Queries data")
        first = 1
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
            numbered = batch.append_column("", pa.array(range(first, first + batch.num_rows)))
            first += batch.num_rows
            for name, values in chosen.items():
                wanted = pa.array(list(values), numbered.schema.field(name).type)
                numbered = numbered.filter(pc.is_in(numbered.column(name), value_set=wanted))
            yield from ((row.pop(""), row) for row in numbered.to_pylist())


def _esci_product(row: dict[str, Any]) -> dict[str, Any]:
    texts = (row["product_bullet_point"], row["product_description"])
    colour = row["product_color"]
    return {
        "product_id": row["product_id"],
        "title": _without_tags(row["product_title"]),
        "brand": row["product_brand"],
        "description": " ".join(_without_tags(text) for text in texts if text),
        "attributes": {"colour": colour} if colour else {},
    }


def _without_tags(text: str | None) -> str:
    return unescape(_TAG.sub(" ", text or "")).strip()


def load_workbench(
    judgments: Path, catalogue_products: Iterable[Product], scale: LabelScale, *, grades: Sequence[float] | None = None
) -> Loaded:
    """Read judgements in the import form of the OpenSearch Search Relevance Workbench, as JSON.

    ``judgmentRatings[].query`` and ``.ratings[].{docId, rating}``, a rating as text or as a number. What a rating is
    worth differs from file to file (ESCI's come as 0, 1, 10 and 100), so its place among the grades is what counts.

    Args:
        judgments: The file.
        catalogue_products: The catalogue that was judged; the form has no product text.
        scale: Our label scale.
        grades: All ratings that can be given, worst first; None for those that the file has, in ascending order.

    Raises:
        SettingsError: The file cannot be read or has another form, its ratings are no grades, or no pair is left.
    """
    report = LoadReport(str(judgments))
    rows = list(_workbench_rows(judgments, report))
    grade_of = {grade: float(place) for place, grade in enumerate(grades or _grades_found(rows, judgments))}
    placed = (row._replace(rating=grade_of.get(row.rating, math.nan)) for row in rows)

    def find(wanted: Set[str]) -> Iterator[Product]:
        return (product for product in catalogue_products if product.product_id in wanted)

    return collect_pairs(placed, find, scale, highest_rating=len(grade_of) - 1, report=report), report


def _workbench_rows(path: Path, report: LoadReport) -> Iterator[RatedRow]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a file that can be read") from error
    except ValueError as error:
        raise SettingsError(f"{path}: no JSON ({error}); export the judgements again") from error
    found = document.get("judgmentRatings") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise SettingsError(f"{path}: judgmentRatings is no list; give the import form of the workbench")
    for number, entry in enumerate(found):
        where = f"judgmentRatings[{number}]"
        ratings = entry.get("ratings") if isinstance(entry, dict) else None
        if not (isinstance(ratings, list) and isinstance(entry.get("query"), str)):
            report.rows += 1
            report.malformed_rows.add(where)
            continue
        for place, rating in enumerate(ratings):
            named = rating if isinstance(rating, dict) else {}
            written = str(named.get("rating", ""))
            product_id = str(named.get("docId", ""))
            yield RatedRow(f"{where}.ratings[{place}]", entry["query"], product_id, as_rating(written), written)


def _grades_found(rows: Sequence[RatedRow], path: Path) -> list[float]:
    found = sorted({row.rating for row in rows if math.isfinite(row.rating)})
    if 1 < len(found) <= MOST_GRADES or not rows:
        return found
    few = ", ".join(f"{rating:g}" for rating in found[:MOST_GRADES])
    raise SettingsError(f"{path}: {len(found)} different ratings ({few}) are no grades; set grades, worst first")


def _valid_products(records: Iterable[dict[str, Any]], report: LoadReport) -> Iterator[Product]:
    for record in records:
        try:
            yield Product(**record)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            report.bad_products.add(f"{record['product_id']}: {first['loc'][0]}: {first['msg']}")
