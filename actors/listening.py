"""Where Ray Serve really listens, which need not be where the settings say."""

from __future__ import annotations

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import HTTPOptions

from labelstream.schemas.endpoint_settings import EndpointSettings, is_loopback
from labelstream.schemas.errors import SettingsError

_ASK_S = 30.0


def listening() -> HTTPOptions | None:
    """What the Serve of this cluster was started with; None where there is none, or no cluster yet."""
    if not ray.is_initialized():
        return None
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return None
    options: HTTPOptions = ray.get(controller.get_http_config.remote(), timeout=_ASK_S)
    return options


def refuse_open_door(settings: EndpointSettings) -> None:
    """See that nobody but this machine can ask without a token.

    A Serve that runs already keeps its address and ignores a new one, and one with a configuration file of its own
    never looks at our settings.

    Args:
        settings: Whether a token is needed.

    Raises:
        SettingsError: Everybody may ask, from everywhere.
    """
    options = listening() if settings.allow_anonymous else None
    if options is not None and options.host is not None and not is_loopback(options.host):
        raise SettingsError(
            f"LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS needs a loopback host, and the Ray Serve of this cluster listens on "
            f"{options.host}: make a token with labelstream token add NAME, or start Serve with host 127.0.0.1"
        )
