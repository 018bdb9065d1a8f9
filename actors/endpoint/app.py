"""The endpoint's HTTP application: everything that a request meets before it reaches a model."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from labelstream import __version__
from labelstream.actors.endpoint import page
from labelstream.actors.endpoint.admission import Admission
from labelstream.actors.endpoint.docs_page import add_docs_page
from labelstream.actors.endpoint.doorkeeper import Doorkeeper
from labelstream.actors.endpoint.front import FrontDoor
from labelstream.actors.endpoint.openapi import document_with
from labelstream.actors.endpoint.routes_labels import Labels
from labelstream.actors.endpoint.routes_rerank import Rerank
from labelstream.actors.endpoint.routes_status import Status
from labelstream.actors.endpoint.services import Services
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.actors.endpoint.texts import TextLimits
from labelstream.actors.endpoint.work import Workroom
from labelstream.schemas.settings import Settings

DESCRIPTION = (
    "Relevance labels for product search. Errors are application/problem+json (RFC 9457); every answer carries the "
    "request's id in X-Request-Id."
)


def make_app(settings: Settings, services: Services, telemetry: Telemetry, *, id_is_echoed: bool = False) -> FastAPI:
    """The application of one replica.

    Args:
        settings: Where ``endpoint`` and the lengths of texts matter.
        services: The models.
        telemetry: What counts; one a replica.
        id_is_echoed: Whether a proxy in front sends the header X-Request-Id back by itself, as Ray Serve's does.

    Raises:
        SettingsError: Nobody could come in, or the tokens cannot be read.
    """
    doorkeeper = Doorkeeper(settings.endpoint)
    app = FastAPI(
        title="labelstream",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    admission = Admission(settings.endpoint.max_requests, settings.endpoint.max_pairs)
    workroom, limits = Workroom(admission, settings.endpoint.max_body_bytes), TextLimits.of(settings)
    app.include_router(Labels(services, telemetry, workroom, limits).router())
    app.include_router(Rerank(services, telemetry, workroom, limits).router())
    app.include_router(Status(services, telemetry).router())
    app.include_router(page.router)
    add_docs_page(app)
    app.add_exception_handler(HTTPException, _to_the_front_door)
    app.openapi = document_with(app, anonymous=settings.endpoint.allow_anonymous)  # type: ignore[method-assign]
    app.add_middleware(
        FrontDoor,
        doorkeeper=doorkeeper,
        telemetry=telemetry,
        deadline_s=settings.endpoint.deadline_s,
        routes=frozenset(getattr(route, "path", "") for route in app.routes),
        id_is_echoed=id_is_echoed,
    )
    return app


async def _to_the_front_door(_: Request, error: Exception) -> Response:
    raise error  # FastAPI would answer in a shape of its own
