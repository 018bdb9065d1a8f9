from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lakes import MOMENT, record

from labelstream.schemas.tables import ENGAGEMENT
from labelstream.streaming.classify import Observation
from labelstream.streaming.commit import rows
from labelstream.streaming.engagement import engagement_rows
from labelstream.streaming.known_product import KnownProduct

COLUMNS = {"impression": "impressions", "click": "clicks", "add_to_cart": "add_to_carts", "purchase": "purchases"}


def seen(
    query: str = "sofa", product: str = "p", action: Any = "click", position: int | None = 1, at: datetime = MOMENT
) -> Observation:
    return Observation(0, record(0, {}), "key", query, KnownProduct(product, "h", "t"), action, position, at)


def test_the_same_action_adds_up():
    assert engagement_rows([seen(), seen(), seen(action="purchase")]) == [
        {
            "day": date(2026, 3, 4), "query": "sofa", "product_id": "p", "position": 1,
            "impressions": 0, "clicks": 2, "add_to_carts": 0, "purchases": 1,
        }
    ]  # fmt: skip


def test_query_product_position_and_day_stay_apart():
    others = [seen(query="bed"), seen(product="q"), seen(position=None), seen(at=MOMENT + timedelta(days=1))]
    assert len(engagement_rows([seen(), *others])) == 5


def test_a_plain_pair_counts_nothing():
    assert engagement_rows([seen(action=None)]) == []


def test_the_day_ends_at_midnight_utc():
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    days = [
        row["day"].day for row in engagement_rows([seen(at=midnight - timedelta(microseconds=1)), seen(at=midnight)])
    ]
    assert days == [4, 5]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([*COLUMNS, None]), st.sampled_from([None, 1, 2]))))
def test_nothing_is_lost_or_counted_twice(events: list[tuple[str, str | None, int | None]]):
    made = engagement_rows(seen(product=product, action=action, position=p) for product, action, p in events)
    expected = Counter(COLUMNS[action] for _, action, _ in events if action)
    assert {column: sum(row[column] for row in made) for column in COLUMNS.values()} == {
        column: expected[column] for column in COLUMNS.values()
    }
    assert rows(ENGAGEMENT, made).num_rows == len(made)
