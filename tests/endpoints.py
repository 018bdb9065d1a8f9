"""The endpoint's HTTP layer with stand-ins behind it, each named for the behaviour that it has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from labelstream.actors.endpoint.app import make_app
from labelstream.actors.endpoint.connection import BoundedConnection
from labelstream.actors.endpoint.services import AskedPair, Labelled, Ranking, Request, Services
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.http import ModelEntry, RerankModel
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings

RECORD = LabelRecord(
    label_key="0" * 32,
    query="wireless mouse",
    product_id="P1001",
    product_hash="0" * 24,
    probabilities=(0.1, 0.2, 0.7),
    level="high",
    expected_score=0.8,
    polarized_score=0.9,
    model_version="model",
    prompt_version="prompt",
    scale_version="scale",
    judged_at=datetime(2026, 11, 21, tzinfo=UTC),
)


class InstantServices:
    """Answers at once: every pair has the same label, and a document is the better the shorter its text is.

    Products whose id starts with ``unknown`` are not in the catalogue; queries that are seen again are cached.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.asked: list[Sequence[Any]] = []
        self.options: list[Any] = []
        self.missing: list[str] = []
        self._seen: set[str] = set()

    async def label(
        self, pairs: Sequence[AskedPair], request: Request, *, cross_encoder: bool
    ) -> list[Labelled | BadRecord]:
        self._remember(pairs, request, cross_encoder)
        return [self._label(pair) for pair in pairs]

    def _label(self, pair: AskedPair) -> Labelled | BadRecord:
        product_id = pair.product if isinstance(pair.product, str) else pair.product.product_id
        if product_id.startswith("unknown"):
            return BadRecord(f"there is no product {product_id}", field="product_id")
        cached = pair.query in self._seen
        self._seen.add(pair.query)
        return Labelled(RECORD.model_copy(update={"query": pair.query, "product_id": product_id}), cached)

    async def rerank(
        self, query: str, documents: Sequence[str | Product], request: Request, *, model: RerankModel | None
    ) -> Ranking:
        self._remember([query, *documents], request, model)
        for index, document in enumerate(documents):
            if isinstance(document, str) and document.startswith("unknown"):
                raise BadRecord(f"there is no product {document}", field=f"documents.{index}.product_id")
        lengths = [len(document if isinstance(document, str) else document.title) for document in documents]
        return Ranking(model or "ranker", "v1", [1 / (1 + length) for length in lengths])

    async def models(self) -> list[ModelEntry]:
        return [ModelEntry(id="labeller", version="model", levels=("irrelevant", "moderate", "high"))]

    async def waiting_for(self) -> list[str]:
        return self.missing

    async def metrics(self) -> str:
        return "labelstream_behind 1.0\n"

    def _remember(self, asked: Sequence[Any], request: Request, option: Any) -> None:
        self.asked.append(asked)
        self.requests.append(request)
        self.options.append(option)


class FailingServices(InstantServices):
    """Raises the same error, whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def _remember(self, *_: Any) -> None:
        raise self._error

    async def models(self) -> list[ModelEntry]:
        raise self._error

    async def waiting_for(self) -> list[str]:
        raise self._error

    async def metrics(self) -> str:
        raise self._error


class HeldServices(InstantServices):
    """Starts to judge, and does not end before it is let go; sees whether it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.let_go, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    async def label(
        self, pairs: Sequence[AskedPair], request: Request, *, cross_encoder: bool
    ) -> list[Labelled | BadRecord]:
        self.started.set()
        try:
            while not self.let_go.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().label(pairs, request, cross_encoder=cross_encoder)


def endpoint_app(services: Services, telemetry: Telemetry | None = None, **endpoint: Any) -> FastAPI:
    """The application with settings of the endpoint; anonymous, unless there is a file of tokens."""
    endpoint.setdefault("allow_anonymous", "tokens_file" not in endpoint)
    settings = Settings.load(endpoint=endpoint)
    return make_app(settings, services, telemetry or Telemetry(settings, "replica-0"))


def client(services: Services | None = None, **endpoint: Any) -> TestClient:
    """A client of an application in the same process."""
    return local_client(endpoint_app(services or InstantServices(), **endpoint))


def local_client(app: FastAPI) -> TestClient:
    """A client that asks by an address of this machine, as is needed without a token."""
    return TestClient(app, base_url="http://127.0.0.1:8000")


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real socket; gives its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app, http=BoundedConnection, ws="none", log_config=None, lifespan="off", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def inline(query: str = "wireless mouse", title: str = "Logitech M185", **product: Any) -> dict[str, Any]:
    """A pair whose product the caller describes."""
    return {"query": query, "product": {"title": title, **product}}
