"""Read catalogues from files, ours or Chorus', and publish them to the products topic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.messages import parse_product
from labelstream.schemas.product import Product
from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.chorus import parse_chorus_product
from labelstream.streaming.lines import read_lines
from labelstream.streaming.publish import Outgoing, publish

logger = logging.getLogger(__name__)


class BadLine(NamedTuple):
    """A line that holds no product, and why."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def log_bad_line(bad: BadLine) -> None:
    """Report a bad line as a warning."""
    logger.warning("%s", bad)


def read_products(path: Path, on_bad: Callable[[BadLine], None] = log_bad_line) -> Iterator[Product]:
    """Read JSON lines in the form of our own product message, plain or gzip.

    Args:
        path: The file.
        on_bad: Told of every line that holds no product; reading goes on.

    Raises:
        SettingsError: The file cannot be read.
    """
    return _parse_lines(path, parse_product, on_bad)


def read_chorus_products(path: Path, on_bad: Callable[[BadLine], None] = log_bad_line) -> Iterator[Product]:
    """Read the Chorus catalogue (querqy/chorus: Icecat data, one JSON object a line), plain or gzip.

    Args:
        path: The file.
        on_bad: Told of every line that holds no product; reading goes on.

    Raises:
        SettingsError: The file cannot be read.
    """
    return _parse_lines(path, parse_chorus_product, on_bad)


def publish_products(
    products: Iterable[Product], settings: KafkaSettings, on_progress: Callable[[int], None] | None = None
) -> int:
    """Upsert products, keyed by product id.

    Args:
        products: Taken one by one, as fast as Kafka accepts them.
        settings: How to reach Kafka and what the topic is called.
        on_progress: Called now and then with the number of products sent since the last call.

    Returns:
        How many arrived.

    Raises:
        BrokerUnavailable: Kafka did not take a product in time.
        SettingsError: Kafka refuses us.
    """
    records = (Outgoing(product.product_id.encode(), _value(product)) for product in products)
    return publish(records, settings.products_topic, settings, on_progress)


def _value(product: Product) -> bytes:
    return product.model_dump_json(exclude_defaults=True).encode()


def _parse_lines(path: Path, parse: Callable[[bytes], Product], on_bad: Callable[[BadLine], None]) -> Iterator[Product]:
    for number, line in read_lines(path):
        try:
            product = parse(line)
        except BadRecord as error:
            on_bad(BadLine(path, number, str(error)))
        else:
            yield product
