"""labelstream import: a catalogue into the products topic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from labelstream.console import err, progress_bar
from labelstream.printable import printable
from labelstream.schemas.settings import Settings


class Layout(StrEnum):
    """How a catalogue file is written."""

    products = "products"
    chorus = "chorus"


def import_products(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON lines, plain or .gz.")],
    layout: Annotated[
        Layout, typer.Option("--format", "-f", help="products: our own product messages. chorus: querqy/chorus.")
    ] = Layout.products,
) -> None:
    """Publish a catalogue to the products topic, keyed by product id. Lines that cannot be used are reported."""
    from labelstream.streaming.importers import BadLine, publish_products, read_chorus_products, read_products
    from labelstream.streaming.topics import ensure_topics

    settings = Settings.load()
    bad: list[BadLine] = []

    def note(line: BadLine) -> None:
        bad.append(line)
        err.print(printable(line))

    read = {Layout.products: read_products, Layout.chorus: read_chorus_products}[layout]
    ensure_topics(settings.kafka)
    with progress_bar() as bar:
        task = bar.add_task("products", total=None, note="")
        sent = publish_products(read(path, note), settings.kafka, lambda count: bar.advance(task, count))
    typer.echo(f"{sent:,} products published to {settings.kafka.products_topic}, {len(bad):,} lines left out")
    if bad and not sent:
        raise typer.Exit(1)
