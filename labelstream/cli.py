"""The ``labelstream`` command."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from labelstream import __version__
from labelstream.commands import (
    compact,
    cost,
    demo,
    demo_shop,
    evaluate,
    experiment,
    export,
    import_products,
    kafka_broker,
    pool,
    registry,
    replay,
    report,
    retrain,
    run,
    serve,
    settings_table,
    simulate,
    split,
    sql,
    status,
    token,
    train,
)
from labelstream.console import print_error, set_up_logging
from labelstream.schemas.errors import LabelstreamError, TransientError

FAILED, TRY_AGAIN = 1, 75  # 75 is EX_TEMPFAIL: a supervisor may simply start it again

app = typer.Typer(
    name="labelstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Relevance labels for product search, streamed: search logs and catalogue in from Kafka, an LLM's judgement "
    "of every query-product pair out into DuckDB/Parquet tables, exactly once. Start with: labelstream demo",
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "demo-shop": demo_shop.demo_shop,
    "kafka": kafka_broker.kafka,
    "import": import_products.import_products,
    "replay": replay.replay,
    "simulate": simulate.simulate,
    "run": run.run,
    "serve": serve.serve,
    "status": status.status,
    "sql": sql.sql,
    "export": export.export,
    "split": split.split,
    "evaluate": evaluate.evaluate,
    "pool": pool.pool,
    "experiment": experiment.experiment,
    "report": report.report,
    "retrain": retrain.retrain,
    "cost": cost.cost,
    "compact": compact.compact,
    "settings": settings_table.settings,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(train.app, name="train")
app.add_typer(registry.models, name="models")
app.add_typer(token.tokens, name="token")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more of what happens.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    set_up_logging(verbose=verbose)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command; our own errors become one line and an exit code.

    Exit codes: 0 done, 1 an error that trying again does not mend, 2 wrong usage, 3 stopped by a signal with
    batches given back, 4 the gate refused a new model, 75 something was unavailable for too long, 130 stopped
    at once, by Ctrl-C or by a second signal.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a query may hold what a terminal or a pipe in ASCII cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except LabelstreamError as error:
        print_error(error)
        sys.exit(TRY_AGAIN if isinstance(error, TransientError) else FAILED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = error.filename or "standard output, or a file"
        print_error(TransientError(f"{where}: no space left on device; make room, then run it again"))
        sys.exit(TRY_AGAIN)


if __name__ == "__main__":
    main()
