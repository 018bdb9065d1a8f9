"""labelstream settings: every setting, its value and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from labelstream.console import print_table
from labelstream.schemas.settings import PREFIX, Settings


class SettingRow(NamedTuple):
    """One setting."""

    variable: str
    default: str
    description: str
    value: str


def settings(
    markdown: Annotated[bool, typer.Option(help="Print the table of docs/settings.md.")] = False,
) -> None:
    """Show every setting: environment variable, value in force, what it does. Secrets stay hidden."""
    if markdown:
        typer.echo(markdown_table())
        return
    rows = setting_rows(Settings.load())
    print_table("", ("variable", "value", "what it does"), [(r.variable, r.value, r.description) for r in rows])


def setting_rows(current: Settings | None = None) -> Iterator[SettingRow]:
    """All settings in the order of the code."""
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, setting in model.model_fields.items():
            variable = f"{PREFIX}{section}_{name}".upper()
            value = getattr(getattr(current, section), name) if current is not None else ""
            yield SettingRow(variable, _shown(setting.get_default(call_default_factory=True)),
                             setting.description or "", _shown(value))  # fmt: skip


def markdown_table() -> str:
    """The table of docs/settings.md; a test compares the two."""
    head = "| variable | default | what it does |\n|---|---|---|\n"
    return head + "".join(f"| `{r.variable}` | `{r.default}` | {r.description} |\n" for r in setting_rows())


def _shown(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    return str(value)
