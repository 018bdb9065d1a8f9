"""Our commands, called in the test's own process."""

from __future__ import annotations

from click.testing import Result
from typer.testing import CliRunner

from labelstream.cli import app


def labelstream(*arguments: object) -> Result:
    """What a command prints; what it raises is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result
