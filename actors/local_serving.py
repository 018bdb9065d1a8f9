"""The application in a Ray Serve of this process' own: what ``labelstream serve`` runs."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from labelstream.actors.addresses import family_of, url_of
from labelstream.actors.cluster import as_our_error, start_ray
from labelstream.actors.endpoint.logs import serve_logging
from labelstream.actors.judge_kind import MODEL
from labelstream.actors.listening import refuse_open_door, way_in
from labelstream.actors.serving import MODELS, NAME, build
from labelstream.schemas.errors import LabelstreamError, ModelUnusable, SettingsError
from labelstream.schemas.model_folder import model_folder
from labelstream.schemas.settings import Settings

# Ray Serve's own limit; the endpoint's deadline comes first, with an answer in its own words.
_BEYOND_DEADLINE_S = 5.0
_ASK_S = 10.0
# Names of our errors in what Ray tells of them, one within the other.
_KINDS = re.compile(r"labelstream\.schemas\.errors\.\w+: ")


class Serving:
    """A running application.

    Attributes:
        url: Where it answers.
    """

    def __init__(self, url: str, models: DeploymentHandle, settings: Settings) -> None:
        self.url = url
        self._models, self._settings = models, settings

    def failure(self) -> LabelstreamError | None:
        """What has ended it; None while all is well, or while the models are restarting."""
        try:
            failure: LabelstreamError | None = self._models.state.remote().result(timeout_s=_ASK_S).failure
        except (RayError, RayServeException, TimeoutError):
            return None
        return failure

    def stop(self) -> int:
        """Let the stream come to an end.

        Returns:
            Number of batches given back unfinished.
        """
        patience = self._settings.stream.shutdown_s + 2 * _ASK_S
        try:
            return int(self._models.stop.remote().result(timeout_s=patience))
        except (RayError, RayServeException, TimeoutError):
            return 1


@contextmanager
def serving(settings: Settings, *, with_stream: bool) -> Iterator[Serving]:
    """Start the application; it answers when this returns.

    Args:
        settings: All settings.
        with_stream: Run the stream too.

    Raises:
        LabelstreamError: It cannot start.
    """
    with ExitStack() as closing:
        alone, port = settings.ray.address is None, settings.endpoint.port
        if alone:  # in a cluster it lies on the nodes of the Labellers
            model_folder(settings.labeller.model, setting=MODEL)  # Ray takes most of a minute to say the same
        if alone or not port:
            port = _free_port(settings.endpoint.host, port)
        # In a cluster a replica may be on any node, so there the way in is Serve's proxy.
        app = build(settings, with_stream=with_stream, port=port if alone else None)
        start_ray(settings)
        closing.callback(ray.shutdown)
        _start_serve(settings, port, alone=alone)
        if alone:  # a cluster that was there before keeps its Serve, and what else runs in it
            closing.callback(serve.shutdown)
        refuse_open_door(settings.endpoint)
        url = url_of(settings.endpoint.host, port) if alone else way_in()
        closing.callback(_delete)
        try:
            serve.run(app, name=NAME, route_prefix="/")
        except RayError as error:
            raise as_our_error(error, "serve") from error
        except RuntimeError as error:  # Serve's word for a deployment that does not come up
            raise ModelUnusable(_reason(error)) from error
        yield Serving(url, serve.get_deployment_handle(MODELS, NAME), settings)


def _start_serve(settings: Settings, port: int, *, alone: bool) -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it would name an address at which nobody answers
    if alone:
        serve.start(proxy_location="Disabled", logging_config=serve_logging(settings))
        return
    options = {
        "host": settings.endpoint.host,
        "port": port,
        "request_timeout_s": settings.endpoint.deadline_s + _BEYOND_DEADLINE_S,
    }
    serve.start(proxy_location="HeadOnly", http_options=options, logging_config=serve_logging(settings))


def _reason(error: RuntimeError) -> str:
    """The last line of the message that says why the first replica failed."""
    status = serve.status().applications.get(NAME)
    messages = [deployment.message for deployment in status.deployments.values()] if status else []
    lines = [line.strip() for message in (*messages, str(error)) for line in message.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("labelstream.schemas.errors.")]
    return _KINDS.sub("", (ours or lines)[-1])


def _delete() -> None:
    """Take the application away, but let it answer those who wait: shutting Serve down would cut them off."""
    with suppress(TimeoutError):
        serve.delete(NAME)


def _free_port(host: str, port: int) -> int:
    """The port, or any free one for 0; Serve's own sockets would share it with whoever listens there already.

    Raises:
        SettingsError: It cannot be had.
    """
    with socket.socket(family_of(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended does not count
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"LABELSTREAM_ENDPOINT_PORT={port}: {host} port {port} cannot be had ({error.strerror}); choose "
                "another port, or 0 for any free one"
            ) from error
        return int(probe.getsockname()[1])
