"""What somebody asks about, as the models and the store know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from labelstream.actors.endpoint.services import AskedPair
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.keys import JudgeVersion, label_key, normalise_query
from labelstream.schemas.product import Product
from labelstream.streaming.known_product import KnownProduct


class Pair(NamedTuple):
    """A pair that can be judged.

    Attributes:
        key: Its label's.
        query: Normalised.
        product: What the models see of it.
        in_catalogue: Whether it is a product of the catalogue; else it came with the request.
    """

    key: str
    query: str
    product: KnownProduct
    in_catalogue: bool


def unknown_product(product_id: str, field: str = "product_id") -> BadRecord:
    """What somebody hears who names a product that is not there, in this field."""
    return BadRecord(
        f"product_id: the catalogue has no product {product_id[:64]!r}; send the product itself",
        field=field,
    )


def in_callers_words(error: BadRecord) -> BadRecord:
    """A judge's error under the name that the field has in a request; judges have the names of the stream's events."""
    if error.field != "user_query":
        return error
    return BadRecord(str(error).replace(error.field, "query", 1), field="query")


def resolve(asked: AskedPair, find: Callable[[str], KnownProduct | None], judge: JudgeVersion) -> Pair | BadRecord:
    """The pair that is meant, or why there is none.

    Args:
        asked: As it came in.
        find: Looks a product of the catalogue up.
        judge: Who would judge.
    """
    query = normalise_query(asked.query)
    if not query:
        return BadRecord("query: is empty; send what a shopper typed", field="query")
    if isinstance(asked.product, Product):
        product, in_catalogue = KnownProduct.of(asked.product), False
    else:
        found, in_catalogue = find(asked.product), True
        if found is None:
            return unknown_product(asked.product)
        product = found
    return Pair(label_key(query, product.hash, judge), query, product, in_catalogue)
