"""A replica of the endpoint as Ray Serve makes and ends it, without Ray Serve."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from collectors import Collector, attributes
from lakes import all_settings

from labelstream.actors.endpoint import traces
from labelstream.actors.on_demand_pool import PoolDescription
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own, of pydantic
    from labelstream.actors import serving
    from labelstream.actors.serving import ENDPOINT, Endpoint, build


class KnownModels:
    """A handle of ``Models`` that says which models there are, and nothing else."""

    def __init__(self) -> None:
        self.describe = self.keep = self.metrics = SimpleNamespace(remote=self._describe)

    async def _describe(self) -> PoolDescription:
        return PoolDescription(JudgeDescription("model", "prompt", "scale", 1.0), "")


async def one_request_and_the_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray Serve does with a replica."""
    endpoint = Endpoint.__new__(Endpoint)
    await endpoint.__init__(settings, KnownModels())  # type: ignore[misc]
    app = endpoint.__serve_build_asgi_app__()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.post("/v1/labels", json={})).is_client_error  # nothing that would ask a model
    await endpoint.__del__()
    monkeypatch.delattr(Endpoint, "__del__")  # Python would call it again, and nobody would await it


def test_the_last_spans_are_sent_before_a_replica_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="r1"))
    monkeypatch.setattr(serving.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(serving, "configure_logging", lambda _: None)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # nothing is sent but at the end
    with Collector() as collector:
        observability = {"otlp_endpoint": collector.url}
        settings = all_settings(tmp_path, observability=observability, endpoint={"allow_anonymous": True})
        asyncio.run(one_request_and_the_end(settings, monkeypatch))
        [span] = collector.spans
    assert attributes(span)["http.route"] == "/v1/labels"


def test_a_replica_has_the_time_for_its_last_answer_and_its_last_spans():
    settings = Settings.load(endpoint={"allow_anonymous": True})
    endpoint = build(settings, with_stream=False)._bound_deployment
    assert endpoint.name == ENDPOINT
    allowed_s = endpoint._deployment_config.graceful_shutdown_timeout_s
    assert allowed_s > settings.endpoint.deadline_s + traces.CLOSE_S
