"""POST /v1/rerank: the order of documents, also for those who come with Cohere's clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
from endpoints import InstantServices, client, endpoint_app, served
from patience import TIMEOUT

from labelstream.actors.endpoint.tokens import add_token
from labelstream.schemas.http import MAX_DOCUMENTS, MAX_RANK_FIELDS, InlineProduct

DOCUMENTS = ["a long document", "short", "middling"]


@pytest.fixture
def services() -> InstantServices:
    return InstantServices()


@pytest.fixture
def url(services: InstantServices) -> Iterator[str]:
    with served(endpoint_app(services)) as base_url:
        yield base_url


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=TIMEOUT) as session:  # Cohere's clients do not close the one that they make
        yield session


def rerank(services: InstantServices | None = None, path: str = "/v1/rerank", **body: Any) -> dict[str, Any]:
    answer = client(services).post(path, json={"query": "mouse", "documents": DOCUMENTS, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_the_best_comes_first(path: str):
    answer = rerank(path=path)
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert (answer["model"], answer["model_version"]) == ("ranker", "v1")


def test_equal_ones_stay_in_their_order():
    assert [result["index"] for result in rerank(documents=["b", "a", "c"])["results"]] == [0, 1, 2]


@pytest.mark.parametrize(("top_n", "expected"), [(1, [1]), (2, [1, 2]), (100, [1, 2, 0]), (None, [1, 2, 0])])
def test_as_many_as_are_wanted(top_n: int | None, expected: list[int]):
    assert [result["index"] for result in rerank(top_n=top_n)["results"]] == expected


def test_documents_come_back_when_they_are_wanted():
    documents = ["text", {"text": "longer text"}, {"product": {"title": "the longest text"}}, {"product_id": "P" * 20}]
    answer = rerank(documents=documents, return_documents=True)
    assert [result["document"] for result in answer["results"]] == [{"text": "text"}, *documents[1:]]


@pytest.mark.parametrize("wanted", [{}, {"return_documents": False}, {"return_documents": None}])
def test_documents_that_nobody_wants_are_left_out(wanted: dict[str, Any]):
    assert all(result.keys() == {"index", "relevance_score"} for result in rerank(**wanted)["results"])


@pytest.mark.parametrize(
    "document",
    [
        {"text": "a", "id": "1", "tags": ["x", None, {"y": 1.5}], "brand": None},
        {"product": {"title": "a", "brand": None, "wheel": 2}, "id": 1},
        {"product_id": "P1", "rank": 3},
        {"text": "a", "deep": json.loads("[" * 190 + "]" * 190)},
    ],
)
def test_a_document_comes_back_as_it_was_sent(document: dict[str, Any]):
    [result] = rerank(documents=[document], return_documents=True)["results"]
    assert result["document"] == document


def test_objects_are_ranked_by_the_fields_that_are_named(services: InstantServices):
    documents: list[Any] = [
        {"title": "Sofa", "price": 7, "brand": None, "colour": "red"},
        {"text": "only a text", "colour": "red"},
        "a string",
        {"product_id": "P1", "title": "Lamp"},
        {"text": "a text", "title": "Chair"},
    ]
    rerank(services, documents=documents, rank_fields=["title", "price", "title", "brand", "text"])
    _, *ranked = services.asked[0]
    titles = [one if isinstance(one, str) else one.title for one in ranked]
    assert titles == [
        "title: Sofa\nprice: 7", "text: only a text", "text: a string", "P1", "title: Chair\ntext: a text",
    ]  # fmt: skip


def test_one_field_needs_no_name(services: InstantServices):
    rerank(services, documents=[{"title": "Sofa", "id": "1"}, "a string"], rank_fields=["title"])
    assert services.asked[0] == ["mouse", InlineProduct(title="Sofa"), InlineProduct(title="a string")]


def test_what_is_not_ranked_is_in_no_limit():
    assert rerank(documents=[{"text": "a", "image": "b" * 50_000}], return_documents=True)["results"]
    assert rerank(documents=[{"text": "b" * 50_000, "title": "a"}], rank_fields=["title"])["results"]


def test_what_is_asked_reaches_the_services(services: InstantServices):
    documents = ["t", {"text": "u"}, {"product_id": "P1"}, {"product": {"title": "v", "brand": "w"}}, 7]
    rerank(services, documents=documents, model="cross-encoder")
    products = InlineProduct(title="t"), InlineProduct(title="u"), InlineProduct(title="v", brand="w")
    assert services.asked == [["mouse", *products[:2], "P1", products[2], InlineProduct(title="7")]]
    assert services.options == ["cross-encoder"]


def test_without_a_model_the_services_choose(services: InstantServices):
    rerank(services)
    assert services.options == [None]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"query": ""}, ["query"]),
        ({"query": "q" * 1001}, ["query"]),
        ({"query": "\ufdfa" * 56}, ["query"]),  # NFKC makes 18 characters of each
        ({"documents": []}, ["documents"]),
        ({"documents": ["a"] * (MAX_DOCUMENTS + 1)}, ["documents"]),
        ({"documents": ["a", ""]}, ["documents.1.text"]),
        ({"documents": ["a", "  "]}, ["documents.1"]),
        ({"documents": ["a", None]}, ["documents.1"]),
        ({"documents": ["a", {}]}, ["documents.1"]),
        ({"documents": ["a", {"text": "a", "product_id": "b"}]}, ["documents.1"]),
        ({"documents": ["a", {"title": "a"}]}, ["documents.1"]),
        ({"documents": ["a", {"product": {}}, {"text": []}]}, ["documents.1.product.title", "documents.2.text"]),
        ({"documents": ["a", {"title": "a"}], "rank_fields": ["brand"]}, ["documents.1"]),
        ({"documents": ["a", {"title": ["a"]}], "rank_fields": ["title"]}, ["documents.1.title"]),
        ({"documents": ["a", {"title": " "}], "rank_fields": ["title"]}, ["documents.1"]),
        ({"documents": ["a", {"title": "b" * 20_001}], "rank_fields": ["title"]}, ["documents.1"]),
        ({"documents": ["a", {"b": "b" * 9_999, "c": "c" * 9_999}], "rank_fields": ["b", "c"]}, ["documents.1"]),
        ({"rank_fields": ["a"] * (MAX_RANK_FIELDS + 1)}, ["rank_fields"]),
        ({"documents": ["a", "b" * 20_001]}, ["documents.1"]),
        ({"documents": ["a", {"product": {"title": "b" * 20_001}}]}, ["documents.1.product"]),
        ({"documents": ["a", {"product_id": "unknown"}]}, ["documents.1.product_id"]),
        ({"top_n": 0}, ["top_n"]),
        ({"model": "rerank-v3.5"}, ["model"]),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], fields: list[str]):
    answer = client().post("/v1/rerank", json={"query": "mouse", "documents": DOCUMENTS, **body})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == fields
    assert answer.json()["detail"]


def test_options_that_are_not_known_are_ignored():
    assert rerank(max_chunks_per_doc=10, overlap_tokens=80)["results"]


def test_coheres_second_client(url: str, http: httpx.Client):
    answer = cohere.ClientV2("any", base_url=url, httpx_client=http).rerank(
        model="cross-encoder", query="mouse", documents=DOCUMENTS, top_n=2
    )
    assert [(result.index, result.relevance_score) for result in answer.results] == [(1, 1 / 6), (2, 1 / 9)]
    assert answer.id


def test_coheres_first_client(url: str, http: httpx.Client):
    answer = cohere.Client("any", base_url=url, httpx_client=http).rerank(
        model="ranker", query="mouse", documents=[*DOCUMENTS, {"text": "x"}], return_documents=True
    )
    texts = [result.document.text for result in answer.results if result.document]
    assert texts == ["x", "short", "middling", "a long document"]


def test_coheres_first_client_sends_objects_and_names_their_fields(url: str, http: httpx.Client):
    documents = [{"title": "a long title", "id": "1"}, {"title": "short", "id": "2"}]
    client = cohere.Client("any", base_url=url, httpx_client=http)
    for ask in ({"rank_fields": ["title"]}, {"documents": [{"text": one["title"], **one} for one in documents]}):
        answer = client.rerank(
            model="ranker",
            query="mouse",
            return_documents=True,
            **({"documents": documents} | ask),  # type: ignore[arg-type]
        )
        found = [result.document.model_dump() for result in answer.results if result.document]
        assert [(document["id"], document["title"]) for document in found] == [("2", "short"), ("1", "a long title")]


@pytest.mark.parametrize("version", [cohere.Client, cohere.ClientV2])
def test_coheres_clients_bring_a_token_of_the_file(
    version: type[Any], services: InstantServices, http: httpx.Client, tmp_path: Path
):
    token = add_token(tmp_path / "tokens", "search-team")
    with served(endpoint_app(services, tokens_file=tmp_path / "tokens")) as guarded:
        client = version(token, base_url=guarded, httpx_client=http)
        assert client.rerank(model="ranker", query="mouse", documents=DOCUMENTS).results
        assert services.requests[0].token_name == "search-team"
        stranger = version("another", base_url=guarded, httpx_client=http)
        with pytest.raises(cohere.UnauthorizedError):
            stranger.rerank(model="ranker", query="mouse", documents=DOCUMENTS)


def test_coheres_client_says_what_is_wrong(url: str, http: httpx.Client):
    with pytest.raises(cohere.UnprocessableEntityError) as caught:
        cohere.ClientV2("any", base_url=url, httpx_client=http).rerank(
            model="rerank-v3.5", query="mouse", documents=DOCUMENTS
        )
    assert caught.value.body["errors"][0]["field"] == "model"
