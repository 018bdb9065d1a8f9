"""The manifest of a model version: which files it has, and what they were made from."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    StringConstraints,
    ValidationError,
)

from labelstream.schemas.complaint import first_complaint
from labelstream.schemas.errors import ModelUnusable, SettingsError
from labelstream.schemas.product import Moment

MANIFEST = "manifest.json"

# Labellers and cross-encoders are folders that a setting names; only of rankers a run makes version after version.
Kind = Literal["ranker"]
RANKER: Kind = "ranker"

_DIGITS = 16
_SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|secret|credentials?|(api|access|private)_?key|(api|access|auth|bearer|hf)_token)($|_)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"password\s*=|://[^@/\s]*:[^@/\s]*@", re.IGNORECASE)


def _plain(value: Any) -> Any:
    """Tuples and numpy's numbers as JSON has them; anything else is left for pydantic to judge."""
    if isinstance(value, Mapping):
        return {key: _plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    return value.item() if isinstance(value, np.generic) else value


def _finite(value: Any) -> Any:
    """What is not a finite number becomes null: JSON has no other word for an undefined metric."""
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_finite(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(value: JsonValue, name: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with the dotted name of its place."""
    if isinstance(value, dict):
        for key, content in value.items():
            yield from _texts(content, f"{name}.{key}")
    elif isinstance(value, list):
        for content in value:
            yield from _texts(content, name)
    elif isinstance(value, str):
        yield name, value


def _without_secrets(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name, text in _texts(settings, "settings"):
        unmasked = text.strip("*")
        if (unmasked and _SECRET_NAME.search(name.rpartition(".")[2])) or _SECRET_VALUE.search(text):
            raise ValueError(f"{name} looks like a secret, and a manifest is read by many; leave it out")
    return settings


_Json = Annotated[dict[str, JsonValue], BeforeValidator(_plain)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSnapshot(_Frozen):
    """The data that a model was made from.

    Attributes:
        lake: Identity of the lake; None where no lake was read.
        snapshot: Snapshot of the lake.
        rows: Rows used, by what they are.
        sources: SHA-256 of the files that were read beside the lake, by name.
    """

    lake: str | None = None
    snapshot: NonNegativeInt | None = None
    rows: dict[str, NonNegativeInt] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)


class CodeVersion(_Frozen):
    """The code that made a model.

    Attributes:
        package: Version of labelstream.
        commit: Git commit, where the caller knows it.
    """

    package: str
    commit: str | None = None


class Origin(_Frozen):
    """Everything that went into a model: the same origin is to give the same files.

    Attributes:
        data: What it was trained on.
        code: What trained it.
        settings: How, as JSON; never a secret.
        seed: Of everything random.
        parents: Versions or fingerprints of the models that it builds on, such as the labeller of its labels.
    """

    data: DataSnapshot
    code: CodeVersion
    settings: Annotated[_Json, AfterValidator(_without_secrets)] = Field(default_factory=dict)
    seed: int
    parents: tuple[str, ...] = ()


class FileDigest(_Frozen):
    """One file of a version.

    Attributes:
        sha256: Of its content, in hexadecimal digits.
        size: In bytes.
    """

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: NonNegativeInt


class Manifest(_Frozen):
    """One version of a model.

    Attributes:
        version: See ``content_hash``; a content that was pruned and added again has ``-2`` and so on behind it.
        kind: What the model does.
        created_at: When it was added, by the clock of the machine that added it.
        origin: What it was made from.
        metrics: How well it did; a number that is not finite is null.
        files: By path below the version's folder, with forward slashes.
    """

    version: Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{_DIGITS}}}(-[1-9][0-9]*)?$")]
    kind: Kind
    created_at: Moment
    origin: Origin
    metrics: Annotated[_Json, BeforeValidator(lambda metrics: _finite(_plain(metrics)))] = Field(default_factory=dict)
    files: dict[str, FileDigest] = Field(min_length=1)


def content_hash(kind: Kind, origin: Origin, files: Mapping[str, FileDigest]) -> str:
    """Identity of a model by content: its files and what they were made from.

    A hash and not a time, so that a run that is repeated, or done twice at once, arrives at the same version
    without asking anybody. Metrics and the time of creation are no part of it.

    Returns:
        16 hexadecimal digits of SHA-256.
    """
    content = {"kind": kind, "origin": origin.model_dump(), "files": {n: f.model_dump() for n, f in files.items()}}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a version below its folder, by name, the manifest left out.

    Raises:
        SettingsError: Something is neither a file nor a folder; a link, for instance, may lead anywhere.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise SettingsError(f"{path}: a version holds files and folders only; put a copy there instead of a link")
        if path.is_file() and name != MANIFEST:
            found[name] = path
    return found


def digest(path: Path) -> FileDigest:
    """Hash and size of a file, read once."""
    with path.open("rb") as file:
        return FileDigest(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=file.tell())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version.

    Raises:
        FileNotFoundError: There is no such folder.
        ModelUnusable: The manifest is missing or cannot be read; names the file and the field.
    """
    path = folder / MANIFEST
    if folder.is_dir() and not path.is_file():
        raise ModelUnusable(f"{path} is missing; put it back from a copy, or delete the folder")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelUnusable(f"{path}: {first_complaint(error)}; promote another version, or train again") from None
    if manifest.version != folder.name:
        raise ModelUnusable(f"{path}: is of version {manifest.version}; give its folder that name again")
    return manifest


def damage(folder: Path) -> list[str]:
    """What is wrong with a version's files, in words; nothing where all is as it was added.

    Raises:
        FileNotFoundError: The folder, or a file, is deleted while it is read.
        ModelUnusable: The manifest cannot be read.
    """
    manifest, present = read_manifest(folder), model_files(folder)
    wrong = [f"{name}: is missing" for name in manifest.files.keys() - present.keys()]
    wrong += [f"{name}: is not in the manifest" for name in present.keys() - manifest.files.keys()]
    for name in manifest.files.keys() & present.keys():
        if digest(present[name]) != manifest.files[name]:
            wrong.append(f"{name}: has changed")
    if content_hash(manifest.kind, manifest.origin, manifest.files) != manifest.version.partition("-")[0]:
        wrong.append(f"{MANIFEST}: has changed")
    return sorted(wrong)
