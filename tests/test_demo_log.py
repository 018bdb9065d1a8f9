"""The simulated search log: repeatable, in UBI's format, with the faults that it is meant to have and no others."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.messages import UbiEvent, UbiQuery, parse_search_event
from labelstream.schemas.settings import EventSettings
from labelstream.training.demo_catalogue import demo_catalogue
from labelstream.training.demo_log import BAD_VALUES, search_log

CATALOGUE = demo_catalogue()
LOG = list(search_log(CATALOGUE))
GOOD = [(key, value) for key, value in LOG if value not in BAD_VALUES]
MESSAGES = [parse_search_event(value) for _, value in GOOD]
QUERIES = [message for message in MESSAGES if isinstance(message, UbiQuery)]
EVENTS = [message for message in MESSAGES if isinstance(message, UbiEvent)]
BY_NAME = {name: product for product in CATALOGUE for name in (product.product_id, *product.alternative_ids)}


def test_the_seed_decides():
    assert list(search_log(CATALOGUE, sessions=20)) == list(search_log(CATALOGUE, sessions=20))
    assert list(search_log(CATALOGUE, sessions=20)) != list(search_log(CATALOGUE, sessions=20, seed=2))


def test_the_default_log_is_of_the_promised_size():
    text = {query.query_id: normalise_query(query.user_query) for query in QUERIES}
    pairs = {
        (text[event.query_id], BY_NAME[event.object_id].product_id) for event in EVENTS if event.object_id in BY_NAME
    }
    assert 11_000 < len(LOG) < 13_000
    assert 2_500 < len(pairs) < 4_000


@pytest.mark.parametrize("value", BAD_VALUES)
def test_the_bad_values_are_bad(value: bytes):
    with pytest.raises(BadRecord):
        parse_search_event(value)


def test_a_few_records_are_bad_and_all_others_are_queries_or_events():
    assert 0 < len(LOG) - len(GOOD) < 0.02 * len(LOG)
    assert len(QUERIES) + len(EVENTS) == len(GOOD)
    assert len(QUERIES) == 830


def test_the_key_is_the_query_id():
    for (key, _), message in zip(GOOD, MESSAGES, strict=True):
        assert key == message.query_id.encode()


def test_a_query_comes_before_its_events_and_time_never_runs_back():
    announced = set()
    for message in MESSAGES:
        if isinstance(message, UbiQuery):
            announced.add(message.query_id)
        assert message.query_id in announced
    times = [message.timestamp for message in MESSAGES]
    assert times == sorted(times)


def test_times_and_product_names_come_in_both_forms():
    documents = [json.loads(value) for _, value in GOOD]
    assert {type(document["timestamp"]) for document in documents} == {str, int}
    fields = {event.event_attributes.object.object_id_field for event in EVENTS if event.object_id}
    assert fields == {"product_id", "ean"}


def test_the_log_has_engagement_and_actions_that_mean_nothing_to_us():
    known = EventSettings().actions
    counts = Counter(known.get(event.action_name, "ignored") for event in EVENTS)
    assert counts["impression"] > counts["click"] > counts["add_to_cart"] > counts["purchase"] > 0
    assert {"click", "item_click", "brand_filter", "on_search"} <= {event.action_name for event in EVENTS}
    assert all((event.action_name in known) == (event.object_id is not None) for event in EVENTS)


def test_a_few_events_are_about_products_that_the_catalogue_lacks():
    unknown = [event for event in EVENTS if event.object_id and event.object_id not in BY_NAME]
    assert 0 < len(unknown) < 0.02 * len(EVENTS)


def test_first_ranks_are_clicked_more_than_last_ones():
    clicks = Counter(event.position for event in EVENTS if event.action_name in {"click", "item_click"})
    assert set(clicks) <= set(range(1, 11))
    assert clicks[1] + clicks[2] > 2 * (clicks[9] + clicks[10])


def test_nothing_is_bought_that_was_not_put_in_the_cart():
    actions = defaultdict(Counter)
    for event in EVENTS:
        actions[event.query_id][event.action_name] += 1
    for counts in actions.values():
        assert counts["purchase"] <= counts["add_to_cart"] <= counts["click"] + counts["item_click"]
