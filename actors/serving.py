"""The application as Ray Serve runs it: models and stream in one deployment, HTTP in another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from labelstream.actors.answers import Answers
from labelstream.actors.catalogue_follower import CatalogueFollower
from labelstream.actors.cluster import as_callers_error
from labelstream.actors.endpoint.app import make_app
from labelstream.actors.endpoint.doorkeeper import Doorkeeper
from labelstream.actors.endpoint.listener import Listener
from labelstream.actors.endpoint.logs import configure_logging, serve_logging
from labelstream.actors.endpoint.problems import RETRY_AFTER_S
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.actors.listening import refuse_open_door
from labelstream.actors.loopback import keep_replica_on_loopback
from labelstream.actors.models_deployment import Models
from labelstream.actors.on_demand import OnDemand
from labelstream.actors.on_demand_pool import Pool
from labelstream.actors.remote import cpus_of
from labelstream.schemas.errors import LabelstreamError, ModelUnavailable
from labelstream.schemas.settings import Settings
from labelstream.streaming.local_store import LocalStore

NAME = "labelstream"
MODELS, ENDPOINT = "Models", "Endpoint"
# Beyond what the endpoint takes in, so that it is the endpoint that refuses, at once and in its own words.
_REFUSALS_AT_ONCE = 1000
# Where no replica can take a request, because they start again, Serve lets it wait: without this, any number of them.
# Not fewer, because a burst waits too, for the moment that it takes to choose a replica.
WAITING: dict[str, Any] = {
    "max_queued_requests": _REFUSALS_AT_ONCE,
    "backpressure_config": {"retry_after_s": RETRY_AFTER_S},
}
_HEALTH_CHECK_S = 5.0
_ASK_S, _CLOSING_S = 2.0, 30.0


class Arguments(BaseModel):
    """Arguments of the application in a Serve configuration file."""

    model_config = ConfigDict(extra="forbid")

    with_stream: bool = False


class Endpoint:
    """One replica of the HTTP endpoint.

    Args:
        settings: All settings.
        models: Handle of ``Models``.
    """

    async def __init__(self, settings: Settings, models: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        configure_logging(settings)
        if settings.ray.address is None:
            keep_replica_on_loopback()
        await asyncio.to_thread(refuse_open_door, settings.endpoint)  # however Serve was started
        self._settings, self._models, self._closing = settings, models, ExitStack()
        self._description = await models.describe.remote()
        self._store = self._closing.enter_context(LocalStore(settings.store.path, settings.store.max_bytes))
        self._closing.enter_context(CatalogueFollower(settings, self._store))
        self._answers = self._closing.enter_context(Answers(self._store))
        self._pool = Pool.of(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve after the constructor."""
        return self._make_app(id_is_echoed=True)

    def _make_app(self, *, id_is_echoed: bool) -> FastAPI:
        telemetry = Telemetry(self._settings, serve.get_replica_context().replica_id.unique_id)
        self._closing.callback(telemetry.close)
        keep = _call(self._models.keep) if self._settings.endpoint.keep_labels else None
        services = OnDemand(
            self._settings,
            self._description,
            self._pool,
            self._store,
            self._answers,
            keep=keep,
            behind=_call(self._models.metrics),
        )
        return make_app(self._settings, services, telemetry, id_is_echoed=id_is_echoed)

    async def check_health(self) -> None:
        """Ray Serve asks; a label must carry the version of the model that made it, and Labellers come and go.

        Raises:
            RuntimeError: ``Models`` has been started again, with other models.
        """
        with suppress(LabelstreamError, TimeoutError):  # whoever looks after the models knows that they are away
            async with asyncio.timeout(_ASK_S):
                if await _call(self._models.describe)() != self._description:
                    raise RuntimeError("there are other models now")
                self._pool.labellers.use(await _call(self._models.labellers)())

    async def __del__(self) -> None:
        """Ray Serve awaits it once the last request has its answer, within the time for a graceful shutdown."""
        await asyncio.to_thread(self._closing.close)


class ListeningEndpoint(Endpoint):
    """One replica that listens itself, for a machine that has no other way in.

    Ray Serve's proxy and the way from it to a replica cost more time than judging a pair does.

    Args:
        settings: All settings.
        models: Handle of ``Models``.
        port: To listen at; replicas of one machine share it.
    """

    async def __init__(self, settings: Settings, models: Any, port: int) -> None:  # type: ignore[misc]  # Serve awaits it
        await super().__init__(settings, models)
        app = self._make_app(id_is_echoed=False)
        self._listener = Listener(app, settings.endpoint.host, port, settings.endpoint.deadline_s)
        await self._listener.start()

    async def __del__(self) -> None:
        await self._listener.close()
        await super().__del__()


def _call(method: Any) -> Callable[..., Awaitable[Any]]:
    """A method of ``Models``, whose errors are ours."""

    async def call(*arguments: Any) -> Any:
        try:
            return await method.remote(*arguments)
        except RayError as error:
            raise as_callers_error(error, MODELS) from None
        except RayServeException as error:
            raise ModelUnavailable(f"{MODELS}: {error}") from error

    return call


def application(arguments: dict[str, Any]) -> serve.Application:
    """Import path ``labelstream.actors.serving:application`` of a Serve configuration file.

    Args:
        arguments: See ``Arguments``; all settings come from the environment.

    Raises:
        SettingsError: A setting that cannot work.
    """
    settings = Settings.load()
    refuse_open_door(settings.endpoint)  # before the models are loaded
    return build(settings, with_stream=Arguments.model_validate(arguments).with_stream)


def build(settings: Settings, *, with_stream: bool, port: int | None = None) -> serve.Application:
    """The application.

    Args:
        settings: All settings.
        with_stream: Run the stream too.
        port: Where the endpoint listens itself; None leaves that to Ray Serve's proxy.

    Raises:
        SettingsError: Nobody could come in.
    """
    Doorkeeper(settings.endpoint)  # found out here, before the models are loaded
    shared = {
        "health_check_period_s": _HEALTH_CHECK_S,
        "logging_config": serve_logging(settings),
        "ray_actor_options": {"num_cpus": cpus_of(settings)},
        **WAITING,
    }
    models = serve.deployment(
        name=MODELS,
        num_replicas=1,
        max_ongoing_requests=_REFUSALS_AT_ONCE,
        # The stream's batches, then the answers that are under way, then the labels to be kept.
        graceful_shutdown_timeout_s=settings.stream.shutdown_s + settings.endpoint.deadline_s + _CLOSING_S,
        **shared,
    )(Models)
    endpoint = serve.deployment(
        name=ENDPOINT,
        num_replicas=settings.endpoint.replicas,
        max_ongoing_requests=settings.endpoint.max_requests + _REFUSALS_AT_ONCE,
        graceful_shutdown_timeout_s=settings.endpoint.deadline_s + _CLOSING_S,
        **shared,
    )
    pool = models.bind(settings, with_stream)
    if port is None:
        return endpoint(serve.ingress()(Endpoint)).bind(settings, pool)
    return endpoint(ListeningEndpoint).bind(settings, pool, port)
