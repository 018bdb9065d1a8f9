"""Bearer tokens: who may ask. The file holds names and hashes; a token itself is seen once, when it is made."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelstream.schemas.errors import SettingsError
from labelstream.training.durable_files import make_folder, storage_errors, whole_file

logger = logging.getLogger(__name__)

PREFIX = "labelstream_"  # scanners for leaked secrets can look for it
RANDOM_BYTES = 32
# A slow, salted hash protects passwords that can be guessed. 256 random bits cannot, so one SHA-256 is enough, and a
# slow one would only help those who send wrong tokens to keep us busy.
ALGORITHM = "sha256:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LINE = re.compile(rf"(?P<name>{NAME.pattern})\s+(?P<hash>{ALGORITHM}[0-9a-f]{{64}})")


class TokenFile:
    """The tokens of a file, which is read again when it changes.

    Args:
        path: One name and hash a line; empty lines and those that start with # mean nothing.

    Raises:
        SettingsError: It cannot be read, or a line of it cannot.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._hashes = read_hashes(path)
        self._complaint = ""

    def name_of(self, token: str) -> str | None:
        """The name of a token, or None; takes as long whichever it is."""
        self._refresh()
        digest, found = _hash(token), None
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        if stamp is None:
            logger.error("%s is gone: no token is taken until it is back", self._path)
            self._stamp, self._hashes = None, {}
            return
        try:
            self._hashes = read_hashes(self._path)
        except SettingsError as error:  # a slip of an editor must not lock everybody out
            self._complain(str(error))
            return  # without the stamp, so that every request tries again: what kept it from us may leave no trace
        self._stamp, self._complaint = stamp, ""
        logger.info("%s has changed: %d tokens", self._path, len(self._hashes))

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("%s; the tokens from before go on", complaint)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_hashes(path: Path) -> dict[str, str]:
    """Names and hashes of a file.

    Raises:
        SettingsError: It cannot be read, or a line of it cannot.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"tokens file {path}: {reason}; make one with: labelstream token add NAME") from None
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None or match["name"] in hashes:
            # The line itself is not shown: somebody may have put a token there.
            raise SettingsError(f"tokens file {path}, line {number}: not a name of its own and a hash; remove the line")
        hashes[match["name"]] = match["hash"]
    return hashes


def add_token(path: Path, name: str) -> str:
    """Make a token and keep its hash.

    Returns:
        The token: 256 random bits behind a prefix.

    Raises:
        SettingsError: The name cannot be one, or is taken; or the file cannot be read or written.
    """
    if NAME.fullmatch(name) is None:
        raise SettingsError(
            f"{name!r} cannot be a token's name; use 1 to 64 letters, digits, dots, hyphens, underscores"
        )
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    with _changed(path) as hashes:
        if name in hashes:
            raise SettingsError(f"there is a token {name} already; remove it, or take another name")
        hashes[name] = _hash(token)
    return token


def remove_token(path: Path, name: str) -> None:
    """Forget a token.

    Raises:
        SettingsError: There is none of this name; or the file cannot be read or written.
    """
    with _changed(path) as hashes:
        if hashes.pop(name, None) is None:
            raise SettingsError(f"there is no token {name} in {path}; see: labelstream token list")


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, str]]:
    """Read, let change, write whole; one at a time."""
    with storage_errors(path.parent):
        make_folder(path.parent)
        folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        hashes = read_hashes(path) if path.exists() else {}
        yield hashes
        with whole_file(path) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("".join(f"{name} {known}\n" for name, known in hashes.items()).encode())
    finally:
        os.close(folder)


def _hash(token: str) -> str:
    return ALGORITHM + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
