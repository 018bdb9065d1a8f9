"""What answers here, whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from labelstream.actors.endpoint.bodies import JSON, json_answer
from labelstream.actors.endpoint.examples import NOT_READY
from labelstream.actors.endpoint.openapi import reference, responses
from labelstream.actors.endpoint.problems import RETRY_AFTER_S
from labelstream.actors.endpoint.services import Services
from labelstream.actors.endpoint.shared_answer import SharedAnswer
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.actors.metrics import Observed, metrics_text
from labelstream.schemas.errors import TransientError
from labelstream.schemas.http import Health, ModelsResponse

logger = logging.getLogger(__name__)

METRICS_PATIENCE_S = 4.0  # scrapers give up after 10 s, and our own figures must not wait for a model that hangs
READY_FRESH_S = 1.0  # anybody may ask, as often as they like, and every model is asked then


class Status:
    """Answers questions about the endpoint itself.

    Args:
        services: The models.
        telemetry: What counts.
    """

    def __init__(self, services: Services, telemetry: Telemetry) -> None:
        self.services, self.telemetry = services, telemetry
        self._waiting_for = SharedAnswer(services.waiting_for, READY_FRESH_S)

    def router(self) -> APIRouter:
        """The routes of it."""
        router = APIRouter(tags=["status"])
        figures = {200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}}
        ready = responses(Health)
        ready[503]["content"][JSON] = {"schema": reference(Health), "example": NOT_READY}
        metrics = responses(Health) | figures
        router.get("/v1/models", summary="What answers", responses=responses(ModelsResponse), tags=["models"])(
            self.models
        )
        # Load balancers may ask by HEAD. In the document the two methods of one route would share an id.
        router.add_api_route("/healthz", self.healthz, methods=["GET", "HEAD"], include_in_schema=False)
        router.add_api_route("/readyz", self.readyz, methods=["GET", "HEAD"], include_in_schema=False)
        router.get("/healthz", summary="Does it live?", responses=responses(Health))(self.healthz)
        router.get("/readyz", summary="Do all models answer?", responses=ready)(self.readyz)
        router.get("/metrics", summary="Figures for Prometheus", responses=metrics)(self.metrics)
        return router

    async def models(self) -> Response:
        """Which models answer, in which versions, and what their labels mean."""
        return json_answer(ModelsResponse(models=await self.services.models()))

    async def healthz(self) -> Response:
        """Answers as long as the process does; send requests while it does, restart it when it does not."""
        return json_answer(Health(status="ok"))

    async def readyz(self) -> Response:
        """For people and alerts; ``waiting_for`` names what is missing, and what does not need it is answered."""
        missing = await self._waiting_for()
        if missing:
            answer = json_answer(Health(status="not ready", waiting_for=missing), 503)
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
            return answer
        return json_answer(Health(status="ok"))

    async def metrics(self) -> Response:
        """Figures of this replica, and of the models, the stream and the lake behind it."""
        try:
            async with asyncio.timeout(METRICS_PATIENCE_S):
                behind = await self.services.metrics()
        except (TimeoutError, TransientError) as error:
            # They are wanted most when something is down.
            logger.warning("metrics without those of the models: %s", str(error) or type(error).__name__)
            behind = metrics_text(Observed(ready=False))
        return Response(self.telemetry.text() + behind, media_type=CONTENT_TYPE_LATEST)
