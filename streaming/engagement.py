"""Engagement: how often a product was seen, clicked, put into the cart and bought, by query, day and position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelstream.streaming.classify import Observation

_COLUMNS = {
    "impression": "impressions",
    "click": "clicks",
    "add_to_cart": "add_to_carts",
    "purchase": "purchases",
}


def engagement_rows(observations: Iterable[Observation]) -> list[dict[str, Any]]:
    """Count the actions of a batch.

    Args:
        observations: Joined events; those without an action (plain pairs) count nothing.

    Returns:
        Rows of ``engagement``: one for each (day in UTC, query, product, position), in a fixed order. They
        are increments, to be added to what other batches have counted.
    """
    counts: dict[tuple[Any, ...], Counter[str]] = {}
    for seen in observations:
        if seen.action is not None:
            key = (seen.occurred_at.date(), seen.query, seen.product.product_id, seen.position)
            counts.setdefault(key, Counter())[_COLUMNS[seen.action]] += 1
    names = ("day", "query", "product_id", "position")
    return [
        dict(zip(names, key, strict=True)) | {column: counter[column] for column in _COLUMNS.values()}
        for key, counter in counts.items()
    ]
