"""labelstream import: a catalogue into the products topic."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from labelstream.commands.bad_lines import BadLines
from labelstream.console import progress_bar
from labelstream.schemas.errors import SettingsError
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
    from labelstream.streaming.importers import publish_products, read_chorus_products, read_products
    from labelstream.streaming.topics import ensure_topics

    settings = Settings.load()
    bad = BadLines()
    read = {Layout.products: read_products, Layout.chorus: read_chorus_products}[layout]
    ensure_topics(settings.kafka)
    with progress_bar() as bar:
        task = bar.add_task("products", total=None, note="")
        sent = publish_products(read(path, bad), settings.kafka, lambda count: bar.advance(task, count))
    bad.tell_rest()
    if bad.count and not sent:
        raise SettingsError(f"{path}: none of its {bad.count:,} lines is a product; is it of another --format?")
    typer.echo(f"{sent:,} products published to {settings.kafka.products_topic}, {bad.count:,} lines left out")
