"""POST /v1/labels: answers in their places, and errors that stay with their pair."""

from __future__ import annotations

from typing import Any

import pytest
from endpoints import RECORD, InstantServices, client, inline
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstream.actors.endpoint.services import AskedPair
from labelstream.schemas.http import MAX_PAIRS, InlineProduct, LabelsResponse
from labelstream.schemas.label import LabelRecord


def labels(*pairs: Any, services: InstantServices | None = None, **settings: Any) -> LabelsResponse:
    answer = client(services, **settings).post("/v1/labels", json={"pairs": list(pairs)})
    assert answer.status_code == 200, answer.text
    return LabelsResponse.model_validate_json(answer.content)


def test_a_pair_gets_the_whole_record():
    answer = client().post("/v1/labels", json={"pairs": [inline(product_id="P1001")]}).json()
    (result,) = answer["results"]
    assert (result["index"], result["cached"], result["error"]) == (0, False, None)
    assert set(result["label"]) == set(LabelRecord.model_fields)
    assert LabelRecord.model_validate(result["label"]) == RECORD


def test_what_is_asked_reaches_the_services():
    services = InstantServices()
    labels({"query": "a", "product_id": 42}, inline("b", "t", brand="c"), services=services)
    assert services.asked == [[AskedPair("a", "42"), AskedPair("b", InlineProduct(title="t", brand="c"))]]
    assert services.options == [False]


@pytest.mark.parametrize("path", ["/v1/labels", "/v1/rerank"])
def test_a_product_may_come_back_as_it_was_answered(path: str):
    product = {"title": "t", "product_id": ""}
    body = {"pairs": [{"query": "a", "product": product}], "query": "a", "documents": [{"product": product}]}
    fields = ["pairs"] if path == "/v1/labels" else ["query", "documents"]
    services = InstantServices()
    answer = client(services).post(path, json={field: body[field] for field in fields})
    assert answer.status_code == 200
    assert not [result for result in answer.json()["results"] if result.get("error")]
    assert services.asked


def test_the_cross_encoder_is_asked_for():
    services = InstantServices()
    client(services).post("/v1/labels", json={"pairs": [inline()], "cross_encoder": True})
    assert services.options == [True]


def test_a_pair_that_was_judged_before_is_said_to_be_cached():
    results = labels(inline("a"), inline("a")).results
    assert [result.cached for result in results] == [False, True]


@pytest.mark.parametrize(
    ("pair", "field", "urn"),
    [
        ({"query": "", "product_id": "p"}, "pairs.1.query", "invalid-fields"),
        ({"product_id": "p"}, "pairs.1.query", "invalid-fields"),
        ({"query": "a"}, "pairs.1", "invalid-fields"),
        ({"query": "a", "product_id": "p", "product": {"title": "t"}}, "pairs.1", "invalid-fields"),
        ({"query": "a", "product_id": "p", "colour": 1}, "pairs.1.colour", "invalid-fields"),
        ({"query": "a", "product": {"title": " "}}, "pairs.1.product.title", "invalid-fields"),
        ({"query": "a", "product": {"title": "t", "price": -1}}, "pairs.1.product.price", "invalid-fields"),
        ({"query": "a", "product_id": "\0"}, "pairs.1.product_id", "invalid-fields"),
        ({"query": "a" * 1001, "product_id": "p"}, "pairs.1.query", "text-too-long"),
        ({"query": "\ufdfa" * 56, "product_id": "p"}, "pairs.1.query", "text-too-long"),  # NFKC: 18 characters each
        (inline(description="d" * 101), "pairs.1.product", "text-too-long"),
        (inline(attributes={"n" * 50: "v" * 51}), "pairs.1.product", "text-too-long"),
        ({"query": "a", "product_id": "unknown"}, "pairs.1.product_id", "bad-record"),
        ("a", "pairs.1", "invalid-fields"),
        (None, "pairs.1", "invalid-fields"),
        ([], "pairs.1", "invalid-fields"),
    ],
)
def test_a_bad_pair_does_not_fail_the_rest(pair: Any, field: str, urn: str):
    before, bad, after = labels(inline("a"), pair, inline("b"), max_text_characters=100).results
    assert before.label is not None
    assert before.label.query == "a"
    assert after.label is not None
    assert after.label.query == "b"
    assert bad.index == 1
    assert bad.label is bad.cached is None
    assert bad.error is not None
    assert bad.error.type == f"urn:labelstream:problem:{urn}"
    assert bad.error.status == 422
    assert [error.field for error in bad.error.errors] == [field]
    assert bad.error.errors[0].message in bad.error.detail


def test_nobody_is_asked_about_bad_pairs_alone():
    services = InstantServices()
    labels("a", services=services)
    assert services.asked == []


def test_texts_may_be_as_long_as_is_set():
    (result,) = labels(inline("q" * 1000, title="t" * 60, description="d" * 40), max_text_characters=100).results
    assert result.label is not None


@pytest.mark.parametrize("count", [0, MAX_PAIRS + 1])
def test_the_number_of_pairs_is_bounded(count: int):
    answer = client().post("/v1/labels", json={"pairs": [inline()] * count})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["pairs"]


def test_as_many_pairs_as_are_allowed():
    assert len(labels(*[inline()] * MAX_PAIRS).results) == MAX_PAIRS


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["good", "unknown", "bad"]), min_size=1, max_size=20))
def test_every_answer_is_in_its_place(kinds: list[str]):
    pairs = [{"query": f"q{i}", "product_id": f"{kind}-{i}" if kind != "bad" else ""} for i, kind in enumerate(kinds)]
    results = labels(*pairs).results
    assert [result.index for result in results] == list(range(len(kinds)))
    for index, (kind, result) in enumerate(zip(kinds, results, strict=True)):
        if kind == "good":
            assert result.label is not None
            assert result.label.query == f"q{index}"
        else:
            assert result.error is not None
            assert result.error.errors[0].field == f"pairs.{index}.product_id"


def test_a_misspelt_option_is_named():
    answer = client().post("/v1/labels", json={"pairs": [inline()], "crossencoder": True})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["crossencoder"]


def test_the_pairs_are_counted():
    app = client()
    app.post("/v1/labels", json={"pairs": [inline("a"), inline("a"), "bad", "bad", inline("b")]})
    text = app.get("/metrics").text
    for outcome, count in {"labelled": 2, "cached": 1, "error": 2}.items():
        series = f'labelstream_http_items_total{{kind="label",outcome="{outcome}",replica="replica-0"}} {count}.0'
        assert series in text
