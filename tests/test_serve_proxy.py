"""What Ray Serve does in front of the endpoint, where it is Ray Serve that answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import ray
from patience import TIMEOUT
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation

from labelstream.actors import listening, local_serving
from labelstream.actors.cluster import start_ray
from labelstream.actors.listening import refuse_open_door
from labelstream.actors.serving import MODELS, application, build
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings
from labelstream.streaming.broker_node import free_ports

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


@contextmanager
def in_a_cluster_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray runs already, and is not ended."""
    with monkeypatch.context() as patched:
        patched.setattr(local_serving, "start_ray", lambda _: None)
        patched.setattr(ray, "shutdown", lambda: None)
        yield


@pytest.fixture
def open_to_everybody() -> Iterator[None]:
    """A Serve that would listen on all interfaces; its proxy is off, so that it does not while we test."""
    with serve_running("Disabled", host="0.0.0.0"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("open_to_everybody")
def test_nobody_is_anonymous_where_serve_is_open(monkeypatch: pytest.MonkeyPatch):
    """Neither by ``labelstream serve`` in a cluster that has a Serve already, nor by a Serve configuration file."""
    anonymous = Settings.load(endpoint=ANONYMOUS, ray={"address": "auto"})
    with (
        in_a_cluster_that_goes_on(monkeypatch),
        pytest.raises(SettingsError, match=r"listens on 0\.0\.0\.0"),
        local_serving.serving(anonymous, with_stream=False),
    ):
        pass
    assert not serve.status().applications
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS", "true")
    with pytest.raises(SettingsError, match="labelstream token add"):
        application({})
    refuse_open_door(Settings.load(endpoint={"allow_anonymous": False}).endpoint)


@serve.deployment(name=MODELS)
class Instant:
    """Answers at once, with no model behind it."""

    def __call__(self, _: Any) -> str:
        return "here"


@pytest.mark.slow
def test_the_address_is_that_of_the_serve_that_was_there_before(monkeypatch: pytest.MonkeyPatch):
    port, other = free_ports(2)
    anonymous = Settings.load(endpoint=ANONYMOUS | {"port": other}, ray={"address": "auto"})
    monkeypatch.setattr(local_serving, "build", lambda *_, **__: Instant.bind())
    with (
        serve_running("HeadOnly", host="127.0.0.1", port=port),
        in_a_cluster_that_goes_on(monkeypatch),
        local_serving.serving(anonymous, with_stream=False) as served,
    ):
        assert served.url == f"http://127.0.0.1:{port}"
        assert httpx.get(served.url, timeout=TIMEOUT).text == "here"


@pytest.mark.slow
def test_a_serve_that_takes_no_requests_is_not_joined(monkeypatch: pytest.MonkeyPatch):
    settings = Settings.load(endpoint=ANONYMOUS, ray={"address": "auto"})
    with (
        serve_running("Disabled"),
        in_a_cluster_that_goes_on(monkeypatch),
        pytest.raises(SettingsError, match="no proxy"),
        local_serving.serving(settings, with_stream=False),
    ):
        pass


@pytest.mark.parametrize(
    ("files", "url"),
    [({}, "http://[::1]:8443"), ({"ssl_keyfile": "/tls.key", "ssl_certfile": "/tls.crt"}, "https://[::1]:8443")],
)
def test_the_address_is_a_whole_one(files: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listening, "_listening", lambda: HTTPOptions(host="::1", port=8443, **files))
    monkeypatch.setattr(listening, "_ask", lambda _: ProxyLocation.HeadOnly)
    assert listening.way_in() == url
