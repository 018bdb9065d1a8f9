"""labelstream token: who may ask the HTTP endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import err, print_table
from labelstream.printable import printable
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

tokens = typer.Typer(
    name="token",
    no_args_is_help=True,
    help="Bearer tokens of the HTTP endpoint. Its file holds names and hashes; a running endpoint reads it again.",
)

Name = Annotated[str, typer.Argument(help="Says who asks, in logs and traces.", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("--file", help="The tokens file; LABELSTREAM_ENDPOINT_TOKENS_FILE without it.", show_default=False),
]


@tokens.command()
def add(name: Name, file: File = None) -> None:
    """Make a token and print it: this once, because only its hash is kept."""
    from labelstream.actors.endpoint.tokens import add_token

    path = _path(file)
    token = add_token(path, name)
    err.print(f"The token of {printable(name)}, whose hash is in {printable(path)}; it will not be shown again:")
    typer.echo(token)


@tokens.command("list")
def list_names(file: File = None) -> None:
    """The names of the tokens."""
    from labelstream.actors.endpoint.tokens import read_hashes

    path = _path(file)
    print_table(str(path), ("name",), [(name,) for name in read_hashes(path)])


@tokens.command()
def remove(name: Name, file: File = None) -> None:
    """Take a token back; who has it is refused from the next request on."""
    from labelstream.actors.endpoint.tokens import remove_token

    remove_token(_path(file), name)


def _path(given: Path | None) -> Path:
    path = given or Settings.load().endpoint.tokens_file
    if path is None:
        raise SettingsError("there is no tokens file: set LABELSTREAM_ENDPOINT_TOKENS_FILE, or give --file")
    return path
