"""The page at ``/``: try the models by hand. Its files lie in ``page/``; nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, HTTPException, Response

from labelstream.schemas.http import MAX_DOCUMENTS, MAX_PAIRS
from labelstream.schemas.polarization import PRESETS

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Browsers that know it refuse innerHTML and the like, whatever the script does.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked about each time: after an update no browser mixes old files with new ones.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


class Asset(NamedTuple):
    """One file of the page, as it is sent."""

    content: bytes
    media_type: str
    etag: str


def _asset(name: str, content: bytes) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return Asset(content, _MEDIA_TYPES[PurePath(name).suffix], f'"{digest}"')


def _constants() -> bytes:
    """A module with what the page shares with the schemas, so that the page holds no copies."""
    values = {"PRESETS": PRESETS, "MAX_PRODUCTS": min(MAX_PAIRS, MAX_DOCUMENTS)}
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in values.items()).encode()


@cache
def assets() -> dict[str, Asset]:
    """Every file of the page by its name, read once in a process."""
    folder = files("labelstream.actors.endpoint") / "page"
    found = [entry for entry in folder.iterdir() if PurePath(entry.name).suffix in _MEDIA_TYPES]
    contents = {entry.name: entry.read_bytes() for entry in found}
    contents["constants.js"] = _constants()
    return {name: _asset(name, content) for name, content in contents.items()}


def _is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the browser has this content (RFC 9110, 13.1.2: a weak comparison)."""
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return etag in known or "*" in known


def _answer(name: str, if_none_match: str | None) -> Response:
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404, "The page has no such file.")
    headers = {**_HEADERS, "ETag": asset.etag}
    if _is_known(asset.etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


IfNoneMatch = Annotated[str | None, Header()]


@router.api_route("/", methods=["GET", "HEAD"])
def page(if_none_match: IfNoneMatch = None) -> Response:
    """The page itself."""
    return _answer("index.html", if_none_match)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def page_file(name: str, if_none_match: IfNoneMatch = None) -> Response:
    """A file that the page is made of."""
    return _answer(name, if_none_match)
