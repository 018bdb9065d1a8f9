from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from models import shop_texts, tiny_cross_encoder, tiny_llama
from patience import TIMEOUT
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from labelstream.actors.cross_encoder import CrossEncoderActor, cross_encoder_options
from labelstream.actors.labeller import Labeller, labeller_options
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.schemas.errors import BadRecord, ModelUnavailable
from labelstream.schemas.settings import Settings

pytestmark = pytest.mark.engine


class FragileLabeller(Labeller):
    """A Labeller whose engine can be broken from outside."""

    async def break_engine(self) -> None:
        """Let the next step of the engine fail."""
        from vllm.v1.engine.llm_engine import LLMEngine

        def broken(_: LLMEngine) -> None:
            raise RuntimeError("device lost")

        LLMEngine.step = broken


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    labeller = {
        "model": str(tiny_llama(tmp_path_factory.mktemp("llama"))),
        "cache_gigabytes": 0.1,
        "dtype": "float32",
        "threads": 1,
    }
    encoder = {"model": str(tiny_cross_encoder(tmp_path_factory.mktemp("bert"))), "threads": 1}
    return Settings.load(labeller=labeller, encoder=encoder)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[None]:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, namespace=settings.ray.namespace)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def labeller(cluster: None, settings: Settings) -> Any:  # noqa: ARG001 - Ray has to be up
    options = labeller_options(settings)
    options["runtime_env"]["env_vars"]["PYTHONPATH"] = str(Path(__file__).parent)  # where FragileLabeller is
    actor = ray.remote(FragileLabeller).options(**options).remote(settings)
    ray.get(actor.ping.remote(), timeout=TIMEOUT)
    return actor


@pytest.fixture(scope="module")
def encoder(cluster: None, settings: Settings) -> Any:  # noqa: ARG001 - Ray has to be up
    actor = ray.remote(CrossEncoderActor).options(**cross_encoder_options(settings)).remote(settings)
    ray.get(actor.ping.remote(), timeout=TIMEOUT)
    return actor


def test_many_calls_at_once_each_get_their_own_answers(labeller: Any):
    products = shop_texts()[:48]
    alone = ray.get(labeller.judge.remote(["red sofa"] * 48, products), timeout=TIMEOUT).probabilities
    slices = [slice(start, start + 6) for start in range(0, 48, 6)]
    calls = [labeller.judge.remote(["red sofa"] * 6, products[part], priority=i % 2) for i, part in enumerate(slices)]
    for part, judgements in zip(slices, ray.get(calls, timeout=TIMEOUT), strict=True):
        np.testing.assert_allclose(judgements.probabilities, alone[part], atol=2e-4)


def test_errors_cross_the_process_border_whole(labeller: Any):
    judgements = ray.get(labeller.judge.remote(["sofa", "sofa " * 600], shop_texts()[:2]), timeout=TIMEOUT)
    assert isinstance(judgements.errors[1], BadRecord)
    assert judgements.errors[1].field == "user_query"


def test_bad_call_harms_nobody_else(labeller: Any):
    with pytest.raises(ValueError, match="1 queries but 0 products"):
        ray.get(labeller.judge.remote(["sofa"], []), timeout=TIMEOUT)
    assert ray.get(labeller.ping.remote(), timeout=TIMEOUT)


def test_report_counts(labeller: Any):
    before = ray.get(labeller.report.remote(), timeout=TIMEOUT)
    ray.get(labeller.judge.remote(["sofa", "sofa " * 600], shop_texts()[:2]), timeout=TIMEOUT)
    after = ray.get(labeller.report.remote(), timeout=TIMEOUT)
    assert (after.batches - before.batches, after.pairs - before.pairs, after.errors - before.errors) == (1, 2, 1)
    assert after.pairs_per_second > 0


def test_actor_can_be_found_by_name_and_described(labeller: Any, settings: Settings):
    found = ray.get_actor("labeller-0", namespace=settings.ray.namespace)
    theirs, ours = ray.get([found.describe.remote(), labeller.describe.remote()], timeout=TIMEOUT)
    assert theirs == ours
    assert ours.scale_version == settings.scale.version


def test_cross_encoder_actor_scores_and_reports(encoder: Any):
    scores = ray.get(encoder.score.remote(["red sofa"] * 5, shop_texts()[:5]), timeout=TIMEOUT)
    assert scores.shape == (5,)
    assert scores.dtype == np.float32
    description, report = ray.get([encoder.describe.remote(), encoder.report.remote()], timeout=TIMEOUT)
    assert description.kind == "cross-encoder"
    assert report.pairs == 5


def test_a_request_goes_before_the_stream_and_cancelled_calls_take_no_more_time(encoder: Any):
    texts, calls = shop_texts()[:200], 60
    before = ray.get(encoder.report.remote(), timeout=TIMEOUT).pairs
    stream = [encoder.score.remote([f"red sofa {part}"] * len(texts), texts) for part in range(calls)]
    assert ray.get(encoder.score.remote(["red sofa"], texts[:1], REQUEST_PRIORITY), timeout=TIMEOUT).shape == (1,)
    _, waiting = ray.wait(stream, num_returns=calls, timeout=0, fetch_local=False)
    assert waiting, "the request was answered last"
    for call in waiting:
        ray.cancel(call)
    ray.wait(stream, num_returns=calls, timeout=TIMEOUT)
    assert ray.get(encoder.report.remote(), timeout=TIMEOUT).pairs - before < calls * len(texts)


def test_options_set_compute_threads_beside_what_ray_sets(tmp_path: Path):
    settings = Settings.load(labeller={"model": str(tmp_path), "threads": 3, "gpus": 0, "cpus": 1})
    options = labeller_options(settings, replica=2)
    assert options["name"] == "labeller-2"
    assert options["max_restarts"] == -1
    assert options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "3"
    on_gpu = labeller_options(Settings.load(labeller={"model": str(tmp_path), "gpus": 0.5}))
    assert on_gpu["num_gpus"] == 0.5
    assert "OMP_NUM_THREADS" not in on_gpu["runtime_env"]["env_vars"]
    assert on_gpu["runtime_env"]["env_vars"]["VLLM_USE_FLASHINFER_SAMPLER"] == "0"  # an image has no CUDA compiler


def test_ray_restarts_a_labeller_whose_engine_died(labeller: Any):
    before = ray.get(labeller.describe.remote(), timeout=TIMEOUT)
    ray.get(labeller.break_engine.remote(), timeout=TIMEOUT)
    with pytest.raises((ActorUnavailableError, ActorDiedError, ModelUnavailable, RayTaskError)):
        ray.get(labeller.judge.remote(["sofa"], shop_texts()[:1]), timeout=TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            judgements = ray.get(labeller.judge.remote(["sofa"], shop_texts()[:1]), timeout=TIMEOUT)
            break
        except (ActorUnavailableError, ModelUnavailable):
            assert time.monotonic() < deadline
    assert np.isfinite(judgements.probabilities).all()
    assert ray.get(labeller.describe.remote(), timeout=TIMEOUT) == before
