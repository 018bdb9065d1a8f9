from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lakes import MOMENT, all_settings
from patience import TIMEOUT

from labelstream.actors.answers import Answers
from labelstream.actors.asked_pairs import unknown_product
from labelstream.actors.endpoint.services import AskedPair, Labelled, Request
from labelstream.actors.on_demand import OnDemand
from labelstream.actors.on_demand_pool import Pool, PoolDescription
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.actors.ranker_actor import RankedDocuments, RankerDescription
from labelstream.schemas.errors import BadRecord, ModelUnavailable
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.product import Product
from labelstream.schemas.prompt_encoder import no_room
from labelstream.schemas.settings import Settings
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.known_product import KnownProduct
from labelstream.streaming.local_store import LocalStore

DESCRIPTION = PoolDescription(JudgeDescription("model", "prompt", "scale", 1.0), "encoder")
SOFA = Product(product_id="p1", title="red sofa", alternative_ids=["ean1"])
LAMP = Product(product_id="p2", title="blue lamp")


class CountingReplicas:
    """Answers at once, and remembers what it was asked."""

    def __init__(self, answer: Any, count: int = 1) -> None:
        self.answer, self.count = answer, count
        self.calls: list[tuple[Any, ...]] = []

    async def call(self, method: str, *arguments: Any, deadline: float) -> Any:
        assert deadline > time.monotonic()
        if arguments:
            self.calls.append((method, *arguments))
        return self.answer(*arguments) if arguments else True

    async def any_answers(self, deadline: float) -> bool:
        assert deadline > time.monotonic()
        return True


class AbsentReplicas(CountingReplicas):
    """Is not there."""

    async def call(self, method: str, *_: Any, **__: Any) -> Any:
        raise ModelUnavailable(f"{method}: nobody is there")

    async def any_answers(self, deadline: float) -> bool:
        assert deadline > time.monotonic()
        return False


class SlowReplicas(CountingReplicas):
    """Never answers in time."""

    async def call(self, method: str, *_: Any, **__: Any) -> Any:
        raise TimeoutError(method)


class FaultyReplicas(CountingReplicas):
    """Is there, and fails in a way that nobody thought of."""

    async def call(self, _: str, *arguments: Any, **__: Any) -> Any:
        if arguments:
            raise RuntimeError("CUDA out of memory")
        return True


class RankerWithoutChampion(CountingReplicas):
    """Is there, and has nobody to rank by."""

    async def call(self, method: str, *_: Any, **__: Any) -> Any:
        return None if method == "describe" else True


