"""What Ray Serve does in front of the endpoint, where it is Ray Serve that answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from labelstream.actors import local_serving
from labelstream.actors.cluster import start_ray
from labelstream.actors.listening import refuse_open_door
from labelstream.actors.serving import WAITING, application, build
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

LET_WAIT, PATIENCE_S = 2, 60
ANONYMOUS = {"allow_anonymous": True}


@pytest.mark.parametrize("with_stream", [False, True])
def test_no_queue_grows_without_a_bound(with_stream: bool):
    endpoint = build(Settings.load(endpoint=ANONYMOUS), with_stream=with_stream)._bound_deployment
    models = endpoint.init_args[1]._bound_deployment
    for deployment in (endpoint, models):
        assert 0 < deployment.max_queued_requests <= 1000
        assert deployment.backpressure_config.retry_after_s


@contextmanager
def serve_running(location: str, **options: Any) -> Iterator[None]:
    """A Serve of our own with nothing in it yet."""
    start_ray(Settings.load())
    try:
        serve.start(proxy_location=location, http_options=options)
        yield
        serve.shutdown()
    finally:
        ray.shutdown()


@pytest.fixture
def url() -> Iterator[str]:
    """Where Serve answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serve_running("HeadOnly", host="127.0.0.1", port=port, request_timeout_s=PATIENCE_S):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def open_to_everybody() -> Iterator[None]:
    """A Serve that would listen on all interfaces; its proxy is off, so that it does not while we test."""
    with serve_running("Disabled", host="0.0.0.0"):
        yield


class Starting:
    """A replica that is not there before a file is."""

    async def __init__(self, file: Path) -> None:  # type: ignore[misc]  # Serve awaits it
        while not file.exists():
            await asyncio.sleep(0.05)

    async def __call__(self) -> str:
        """Any request."""
        return "answered"


@pytest.mark.slow
def test_what_a_caller_gets_when_too_many_wait(url: str, tmp_path: Path):
    """As docs/http-api.md says: plain text, 503, Retry-After; those who wait are answered."""
    refuse_open_door(Settings.load(endpoint=ANONYMOUS).endpoint)  # this Serve is no open door
    options = WAITING | {"max_queued_requests": LET_WAIT, "ray_actor_options": {"num_cpus": 0}}
    app = serve.deployment(name="Starting", **options)(Starting).bind(tmp_path / "there")  # type: ignore[arg-type]
    serve.run_many([serve.RunTarget(app, name="waiting", route_prefix="/")], wait_for_applications_running=False)
    asked: set[Future[httpx.Response]] = set()
    with ThreadPoolExecutor(32) as threads:
        try:
            while not (done := wait(asked, 0.2, FIRST_COMPLETED).done) and len(asked) < 32:
                asked.add(threads.submit(httpx.get, url, timeout=PATIENCE_S))
            refused = done.pop().result()
        finally:
            (tmp_path / "there").touch()
        answers = [one.result() for one in asked]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["content-type"].startswith("text/plain")
    assert "backpressure" in refused.text
    assert {answer.text for answer in answers if answer.status_code == 200} == {"answered"}
    assert {answer.status_code for answer in answers} == {200, 503}


@pytest.mark.slow
@pytest.mark.usefixtures("open_to_everybody")
def test_nobody_is_anonymous_where_serve_is_open(monkeypatch: pytest.MonkeyPatch):
    """Neither by ``labelstream serve`` in a cluster that has a Serve already, nor by a Serve configuration file."""
    anonymous = Settings.load(endpoint=ANONYMOUS, ray={"address": "auto"})
    with monkeypatch.context() as patched:
        patched.setattr(local_serving, "start_ray", lambda _: None)  # it runs already, and goes on
        patched.setattr(ray, "shutdown", lambda: None)
        with (
            pytest.raises(SettingsError, match=r"listens on 0\.0\.0\.0"),
            local_serving.serving(anonymous, with_stream=False),
        ):
            pass
    assert not serve.status().applications
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS", "true")
    with pytest.raises(SettingsError, match="labelstream token add"):
        application({})
    refuse_open_door(Settings.load(endpoint={"allow_anonymous": False}).endpoint)
