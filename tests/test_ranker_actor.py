from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray
import registries
from endpoints import endpoint_app, served
from lakes import a_commit, all_settings, lake_settings, product_rows, training_table
from patience import TIMEOUT
from rays import small_ray
from scipy.special import expit
from test_on_demand import CountingReplicas, score
from test_retraining import SETTINGS, lake, run, with_seed  # noqa: F401 - lake is a fixture

from labelstream.actors.actor_names import RANKER
from labelstream.actors.answers import Answers
from labelstream.actors.champion import Champion
from labelstream.actors.named_replicas import NamedReplicas
from labelstream.actors.on_demand import OnDemand
from labelstream.actors.on_demand_pool import Pool, PoolDescription
from labelstream.actors.ranker_actor import ProductRanker, RankerActor, RankerDescription, ranker_options
from labelstream.schemas.endpoint_settings import EndpointSettings
from labelstream.schemas.errors import BadRecord, ModelUnusable
from labelstream.schemas.http import InlineProduct
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.learning_settings import RankerSettings, RegistrySettings
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings
from labelstream.schemas.tables import PRODUCTS
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.training.features import EngagementHistory, FeatureTable, build_features
from labelstream.training.judgments import Integers
from labelstream.training.lexical import LexicalIndex
from labelstream.training.ranker import Ranker
from labelstream.training.ranking_data import TrainingSnapshot
from labelstream.training.ranking_rows import RankingSet
from labelstream.training.ranking_task import RankingTask, read_task
from labelstream.training.registry import Registry
from labelstream.training.retraining import KIND

NEW = Product(product_id="new", title="Red velvet sofa")
OFTEN = EndpointSettings(champion_interval_s=0.01, catalogue_interval_s=0.02)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


class Shop:
    """A lake that was trained on, its task, and a registry with two rankers of which the first is champion."""

    def __init__(self, trained_on: Lake, folder: Path) -> None:
        self.lake, self.folder = trained_on, folder
        self.registry = Registry(folder)
        self.first, self.second = (
            str(run(trained_on, folder, settings).version) for settings in (SETTINGS, with_seed(2))
        )
        assert self.first != self.second
        self.promote(self.first)
        self.task: RankingTask = read_task(trained_on, SETTINGS.scale, SETTINGS.engagement, window_days=7)
        self.encoder_scores = training_table(TrainingSnapshot(trained_on, until=self.task.until))["cross_encoder_score"]

    def settings(self, **sections: Any) -> Settings:
        registry = RegistrySettings(folder=self.folder)
        return Settings(**({"lake": self.lake._settings, "registry": registry, "endpoint": OFTEN} | sections))

    def ranker(self, **sections: Any) -> ProductRanker:
        return ProductRanker(self.settings(**sections), today=lambda: self.task.until)

    def promote(self, version: str) -> None:
        champion = self.registry.champion(KIND)
        expected = None if champion is None else champion.version
        self.registry.promote(KIND, version, expected=expected, reason="test")

    def load(self, version: str) -> Ranker:
        return Ranker.load(self.folder / KIND / "versions" / version)

    def queries(self) -> Iterator[tuple[str, Integers]]:
        names = np.array(self.task.queries)
        for query in dict.fromkeys(self.task.queries):
            yield query, np.flatnonzero(names == query)

    def asked(self, pairs: Integers) -> tuple[list[str], list[float]]:
        return [self.task.product_ids[pair] for pair in pairs], [self.encoder_scores[pair].as_py() for pair in pairs]


