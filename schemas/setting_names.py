"""Names of settings, and of what looks like one: a slip of the keyboard must not be passed over in silence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from labelstream.schemas.complaint import what_is_wrong

# What Kubernetes makes of a Service such as labelstream-endpoint.
_OF_A_SERVICE = re.compile(r"_SERVICE_(HOST|PORT\w*)$|_PORT_\d+_(TCP|UDP|SCTP)\w*$")
_ALIKE = 0.8  # as difflib counts: letters in common among those of both


def variables(prefix: str, sections: Mapping[str, FieldInfo]) -> list[str]:
    """The environment variable of every setting.

    Args:
        prefix: Of all of them.
        sections: Fields of the settings, each a group.
    """
    return [
        f"{prefix}{section}_{name}".upper()
        for section, field in sections.items()
        for name in cast("type[BaseModel]", field.annotation).model_fields
    ]


def misspelt(names: Iterable[str], prefix: str, sections: Collection[str], known: Collection[str]) -> list[str]:
    """Complaints about variables of no section that are nearly a setting.

    Others are left alone: a prefix that is the name of a program is used for much.

    Args:
        names: Of environment variables.
        prefix: Of all settings.
        sections: Of the settings.
        known: The variable of every setting.
    """
    ours = sorted(name.upper().removeprefix(prefix) for name in names if name.upper().startswith(prefix))
    strangers = [name for name in ours if name.partition("_")[0].lower() not in sections]
    return [_unknown(name, prefix, known) for name in strangers if _nearest(name, prefix, known)]


def complaint(fault: ErrorDetails, prefix: str, known: Collection[str]) -> str:
    """What pydantic says of a setting, with the name of its variable.

    Args:
        fault: One of its errors.
        prefix: Of all settings.
        known: The variable of every setting.
    """
    name = "_".join(str(part) for part in fault["loc"]).upper()
    if fault["type"] == "extra_forbidden":
        return _unknown(name, prefix, known)
    return f"{prefix}{name}: {what_is_wrong(fault)}"


def _unknown(name: str, prefix: str, known: Collection[str]) -> str:
    said = f"{prefix}{name}: there is no such setting"
    if _OF_A_SERVICE.search(name):
        return f"{said}; if Kubernetes made it of a Service, give the pod enableServiceLinks: false"
    meant = _nearest(name, prefix, known)
    return f"{said}; did you mean {prefix}{meant}?" if meant else f"{said}; see: labelstream settings"


def _nearest(name: str, prefix: str, known: Collection[str]) -> str | None:
    """The setting that somebody may have meant; without the prefix, which would make any two alike."""
    short = [variable.removeprefix(prefix) for variable in known]
    return next(iter(difflib.get_close_matches(name, short, n=1, cutoff=_ALIKE)), None)
