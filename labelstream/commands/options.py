"""Options that stand for settings: what is given on the command line wins over the environment."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labelstream.schemas.complaint import what_is_wrong
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def with_options(settings: Settings, **sections: dict[str, Any]) -> Settings:
    """Settings with what was given; None is what was left out.

    Args:
        settings: As the environment has them.
        sections: By the name of a section, fields and their values.

    Raises:
        SettingsError: A value that a section refuses; the message names the option.
    """
    changed = {}
    for name, options in sections.items():
        given = {field: value for field, value in options.items() if value is not None}
        section = getattr(settings, name)
        changed[name] = checked(type(section), section.model_dump() | given)
    return settings.model_copy(update=changed)


def checked(kind: type[AnyModel], values: dict[str, Any]) -> AnyModel:
    """What options describe, if it can be.

    Args:
        kind: Its fields have the options' names.
        values: By field.

    Raises:
        SettingsError: A value that it refuses; the message names the option.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise SettingsError(f"--{option}: {what_is_wrong(first)}") from error
