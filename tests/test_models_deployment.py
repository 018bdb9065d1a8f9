"""The deployment that owns the models, on a small real Ray and without Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import ray
from labellers import KnownLabeller
from lakes import all_settings
from patience import TIMEOUT
from rays import small_ray
from stream import wait_until

from labelstream.actors import model_pool, models_deployment
from labelstream.actors.models_deployment import Models
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings
from labelstream.schemas.settings import Settings


class MadeByHand(Models):
    """Ray Serve awaits its end; Python would not."""

    def __del__(self) -> None: ...  # type: ignore[override]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with small_ray(Settings().ray.namespace):
        yield


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of an endpoint without a stream."""
    monkeypatch.setattr(model_pool, "Labeller", KnownLabeller)
    monkeypatch.setattr(models_deployment, "RankerActor", KnownLabeller)
    monkeypatch.setattr(models_deployment, "configure_logging", lambda _: None)
    labeller = LabellerSettings(model=str(tmp_path), cpus=0, max_replicas=2, answer_timeout_s=30)
    return all_settings(tmp_path, labeller=labeller, encoder=EncoderSettings(enabled=False))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Models]:
    """As Ray Serve makes and ends a replica."""
    models = MadeByHand.__new__(MadeByHand)
    await models.__init__(settings, with_stream=False)  # type: ignore[misc]
    try:
        yield models
    finally:
        await Models.__del__(models)


def test_an_error_where_no_stream_runs_is_not_called_the_end_of_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no Labeller")

    async def look_at_it() -> str:
        async with running(settings) as models:
            models.check_health()
            monkeypatch.setattr(models._scaling, "look", fail)
            while (await models.state()).failure is None:
                await asyncio.sleep(0.05)
            with pytest.raises(RuntimeError) as error:
                models.check_health()
        return str(error.value)

    said = asyncio.run(asyncio.wait_for(look_at_it(), TIMEOUT))
    assert said == "the models are not looked after any more: ZeroDivisionError: no Labeller"
    assert "the models are not looked after any more" in caplog.text
    assert not any("the stream" in record.getMessage() for record in caplog.records)


def test_a_model_that_is_dead_for_good_and_that_nobody_replaces_is_told(settings: Settings):
    def unhealthy(models: Models) -> bool:
        try:
            models.check_health()
        except RuntimeError as error:
            return str(error) == "labeller-0 is dead and does not start again"
        return False

    async def look_at_it() -> None:
        async with running(settings) as models:
            ray.kill(ray.get_actor("labeller-0", namespace=settings.ray.namespace))
            await asyncio.to_thread(wait_until, lambda: unhealthy(models), TIMEOUT)
            assert (await models.state()).failure is None

    asyncio.run(look_at_it())


def test_without_a_ranker_that_answers_it_is_not_ready(settings: Settings):
    async def look_at_it() -> None:
        async with running(settings) as models:
            assert "labelstream_ready 1.0" in await models.metrics({})
            ray.kill(ray.get_actor("ranker-0", namespace=settings.ray.namespace))
            await asyncio.to_thread(wait_until, lambda: "labelstream_ready 0.0" in models._metrics({}), TIMEOUT)

    asyncio.run(look_at_it())
