"""Where Ray Serve really listens, which need not be where the settings say."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import HTTPOptions, ProxyLocation

from labelstream.actors.addresses import url_of
from labelstream.schemas.endpoint_settings import EndpointSettings, is_loopback
from labelstream.schemas.errors import SettingsError

_ASK_S = 30.0


def way_in() -> str:
    """The URL at which the proxy of this cluster's Serve takes requests.

    A Serve that runs already keeps its address and ignores a new one.

    Raises:
        SettingsError: It has no proxy.
    """
    options = _listening()
    if options is None or options.host is None or _ask("get_proxy_location") == ProxyLocation.Disabled:
        raise SettingsError(
            "the Ray Serve of this cluster has no proxy, so nobody could ask: end it with serve shutdown, and "
            "labelstream serve starts one with a proxy"
        )
    return url_of(options.host, options.port, "https" if options.ssl_certfile else "http")


def refuse_open_door(settings: EndpointSettings) -> None:
    """See that nobody but this machine can ask without a token.

    A Serve that runs already keeps its address and ignores a new one, and one with a configuration file of its own
    never looks at our settings.

    Args:
        settings: Whether a token is needed.

    Raises:
        SettingsError: Everybody may ask, from everywhere.
    """
    options = _listening() if settings.allow_anonymous else None
    if options is not None and options.host is not None and not is_loopback(options.host):
        raise SettingsError(
            f"LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS needs a loopback host, and the Ray Serve of this cluster listens on "
            f"{options.host}: make a token with labelstream token add NAME, or start Serve with host 127.0.0.1"
        )


def _listening() -> HTTPOptions | None:
    """What the Serve of this cluster was started with; None where there is none, or no cluster yet."""
    return _ask("get_http_config") if ray.is_initialized() else None


def _ask(method: str) -> Any:
    """Ask Serve's controller; None where there is none.

    By a private name: in public only the REST API of Ray's dashboard tells it, and that need not run.
    """
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:  # Ray's word for "no such actor"
        return None
    return ray.get(getattr(controller, method).remote(), timeout=_ASK_S)