class FaultyRanker(CountingReplicas):
    """Fails in a way that nobody thought of."""

    async def call(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a bug")


class NewChampion(CountingReplicas):
    """Has another champion than it said; the new one needs scores of the cross-encoder."""

    def __init__(self) -> None:
        super().__init__(None)
        self.is_known = False

    async def call(self, method: str, *arguments: Any, **_: Any) -> Any:
        if method == "describe":
            version = "new" if self.is_known else "old"
            return RankerDescription(version, MOMENT, (), self.is_known, None, 0)
        self.calls.append((method, *arguments))
        self.is_known = True
        _, documents, scores = arguments
        lacks = scores is None
        return RankedDocuments(np.array([0.5] * len(documents) if lacks else scores), "new", {}, lacks)


class LateRanker(CountingReplicas):
    """Has read nothing of the catalogue yet but one product; gives the longer title the higher score."""

    def __init__(self, known: Product) -> None:
        super().__init__(None)
        self.known = known

    async def call(self, method: str, *arguments: Any, **_: Any) -> Any:
        if method == "describe":
            return RankerDescription("v1", MOMENT, (), False, None, 1)
        self.calls.append((method, *arguments))
        found = [self.known if one == self.known.product_id else one for one in arguments[1]]
        errors = {number: unknown_product(one) for number, one in enumerate(found) if isinstance(one, str)}
        scores = [float("nan") if isinstance(one, str) else len(one.title) / 100 for one in found]
        return RankedDocuments(np.array(scores), "v1", errors, False)


def judge(queries: list[str], products: list[str], priority: int) -> Judgements:
    """High, unless the product's text asks for something else; "unreadable" cannot be judged, nor can "endless"."""
    assert priority == REQUEST_PRIORITY
    errors = {i: BadRecord("too odd") for i, text in enumerate(products) if "unreadable" in text}
    errors |= {i: no_room(600, 512) for i, query in enumerate(queries) if query == "endless"}
    rows = np.tile(np.array([0.1, 0.2, 0.7], np.float32), (len(queries), 1))
    return Judgements(rows, np.zeros(len(queries), np.bool_), errors)


def score(queries: list[str], products: list[str], priority: int) -> list[float]:
    assert priority == REQUEST_PRIORITY
    return [len(text) / 1000 for _, text in zip(queries, products, strict=True)]


def score_but_lamps(queries: list[str], products: list[str], priority: int) -> list[float]:
    scores = score(queries, products, priority)
    return [float("nan") if "lamp" in text else one for one, text in zip(scores, products, strict=True)]


class Asked:
    """The service over stand-ins, and what they were asked."""

    def __init__(
        self,
        settings: Settings,
        store: LocalStore,
        answers: Answers,
        *,
        keeps: bool = False,
        encoders: Any = None,
        ranker: Any = None,
    ) -> None:
        self.labellers, self.encoders = CountingReplicas(judge), encoders or CountingReplicas(score)
        self.store, self.kept = store, list[dict[str, Any]]()
        self.keeper_is_there = True
        self.behind: Mapping[str, int] | None = None
        pool: Any = Pool(self.labellers, self.encoders, ranker or AbsentReplicas(None))  # type: ignore[arg-type]
        keep = self._keep if keeps else None
        self.service = OnDemand(settings, DESCRIPTION, pool, store, answers, keep=keep, behind=self._behind)

    async def _keep(self, rows: list[dict[str, Any]]) -> None:
        if not self.keeper_is_there:
            raise ModelUnavailable("the models are restarting")
        self.kept += rows

    async def _behind(self, store: Mapping[str, int]) -> str:
        return f"products {(store if self.behind is None else self.behind)['products']}"

    def label(self, *pairs: AskedPair, request_id: str = "r", **options: Any) -> list[Labelled | BadRecord]:
        request = Request(request_id, time.monotonic() + 60)
        return asyncio.run(self.service.label(pairs, request, **({"cross_encoder": False} | options)))

    def rerank(self, *documents: str | Product, model: Any = None, query: str = "red sofa") -> Any:
        request = Request("r", time.monotonic() + 60)
        return asyncio.run(self.service.rerank(query, documents, request, model=model))


Ask = Callable[..., Asked]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings(tmp_path)


@pytest.fixture
def ask(settings: Settings) -> Iterator[Ask]:
    """Makes services over one store."""
    with LocalStore(settings.store.path, settings.store.max_bytes) as store, Answers(store) as answers:
        with store.writer() as writer:
            writer.put_products([KnownProduct.of(SOFA), KnownProduct.of(LAMP)])
        yield partial(Asked, settings, store, answers)


def labelled(answer: Labelled | BadRecord) -> Labelled:
    assert isinstance(answer, Labelled), answer
    return answer


def test_the_same_pair_in_one_request_is_judged_once(ask: Ask):
    asked = ask()
    answers = asked.label(AskedPair("Red  Sofa", "p1"), AskedPair("red sofa", "ean1"), AskedPair("red sofa", "p2"))
    assert [len(call[1]) for call in asked.labellers.calls] == [2]
    first, second, third = map(labelled, answers)
    assert first.record == second.record
    assert (third.record.product_id, third.cached, third.record.level) == ("p2", False, "high")


def test_an_answer_is_remembered(ask: Ask):
    asked = ask()
    [fresh] = map(labelled, asked.label(AskedPair("red sofa", "p1"), request_id="first"))
    [known] = map(labelled, asked.label(AskedPair("red sofa", "p1"), request_id="second"))
    assert len(asked.labellers.calls) == 1
    assert (fresh.cached, known.cached) == (False, True)
    assert fresh.record.request_id == "first"
    assert known.record == fresh.record.model_copy(update={"request_id": None})


def test_the_cross_encoder_adds_what_a_known_label_lacks_once(ask: Ask):
    asked = ask()
    asked.label(AskedPair("red sofa", "p1"))
    for _ in range(2):
        [answer] = map(labelled, asked.label(AskedPair("red sofa", "p1"), cross_encoder=True))
        assert answer.cached
        assert answer.record.cross_encoder_version == "encoder"
        assert answer.record.cross_encoder_score == pytest.approx(len("Title: red sofa\n") / 1000)
    assert (len(asked.labellers.calls), len(asked.encoders.calls)) == (1, 1)


def test_what_cannot_be_judged_is_an_error_of_its_own_pair(ask: Ask):
    odd = Product(product_id="x", title="unreadable")
    asked = ask()
    good, unknown, unreadable, empty = asked.label(
        AskedPair("q", "p1"), AskedPair("q", "nope"), AskedPair("q", odd), AskedPair("  ", "p1")
    )
    assert labelled(good).record.product_id == "p1"
    assert [getattr(one, "field", None) for one in (unknown, unreadable, empty)] == ["product_id", "", "query"]
    assert "nope" in str(unknown)


def test_a_query_that_fills_the_prompt_is_named_as_it_is_in_the_request(ask: Ask):
    asked = ask()
    [error, _] = asked.label(AskedPair("Endless", "p1"), AskedPair("q", "p1"))
    assert isinstance(error, BadRecord)
    assert (error.field, str(error).partition(" ")[0]) == ("query", "query:")
    with pytest.raises(BadRecord, match="query: takes 600 tokens") as caught:
        asked.rerank("p1", model="labeller", query="endless")
    assert caught.value.field == "query"


def test_labels_of_the_catalogue_are_kept_and_others_are_not(ask: Ask):
    asked = ask(keeps=True)
    pairs = AskedPair("q", "p1"), AskedPair("q", Product(product_id="mine", title="my own"))
    asked.label(*pairs, request_id="why")
    assert [(row["product_id"], row["request_id"], row["cross_encoder_version"]) for row in asked.kept] == [
        ("p1", "why", "encoder")
    ]


def test_a_ranking_needs_every_document(ask: Ask):
    asked = ask()
    for model in ("cross-encoder", "labeller"):
        with pytest.raises(BadRecord, match="nope") as error:
            asked.rerank("p1", "nope", model=model)
        assert error.value.field == "documents.1.product_id"


def test_the_best_model_that_there_is_ranks(ask: Ask):
    ranking = ask().rerank("p2", SOFA)
    assert (ranking.model, ranking.version) == ("cross-encoder", "encoder")
    assert list(ranking.scores) == pytest.approx([len("Title: blue lamp\n") / 1000, len("Title: red sofa\n") / 1000])
    alone = ask(encoders=CountingReplicas(score, 0)).rerank("p2", SOFA)
    assert (alone.model, alone.scores) == ("labeller", [pytest.approx(0.8)] * 2)


def test_without_a_champion_the_ranker_says_what_to_do(ask: Ask):
    with pytest.raises(BadRecord, match="labelstream retrain") as error:
        ask(ranker=RankerWithoutChampion(None)).rerank("p1", model="ranker")
    assert error.value.field == "model"


def test_a_ranker_that_does_not_answer_is_unavailable_and_others_rank_meanwhile(ask: Ask):
    for ranker in (AbsentReplicas(None), SlowReplicas(None)):
        with pytest.raises(ModelUnavailable, match="ranker"):
            ask(ranker=ranker).rerank("p1", model="ranker")
        assert ask(ranker=ranker).rerank("p1").model == "cross-encoder"


def test_a_product_that_the_ranker_has_not_read_yet_is_ranked_by_its_text(ask: Ask):
    ranker = LateRanker(known=SOFA)
    own = Product(product_id="p3", title="green")
    for best in ("ranker", None):
        assert list(ask(ranker=ranker).rerank("ean1", "p2", own, model=best).scores) == [0.08, 0.09, 0.05]
    assert ranker.calls[-1][2] == ["p1", Product(product_id="p2", title="blue lamp", attributes={}), own]


def test_a_fault_of_the_ranker_keeps_nobody_from_the_other_models(ask: Ask, caplog: pytest.LogCaptureFixture):
    asked = ask(ranker=FaultyRanker(None))
    assert [entry.id for entry in asyncio.run(asked.service.models())] == ["cross-encoder", "labeller"]
    assert asked.rerank("p1").model == "cross-encoder"
    with pytest.raises(ModelUnavailable, match="ZeroDivisionError; the log of the endpoint has more"):
        asked.rerank("p1", model="ranker")
    assert "a bug" in caplog.text


def test_a_champion_that_came_meanwhile_is_given_the_scores_that_it_needs(ask: Ask):
    ranker = NewChampion()
    asked = ask(ranker=ranker)
    expected = [len("Title: blue lamp\n") / 1000, len("Title: red sofa\n") / 1000]
    for rankings, scorings in ((2, 1), (3, 2)):  # the second request knows
        ranking = asked.rerank("p2", SOFA, model="ranker")
        assert (ranking.version, list(ranking.scores)) == ("new", pytest.approx(expected))
        assert (len(ranker.calls), len(asked.encoders.calls)) == (rankings, scorings)


def test_where_the_cross_encoder_is_switched_off_its_scores_are_missed_aloud_and_once(
    ask: Ask, caplog: pytest.LogCaptureFixture
):
    asked = ask(ranker=NewChampion(), encoders=CountingReplicas(score, 0))
    for _ in range(2):
        assert asked.rerank("p2", SOFA, model="ranker").version == "new"
    assert [record.getMessage() for record in caplog.records] == [
        "ranker new was trained with scores of the cross-encoder, which is switched off"
    ]


def test_it_waits_for_every_kind_of_model_that_there_is(ask: Ask):
    there, nobody = CountingReplicas(None), CountingReplicas(None, 0)
    assert asyncio.run(ask(ranker=there).service.waiting_for()) == []
    assert asyncio.run(ask(encoders=nobody).service.waiting_for()) == ["ranker"]
    assert asyncio.run(ask(encoders=AbsentReplicas(None), ranker=there).service.waiting_for()) == ["cross-encoder"]


def test_what_was_judged_before_the_request_failed_is_not_judged_again(ask: Ask):
    failing = ask(encoders=AbsentReplicas(None))
    with pytest.raises(ModelUnavailable):
        failing.label(AskedPair("red sofa", "p1"), cross_encoder=True)
    [again] = map(labelled, failing.label(AskedPair("red sofa", "p1")))
    assert (again.cached, len(failing.labellers.calls)) == (True, 1)


def test_a_label_that_cannot_be_kept_is_an_answer_all_the_same_and_is_kept_when_it_is_asked_for_again(ask: Ask):
    asked = ask(keeps=True)
    asked.keeper_is_there = False
    [answer] = map(labelled, asked.label(AskedPair("red sofa", "p1"), request_id="first"))
    assert (answer.cached, asked.kept) == (False, [])
    asked.keeper_is_there = True
    [answer] = map(labelled, asked.label(AskedPair("red sofa", "p1"), request_id="second"))
    assert (answer.cached, answer.record.request_id) == (True, None)
    assert [(row["label_key"], row["request_id"]) for row in asked.kept] == [(answer.record.label_key, "second")]


@pytest.mark.parametrize("absent", [AbsentReplicas, SlowReplicas, FaultyReplicas])
def test_without_the_cross_encoder_labels_are_answered_and_kept_once_it_is_back(
    ask: Ask, absent: type[CountingReplicas], caplog: pytest.LogCaptureFixture
):
    asked = ask(keeps=True, encoders=absent(score))
    [answer] = map(labelled, asked.label(AskedPair("red sofa", "p1")))
    assert (answer.cached, answer.record.cross_encoder_score, asked.kept) == (False, None, [])
    assert "1 labels are kept only when somebody asks for them again" in caplog.text
    back = ask(keeps=True)
    assert labelled(back.label(AskedPair("red sofa", "p1"))[0]).cached
    assert [row["cross_encoder_version"] for row in back.kept] == ["encoder"]


def test_a_fault_of_the_cross_encoder_is_told_to_those_who_asked_for_its_score_and_logged(
    ask: Ask, caplog: pytest.LogCaptureFixture
):
    faulty = ask(encoders=FaultyReplicas(score))
    with pytest.raises(ModelUnavailable, match="try again later, or ask for what does not need it"):
        faulty.label(AskedPair("red sofa", "p1"), cross_encoder=True)
    assert "CUDA out of memory" in caplog.text
    [answer] = map(labelled, faulty.label(AskedPair("red sofa", "p1")))
    assert (answer.cached, len(faulty.labellers.calls)) == (True, 1)
    with pytest.raises(ModelUnavailable, match="ask for what does not need it"):
        faulty.rerank("p1", model="cross-encoder")


def test_where_the_cross_encoder_says_no_number_labels_have_none_and_rankings_name_the_document(ask: Ask):
    asked = ask(keeps=True, encoders=CountingReplicas(score_but_lamps))
    [sofa, lamp] = map(labelled, asked.label(AskedPair("q", "p1"), AskedPair("q", "p2"), cross_encoder=True))
    assert sofa.record.cross_encoder_score is not None
    assert (lamp.record.cross_encoder_score, lamp.record.cross_encoder_version) == (None, "encoder")
    kept = {row["product_id"]: row["cross_encoder_score"] for row in asked.kept}
    assert kept == {"p1": sofa.record.cross_encoder_score, "p2": None}
    asked.label(AskedPair("q", "p2"), cross_encoder=True)
    assert len([call for call in asked.encoders.calls if call[0] == "score"]) == 1  # it would say the same again
    with pytest.raises(BadRecord, match="cross-encoder's answer is not a number") as caught:
        asked.rerank("p1", "p2", model="cross-encoder")
    assert caught.value.field == "documents.1"


def test_the_ranker_is_told_that_a_score_is_missing(ask: Ask):
    ranker = NewChampion()
    ranking = ask(ranker=ranker, encoders=CountingReplicas(score_but_lamps)).rerank("p1", "p2", model="ranker")
    assert ranking.version == "new"
    assert np.isnan(ranker.calls[-1][-1]).tolist() == [False, True]


def test_a_fault_in_keeping_labels_costs_no_answer(ask: Ask, caplog: pytest.LogCaptureFixture):
    asked = ask(keeps=True)
    asked.kept = None  # type: ignore[assignment]  # whoever keeps them has a fault
    [answer] = map(labelled, asked.label(AskedPair("red sofa", "p1")))
    assert not answer.cached
    assert "1 labels are kept only when somebody asks for them again: TypeError" in caplog.text


def test_only_what_is_kept_is_scored_unasked(ask: Ask):
    asked = ask(keeps=True)
    own = AskedPair("red sofa", Product(product_id="mine", title="my own"))
    assert labelled(asked.label(own)[0]).record.cross_encoder_score is None
    asked.label(own, AskedPair("red sofa", "p2"))
    assert [call[2] for call in asked.encoders.calls if call[0] == "score"] == [["Title: blue lamp\n"]]


def test_a_label_that_the_lake_has_is_not_kept_again(ask: Ask):
    asked = ask(keeps=True)
    asked.label(AskedPair("red sofa", "p1"))
    with asked.store.writer() as writer:
        writer.put_labels(map(KnownLabel.of, asked.kept))
    asked.label(AskedPair("red sofa", "p1"))
    assert len(asked.kept) == 1


def test_a_store_that_somebody_else_writes_to_holds_nobody_up(ask: Ask):
    asked, locked, release = ask(), threading.Event(), threading.Event()

    def fill() -> None:
        with asked.store.writer():
            locked.set()
            assert release.wait(TIMEOUT)

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        assert locked.wait(TIMEOUT)
        answers = [labelled(asked.label(AskedPair("red sofa", "p1"))[0]) for _ in range(3)]
    finally:
        release.set()
        filling.join()
    assert [answer.cached for answer in answers] == [False, True, True]


def test_answers_are_on_disk_when_it_ends(settings: Settings):
    label = KnownLabel("0" * 32, (0.25, 0.75), False, MOMENT)
    with LocalStore(settings.store.path, settings.store.max_bytes) as store:
        with Answers(store) as answers:
            answers.put([label])
            assert label.label_key in answers.recent or written(store, label)
        assert written(store, label)


def test_a_full_store_loses_answers_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    label = KnownLabel("0" * 32, (0.25, 0.75), False, MOMENT)
    many = [label._replace(label_key=f"{number:032x}", cross_encoder_version="v" * 400) for number in range(8000)]
    with LocalStore(tmp_path, 1 << 20) as store:
        with Answers(store) as answers:
            answers.put(many)
        assert "LABELSTREAM_STORE_MAX_BYTES" in caplog.text
        with Answers(store) as answers:
            answers.put([label])
        assert written(store, label)


def test_metrics_tell_how_much_the_store_holds(ask: Ask):
    assert asyncio.run(ask().service.metrics()) == "products 2"


def test_a_fault_behind_the_metrics_is_logged_and_borne_as_an_outage(ask: Ask, caplog: pytest.LogCaptureFixture):
    asked = ask()
    asked.behind = {}  # knows of no products
    with pytest.raises(ModelUnavailable, match="KeyError"):
        asyncio.run(asked.service.metrics())
    assert "the models could not tell their figures" in caplog.text


def written(store: LocalStore, label: KnownLabel) -> bool:
    with store.reader() as reader:
        return reader.label(label.label_key) == label
