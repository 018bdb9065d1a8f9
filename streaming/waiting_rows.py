"""Which waiting events need not wait any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from labelstream.streaming.lake import Lake

_RESOLVABLE = """
    WITH named AS (  -- a product's own id goes before another product's alternative id
        SELECT product_id AS object_id, product_id, 0 AS rank FROM products
        UNION ALL
        SELECT unnest(alternative_ids), product_id, 1 FROM products
    ), alias AS (
        SELECT object_id, arg_min(product_id, rank) AS product_id FROM named
        WHERE object_id IN (SELECT object_id FROM waiting) GROUP BY object_id
    ), text AS (
        SELECT query_id, any_value(user_query) AS user_query FROM queries
        WHERE query_id IN (SELECT query_id FROM waiting WHERE user_query IS NULL) GROUP BY query_id
    )
    SELECT w.* REPLACE (coalesce(w.user_query, text.user_query) AS user_query), a.product_id
    FROM waiting w
    JOIN alias a USING (object_id)
    LEFT JOIN text USING (query_id)
    WHERE coalesce(w.user_query, text.user_query) IS NOT NULL
    ORDER BY w.topic, w.partition, w."offset"
    LIMIT ?
"""


class Resolvable(NamedTuple):
    """What can be joined by now.

    Attributes:
        snapshot: The lake's, when it was asked.
        rows: Of ``waiting``, oldest first.
        seconds: How long the Writer had to do with the question; not how long it waited for its turn.
    """

    snapshot: int
    rows: list[dict[str, Any]]
    seconds: float


def resolvable_rows(lake: Lake, limit: int) -> list[dict[str, Any]]:
    """Rows of ``waiting`` whose product and query text are both known by now, oldest first.

    Raises:
        TransientError: The lake is locked or its storage does not answer.
    """
    if not lake.query("SELECT 1 FROM waiting LIMIT 1"):
        return []  # most of the time, and the rest reads all queries and products
    found: list[dict[str, Any]] = lake.execute(_RESOLVABLE, [limit]).to_arrow_table().to_pylist()
    return found
