"""``labelstream serve --with-stream`` as a user starts it: real Kafka, Ray Serve and vLLM, over real HTTP."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from collectors import Collector, attributes
from models import tiny_cross_encoder, tiny_llama
from patience import TIMEOUT
from processes import EndpointProcess
from schemathesis_command import ask_what_is_described, needs_schemathesis
from stream import wait_until
from test_broker import read_values

from labelstream.actors.endpoint.tokens import add_token
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.product import Product
from labelstream.schemas.settings import KafkaSettings, LakeSettings
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.importers import publish_products
from labelstream.streaming.lake import Lake
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import ensure_topics

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.engine, pytest.mark.timeout(600)]

START_S, ANSWER_S = 300, 180
PRODUCTS = [
    Product(product_id=f"p{number}", title=f"{colour} {thing}", alternative_ids=[f"ean{number}"])
    for number, (colour, thing) in enumerate(product(("red", "blue", "green"), ("sofa", "chair", "lamp")))
]


class Served(NamedTuple):
    """A running endpoint, and what a test needs to look behind it."""

    process: EndpointProcess
    client: httpx.Client
    kafka: KafkaSettings
    lake: LakeSettings
    log: Path
    collector: Collector


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def served(kafka: KafkaCluster, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    topics = {f"{kind}_topic": f"{kind}-served" for kind in ("events", "products", "labels", "dead_letters")}
    broker = KafkaSettings.model_validate({"bootstrap_servers": kafka.bootstrap_servers, "group": "served", **topics})
    lake = LakeSettings(catalog=f"sqlite:{folder}/lake.sqlite", data_path=f"{folder}/lake")
    token = add_token(folder / "tokens", "test")
    ensure_topics(broker)
    publish_products(PRODUCTS, broker)
    environment = {
        **kafka.settings_environment(),
        "LABELSTREAM_KAFKA_GROUP": "served",
        **{f"LABELSTREAM_KAFKA_{name.upper()}": topic for name, topic in topics.items()},
        "LABELSTREAM_LAKE_CATALOG": lake.catalog,
        "LABELSTREAM_LAKE_DATA_PATH": lake.data_path,
        "LABELSTREAM_STORE_PATH": f"{folder}/store",
        "LABELSTREAM_REGISTRY_FOLDER": f"{folder}/registry",
        "LABELSTREAM_LABELLER_MODEL": str(tiny_llama(folder / "labeller")),
        "LABELSTREAM_LABELLER_CACHE_GIGABYTES": "0.1",
        "LABELSTREAM_LABELLER_THREADS": "1",
        "LABELSTREAM_LABELLER_MAX_REPLICAS": "2",
        "LABELSTREAM_ENCODER_MODEL": str(tiny_cross_encoder(folder / "encoder")),
        "LABELSTREAM_ENCODER_THREADS": "1",
        "LABELSTREAM_STREAM_LINGER_S": "0.1",
        "LABELSTREAM_ENDPOINT_PORT": "0",
        "LABELSTREAM_ENDPOINT_TOKENS_FILE": f"{folder}/tokens",
        "LABELSTREAM_ENDPOINT_KEEP_LABELS": "true",
        "LABELSTREAM_OBSERVABILITY_OTLP_ENDPOINT": collector.url,
    }
    log = folder / "serve.log"
    process = EndpointProcess(environment, log, "--with-stream")
    try:
        url = wait_for_url(process, log)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWER_S) as client:
            yield Served(process, client, broker, lake, log, collector)
    finally:
        process.clean_up()


def wait_for_url(process: EndpointProcess, log: Path) -> str:
    def url() -> str | None:
        assert process.is_running, log.read_text()
        found = re.search(r"answering at (http://\S+)", log.read_text())
        return found and found.group(1)

    found: str = wait_for(url, START_S)
    return found


def wait_for(look: Callable[[], Any], seconds: float = ANSWER_S) -> Any:
    """The first answer that says something."""
    answers: list[Any] = []
    wait_until(lambda: bool(answers.append(look()) or answers[-1]), seconds)
    return answers[-1]


def label(served: Served, *pairs: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    answer = served.client.post("/v1/labels", json={"pairs": list(pairs), **options})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def in_catalogue(served: Served, product_id: str, query: str = "is it there") -> bool:
    [result] = label(served, {"query": query, "product_id": product_id})
    return result["error"] is None


@pytest.fixture(scope="module")
def catalogue(served: Served) -> Served:
    """The endpoint, once the stream has brought it the catalogue."""
    wait_for(lambda: in_catalogue(served, PRODUCTS[-1].product_id))
    return served


def test_nothing_can_be_reached_from_another_machine(served: Served):
    main = psutil.Process(served.process.pid)
    listening = {
        (process.name(), one.laddr.ip.removeprefix("::ffff:"))
        for process in (main, *main.children(recursive=True))
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening
    assert {one for one in listening if not ipaddress.ip_address(one[1]).is_loopback} == set()


def test_it_is_ready_and_says_what_answers(served: Served):
    assert served.client.get("/readyz").json() == {"status": "ok", "waiting_for": []}
    assert [model["id"] for model in served.client.get("/v1/models").json()["models"]] == ["cross-encoder", "labeller"]


def test_nobody_comes_in_without_a_token(served: Served):
    pairs = [{"query": "q", "product_id": "p0"}]
    answer = httpx.post(f"{served.client.base_url}/v1/labels", json={"pairs": pairs}, timeout=TIMEOUT)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


def test_a_label_is_judged_once_and_kept_with_the_id_of_its_request(catalogue: Served):
    pairs = [{"query": "Red  SOFA", "product_id": "p0"}, {"query": "red sofa", "product_id": "ean0"}]
    answer = catalogue.client.post("/v1/labels", json={"pairs": pairs}, headers={"X-Request-Id": "shopper-7"})
    first, alias = answer.json()["results"]
    assert first["label"] == alias["label"]
    assert (first["cached"], first["label"]["request_id"]) == (False, "shopper-7")
    assert sum(first["label"]["probabilities"]) == pytest.approx(1, abs=1e-5)
    [again] = label(catalogue, pairs[0])
    assert again["cached"]
    assert again["label"] == first["label"] | {"request_id": again["label"]["request_id"]}

    def rows() -> list[tuple[Any, ...]]:
        with Lake(catalogue.lake, read_only=True) as lake:
            return lake.query("SELECT label_key, request_id FROM labels WHERE query = 'red sofa' AND product_id = 'p0'")

    assert wait_for(rows) == [(first["label"]["label_key"], "shopper-7")]
    published = map(LabelRecord.model_validate_json, read_values(catalogue.kafka, str(catalogue.kafka.labels_topic)))
    [record] = [record for record in published if record.label_key == first["label"]["label_key"]]
    assert record.model_dump(mode="json") == first["label"] | {
        "cross_encoder_score": record.cross_encoder_score, "cross_encoder_version": record.cross_encoder_version,
    }  # fmt: skip
    assert record.cross_encoder_score is not None  # what is kept is whole


def test_what_the_stream_has_judged_is_not_judged_again(catalogue: Served):
    pair = {"query": "blue lamp", "product_id": "p5"}
    publish([Outgoing(b"p5", json.dumps(pair).encode())], catalogue.kafka.events_topic, catalogue.kafka)

    def labelled() -> bool:
        with Lake(catalogue.lake, read_only=True) as lake:
            return lake.query("SELECT count(*) FROM labels WHERE query = 'blue lamp'") == [(1,)]

    wait_until(labelled, ANSWER_S)
    [result] = label(catalogue, pair)
    assert (result["cached"], result["label"]["request_id"]) == (True, None)


def test_one_bad_pair_does_not_fail_the_others(catalogue: Served):
    pairs: list[dict[str, Any]] = [{"query": "q", "product_id": "p1"}, {"query": "q", "product_id": "x"}, {"query": 1}]
    good, unknown, odd = label(catalogue, *pairs)
    assert good["label"]["product_id"] == "p1"
    assert good["error"] is None
    assert unknown["error"]["errors"][0]["field"] == "pairs.1.product_id"
    assert odd["error"]["status"] == 422


@pytest.mark.parametrize("model", ["cross-encoder", "labeller"])
def test_documents_are_ranked(catalogue: Served, model: str):
    documents: list[Any] = ["a lamp", {"product_id": "p0"}, {"product": {"title": "red sofa", "brand": "Acme"}}]
    body = {"model": model, "query": "red sofa", "documents": documents, "top_n": 2}
    answer = catalogue.client.post("/v1/rerank", json=body).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert answer["model"] == model
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)


def test_no_ranker_is_an_error_that_says_what_to_do(catalogue: Served):
    answer = catalogue.client.post("/v1/rerank", json={"model": "ranker", "query": "q", "documents": ["x"]})
    assert answer.status_code == 422
    assert "labelstream retrain" in answer.json()["detail"]


def test_metrics_tell_of_requests_and_of_the_stream(catalogue: Served):
    text = catalogue.client.get("/metrics").text
    for name in (
        "labelstream_http_requests_total",
        "labelstream_lag_records",
        "labelstream_ready 1.0",
        "labelstream_lost_labels_total 0.0",
    ):
        assert name in text
    assert "labelstream_labellers_ready 1.0" in text


@needs_schemathesis
def test_no_request_that_is_described_is_an_error_of_the_server(catalogue: Served, tmp_path: Path):
    options = "--checks not_a_server_error --phases examples,fuzzing --max-examples 10"
    ask_what_is_described(str(catalogue.client.base_url), catalogue.client.headers["Authorization"], options, tmp_path)


def test_a_killed_labeller_comes_back_and_gives_no_wrong_answer(catalogue: Served):
    pairs = [{"query": f"query {number}", "product_id": "p3"} for number in range(40)]
    before = {json.dumps(pair): label(catalogue, pair)[0]["label"]["probabilities"] for pair in pairs[:20]}
    statuses: list[int] = []

    def ask() -> None:
        for pair in pairs:
            answer = catalogue.client.post("/v1/labels", json={"pairs": [pair]})
            statuses.append(answer.status_code)
            if answer.status_code == 200 and json.dumps(pair) in before:
                assert answer.json()["results"][0]["label"]["probabilities"] == before[json.dumps(pair)]

    asking = threading.Thread(target=ask)
    asking.start()
    assert catalogue.process.kill_actor("labeller", random.Random(1))
    asking.join(START_S)
    assert set(statuses) <= {200, 503, 504}
    wait_for(lambda: catalogue.client.get("/readyz").status_code == 200, START_S)
    assert in_catalogue(catalogue, "p3", query="after the kill")


def test_it_stops_when_it_is_told_and_answers_those_who_wait(catalogue: Served):
    pairs = [{"query": f"last question {number}", "product_id": f"p{number % 9}"} for number in range(1000)]
    with ThreadPoolExecutor(1) as asking:
        last = asking.submit(label, catalogue, *pairs)
        wait_until(lambda: in_flight(catalogue) > 1 or last.done(), ANSWER_S)
        assert catalogue.process.terminate(120) == 0, catalogue.log.read_text()
        assert all(result["error"] is None for result in last.result())
    assert "stopped" in catalogue.log.read_text()
    assert 1000 in [attributes(span).get("labelstream.pairs") for span in catalogue.collector.spans]


def in_flight(served: Served) -> float:
    """Requests under way, this question included."""
    [value] = re.findall(
        r"^labelstream_http_in_flight_requests\{.*\} (\S+)$", served.client.get("/metrics").text, re.MULTILINE
    )
    return float(value)