@pytest.fixture(scope="module")
def shop(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Shop:  # noqa: F811
    return Shop(lake, tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def ranker(shop: Shop) -> Iterator[ProductRanker]:
    """For all tests that promote nobody."""
    with shop.ranker() as ranker:
        yield ranker


@pytest.fixture
def own_shop(shop: Shop, tmp_path: Path) -> Shop:
    """The same, with a registry that a test may change."""
    shutil.copytree(shop.folder, tmp_path / "registry")
    mine = Shop.__new__(Shop)
    mine.__dict__ |= shop.__dict__ | {"folder": tmp_path / "registry", "registry": Registry(tmp_path / "registry")}
    return mine


@pytest.mark.parametrize("form", ["ids", "products"])
def test_what_is_served_is_what_was_trained(shop: Shop, ranker: ProductRanker, form: str):
    """Features of the stream's tables, read and computed by two ways, give the very same scores."""
    expected = shop.load(shop.first).score(shop.task.features).astype(float)
    products = {product.product_id: product for product in TrainingSnapshot(shop.lake, until=date.max).products()}
    for query, pairs in shop.queries():
        ids, encoder_scores = shop.asked(pairs)
        documents = ids if form == "ids" else [products[one] for one in ids]
        ranked = ranker.rank(query.upper(), documents, encoder_scores)
        assert (ranked.version, ranked.errors) == (shop.first, {})
        np.testing.assert_array_equal(ranked.scores, expit(expected[pairs]))
        np.testing.assert_array_equal(np.argsort(-ranked.scores), np.argsort(-expected[pairs]))
    assert len(np.unique(expected)) > len(expected) / 4


def test_engagement_counts_until_the_day(shop: Shop, ranker: ProductRanker):
    query, pairs = next(shop.queries())
    ids, scores = shop.asked(pairs)
    with ProductRanker(shop.settings()) as today:
        assert not np.array_equal(ranker.rank(query, ids, scores).scores, today.rank(query, ids, scores).scores)


def test_a_product_that_the_catalogue_lacks_is_one_that_nobody_has_seen(shop: Shop, ranker: ProductRanker):
    strangers = [InlineProduct(title="Red velvet sofa"), InlineProduct(product_id="x", title="Oak lamp", price=20)]
    nothing = np.zeros((2, 4), np.int64)
    features = build_features(
        ["red sofa"] * 2,
        strangers,
        LexicalIndex(TrainingSnapshot(shop.lake, until=date.max).products()),
        cross_encoder_scores=np.full(2, np.nan),
        history=EngagementHistory(shop.task.until, nothing, nothing),
    )
    assert np.isnan(features.values[0, features.names.index("price")])
    found = ranker.rank("red sofa", strangers).scores
    np.testing.assert_array_equal(found, expit(shop.load(shop.first).score(features).astype(float)))
    assert ((found > 0) & (found < 1)).all()


def test_an_unknown_product_is_an_error_of_its_own(shop: Shop, ranker: ProductRanker):
    query, pairs = next(shop.queries())
    ids, scores = shop.asked(pairs)
    whole = ranker.rank(query, ids, scores).scores
    mixed = ranker.rank(query, ["gone", *ids, "lost"], [0.5, *scores, 0.5])
    nothing_known = ranker.rank(query, ["gone"])
    nothing_asked = ranker.rank(query, [])
    np.testing.assert_array_equal(mixed.scores, [np.nan, *whole, np.nan])
    last = len(ids) + 1
    assert {number: error.field for number, error in mixed.errors.items()} == {
        0: "documents.0.product_id",
        last: f"documents.{last}.product_id",
    }
    assert "no product 'lost'; send the product itself" in str(mixed.errors[last])
    assert np.isnan(nothing_known.scores).tolist() == [True]
    assert len(nothing_asked.scores) == 0


def test_scores_that_do_not_fit_the_documents_are_refused(ranker: ProductRanker):
    with pytest.raises(ValueError, match="1 documents and 2 cross-encoder scores"):
        ranker.rank("red sofa", [InlineProduct(title="Red sofa")], [0.1, 0.2])


def test_it_says_who_it_is(shop: Shop, ranker: ProductRanker):
    champion = shop.registry.champion(KIND)
    assert champion is not None
    assert ranker.describe() == RankerDescription(
        version=shop.first,
        promoted_at=champion.promoted_at,
        features=shop.task.features.names,
        needs_cross_encoder=True,
        snapshot=shop.lake.snapshot,
        products=shop.lake.query("SELECT count(*) FROM products")[0][0],
    )


def test_the_answer_says_that_scores_of_the_cross_encoder_are_missing(ranker: ProductRanker):
    sofa = [InlineProduct(title="Red sofa")]
    assert [ranker.rank("red sofa", sofa, scores).lacks_scores for scores in (None, [0.5])] == [True, False]


def test_a_ranker_that_has_never_seen_the_cross_encoder_does_not_need_it(shop: Shop, tmp_path: Path):
    values = shop.task.features.values.copy()
    values[:, shop.task.features.names.index("cross_encoder_score")] = np.nan
    rows = RankingSet.of(FeatureTable(shop.task.features.names, values), shop.task.queries, shop.task.content)
    Ranker.train(rows, settings=RankerSettings(rounds=3)).save(tmp_path)
    champion = shop.registry.champion(KIND)
    assert champion is not None
    assert not Champion.load(champion._replace(folder=tmp_path)).needs_cross_encoder
    assert Champion.load(champion).needs_cross_encoder


def test_a_ranker_of_other_features_is_refused_and_they_are_named(shop: Shop, tmp_path: Path):
    names = ("weather", *shop.task.features.names[1:])
    rows = RankingSet.of(FeatureTable(names, shop.task.features.values), shop.task.queries, shop.task.content)
    Ranker.train(rows, settings=RankerSettings(rounds=3)).save(tmp_path)
    champion = shop.registry.champion(KIND)
    assert champion is not None
    with pytest.raises(ModelUnusable, match=r"does not have \(weather\); retrain"):
        Champion.load(champion._replace(folder=tmp_path))


def test_without_a_champion_the_remedy_is_said_until_there_is_one(own_shop: Shop, tmp_path: Path):
    nowhere = RegistrySettings(folder=tmp_path / "later")
    with own_shop.ranker(registry=nowhere) as ranker:
        assert ranker.describe() is None
        with pytest.raises(BadRecord, match="run labelstream retrain, or ask for cross-encoder") as refused:
            ranker.rank("red sofa", ["a"])
        assert refused.value.field == "model"
        shutil.copytree(own_shop.folder, nowhere.folder)
        assert wait_for(ranker.describe).version == own_shop.first


def test_a_broken_champion_is_logged_and_the_one_before_stays(own_shop: Shop, caplog: pytest.LogCaptureFixture):
    broken = registries.add(own_shop.registry, "no trees")
    with own_shop.ranker() as ranker:
        own_shop.promote(broken)
        wait_for(lambda: caplog.records)
        assert "no ranker that can be read" in caplog.records[0].getMessage()
        assert ranker.rank("red sofa", [InlineProduct(title="Red sofa")], [0.5]).version == own_shop.first
        own_shop.promote(own_shop.second)
        wait_for(lambda: _version(ranker) == own_shop.second)


def test_a_champion_whose_files_are_gone_ranks_on(own_shop: Shop):
    with own_shop.ranker() as ranker:
        shutil.rmtree(own_shop.folder)
        query, pairs = next(own_shop.queries())
        assert ranker.rank(query, *own_shop.asked(pairs)).version == own_shop.first


def test_a_second_promotion_of_the_same_version_is_newer(own_shop: Shop):
    with own_shop.ranker() as ranker:
        before = ranker.describe()
        assert before is not None
        own_shop.promote(own_shop.second)
        own_shop.promote(own_shop.first)
        wait_for(lambda: _promoted_at(ranker) > before.promoted_at and _version(ranker) == own_shop.first)


def test_no_request_fails_while_champions_come_and_go(own_shop: Shop):
    expected = {
        version: expit(own_shop.load(version).score(own_shop.task.features).astype(float))
        for version in (own_shop.first, own_shop.second)
    }
    stopping, seen = threading.Event(), set[str]()

    def hammer(ranker: ProductRanker) -> int:
        requests = 0
        while not stopping.is_set():
            for query, pairs in own_shop.queries():
                ranked = ranker.rank(query, *own_shop.asked(pairs))
                np.testing.assert_array_equal(ranked.scores, expected[ranked.version][pairs])
                seen.add(ranked.version)
                requests += 1
        return requests

    with own_shop.ranker() as ranker, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(hammer, ranker) for _ in range(3)]
        try:
            for _ in range(4):
                seen.clear()
                own_shop.promote(own_shop.second)
                wait_for(lambda: own_shop.second in seen or any(call.done() for call in calls))
                seen.clear()
                own_shop.registry.rollback(KIND, "test")
                wait_for(lambda: own_shop.first in seen or any(call.done() for call in calls))
                own_shop.registry.prune(KIND, keep=1)
        finally:
            stopping.set()
        assert all(call.result(TIMEOUT) > 0 for call in calls)


def test_it_starts_without_a_lake_and_learns_of_products_as_they_come(own_shop: Shop, tmp_path: Path):
    settings = lake_settings(tmp_path)
    with own_shop.ranker(lake=settings) as ranker:
        assert ranker.rank("red sofa", [InlineProduct(title="Red sofa")], [0.5]).errors == {}
        assert 0 in ranker.rank("red sofa", ["new"]).errors
        with Lake(settings) as writing:
            writing.commit(a_commit(0, tables={PRODUCTS.name: product_rows(Product(product_id="new", title="Sofa"))}))
        wait_for(lambda: not ranker.rank("red sofa", ["new"]).errors)


class EndpointOfARanker:
    """The endpoint's own application over a real ranker, catalogue and registry; a stand-in has the cross-encoder."""

    def __init__(self, shop: Shop, settings: Settings, store: LocalStore, answers: Answers) -> None:
        description = PoolDescription(JudgeDescription("model", "prompt", "scale", 1.0), "encoder")
        encoders: Any = CountingReplicas(score)
        pool = Pool(encoders, encoders, NamedReplicas(settings, RANKER, 1))
        with store.writer() as writer:
            products = TrainingSnapshot(shop.lake, until=date.max).products()
            writer.put_products([KnownProduct.of(product) for product in products])
            writer.put_products([KnownProduct.of(NEW)])  # the ranker has not read it yet
        self.app = endpoint_app(OnDemand(settings, description, pool, store, answers, keep=None, behind=no_figures))


async def no_figures(_: Mapping[str, int]) -> str:
    return ""


@pytest.mark.slow
def test_no_request_for_a_ranking_fails_while_its_champion_changes(own_shop: Shop, tmp_path: Path):
    settings = all_settings(
        tmp_path, lake=own_shop.lake._settings, registry=RegistrySettings(folder=own_shop.folder), endpoint=OFTEN
    )
    query, pairs = next(own_shop.queries())
    documents = [*({"product_id": one} for one in own_shop.asked(pairs)[0]), {"product_id": NEW.product_id}, "a lamp"]
    body = {"model": "ranker", "query": query, "documents": documents}
    stopping, versions = threading.Event(), list[str]()

    def ask(url: str) -> int:
        answers = 0
        with httpx.Client(base_url=url, timeout=TIMEOUT) as client:
            while not stopping.is_set():
                answer = client.post("/v1/rerank", json=body)
                assert answer.status_code == 200, answer.text
                scores = [result["relevance_score"] for result in answer.json()["results"]]
                assert len(scores) == len(documents)
                assert scores == sorted(scores, reverse=True)
                versions.append(answer.json()["model_version"])
                answers += 1
        return answers

    with (
        small_ray(),
        LocalStore(settings.store.path, settings.store.max_bytes) as store,
        Answers(store) as answers,
        served(EndpointOfARanker(own_shop, settings, store, answers).app) as url,
        ThreadPoolExecutor(2) as pool,
    ):
        actor = ray.remote(RankerActor).options(**ranker_options(settings)).remote(settings)
        assert ray.get(actor.ping.remote(), timeout=TIMEOUT)
        calls = [pool.submit(ask, url) for _ in range(2)]
        try:
            for version in (own_shop.first, own_shop.second, own_shop.first):
                own_shop.promote(version)
                wait_for(lambda now=version: now in versions[-1:] or any(call.done() for call in calls))
        finally:
            stopping.set()
        assert all(call.result(TIMEOUT) > 0 for call in calls)
    assert set(versions) == {own_shop.first, own_shop.second}


@pytest.mark.slow
def test_the_actor_ranks_on_while_its_champion_changes(own_shop: Shop, tmp_path: Path):
    settings = all_settings(
        tmp_path,
        lake=own_shop.lake._settings,
        registry=RegistrySettings(folder=own_shop.folder),
        endpoint=OFTEN,
    )
    with small_ray():
        actor = ray.remote(RankerActor).options(**ranker_options(settings)).remote(settings)
        assert ray.get(actor.ping.remote(), timeout=TIMEOUT)
        named = ray.get_actor("ranker-0", namespace=settings.ray.namespace)
        query, pairs = next(own_shop.queries())
        versions = []
        for version in (own_shop.second, own_shop.first):
            own_shop.promote(version)
            while not versions or versions[-1] != version:
                calls = [named.rank.remote(query, *own_shop.asked(pairs)) for _ in range(8)]
                versions += [answer.version for answer in ray.get(calls, timeout=TIMEOUT)]
        assert set(versions) <= {own_shop.first, own_shop.second}
        answer = ray.get(actor.rank.remote(query, ["gone", InlineProduct(title="Sofa")], None), timeout=TIMEOUT)
        assert answer.errors[0].field == "documents.0.product_id"
        assert ray.get(actor.describe.remote(), timeout=TIMEOUT).version == own_shop.first
        assert ray.get(actor.report.remote(), timeout=TIMEOUT).pairs >= len(versions)


def _version(ranker: ProductRanker) -> str:
    description = ranker.describe()
    assert description is not None
    return description.version


def _promoted_at(ranker: ProductRanker) -> Any:
    description = ranker.describe()
    assert description is not None
    return description.promoted_at
