"""What Ray Serve does in front of the endpoint, where it is Ray Serve that answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
from ray import serve

from labelstream.actors import local_serving
from labelstream.actors.cluster import start_ray
from labelstream.actors.listening import refuse_open_door
from labelstream.actors.serving import application, build
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

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
def open_to_everybody() -> Iterator[None]:
    """A Serve that would listen on all interfaces; its proxy is off, so that it does not while we test."""
    with serve_running("Disabled", host="0.0.0.0"):
        yield


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
