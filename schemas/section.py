"""What all sections of the settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings: cannot be changed, knows no other names, and its defaults are checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
