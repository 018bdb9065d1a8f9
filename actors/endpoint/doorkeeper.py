"""Who may come in: everything needs a token but what is named here."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

from labelstream.actors.endpoint.problems import ProblemType, Refused
from labelstream.actors.endpoint.tokens import TokenFile
from labelstream.schemas.endpoint_settings import EndpointSettings, is_loopback
from labelstream.schemas.errors import SettingsError

# Probes carry no tokens; the pages say nothing that is not in the documentation, and their calls carry one.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
OPEN_FOLDERS = ("/page/", "/docs/")
PORT = re.compile(r":\d*\Z")


class Doorkeeper:
    """Tells who asks.

    Args:
        settings: Which tokens there are, and whether one is needed.

    Raises:
        SettingsError: Nobody could come in, or the tokens cannot be read.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        if settings.tokens_file is None and not settings.allow_anonymous:
            raise SettingsError(
                "LABELSTREAM_ENDPOINT_TOKENS_FILE is not set: name a file and make a token with labelstream token add "
                "NAME, or set LABELSTREAM_ENDPOINT_ALLOW_ANONYMOUS=true to answer everybody on this machine"
            )
        self._tokens = None if settings.tokens_file is None else TokenFile(settings.tokens_file)
        self._anonymous = settings.allow_anonymous

    def __call__(self, path: str, headers: Headers) -> str:
        """The name of the token; empty for anonymous.

        Raises:
            Refused: A token is needed, or the one that was sent is not known; or none is needed, but this machine was
                asked by a name that is not its own.
        """
        if is_open(path):
            return ""
        name = self._name(headers.getlist("authorization"))
        if not name:
            _refuse_other_names(headers.getlist("host"))
        return name

    def _name(self, sent: list[str]) -> str:
        if not sent and self._anonymous:
            return ""
        scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            raise _unauthorized("send the header Authorization: Bearer TOKEN", "")
        name = "" if self._tokens is None else self._tokens.name_of(token.strip())
        if name is None:
            raise _unauthorized("this token is not known; ask for a new one", ', error="invalid_token"')
        return name


def is_open(path: str) -> bool:
    """Whether a path needs no token."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _refuse_other_names(hosts: list[str]) -> None:
    """A page from elsewhere can have its own name lead to this machine, and read what it is answered (DNS rebinding).

    Raises:
        Refused: The request is not for a name or an address of this machine alone.
    """
    name = PORT.sub("", hosts[0]).strip("[]") if len(hosts) == 1 else ""
    if not is_loopback(name):
        detail = "without a token only localhost and loopback addresses are answered; ask one of them, or send a token"
        raise Refused(ProblemType.WRONG_HOST, detail)


def _unauthorized(detail: str, reason: str) -> Refused:
    headers = {"WWW-Authenticate": f'Bearer realm="labelstream"{reason}'}
    return Refused(ProblemType.UNAUTHORIZED, detail, headers=headers)
