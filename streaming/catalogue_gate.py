"""At start, events wait until the catalogue that was there before them has been read."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from kafka import KafkaConsumer

from labelstream.schemas.errors import BrokerUnavailable
from labelstream.streaming.broker_errors import broker_errors
from labelstream.streaming.retry import RetriedCall
from labelstream.streaming.topics import partitions_of

if TYPE_CHECKING:
    from labelstream.schemas.settings import Settings
    from labelstream.streaming.flight import Services

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 0.5


class CatalogueGate:
    """Closed until the lake has the products topic up to where it ended when we started.

    Without it, the first events of a new deployment would all have to wait for their products one by one. It
    is no guarantee and need not be one: an event whose product is unknown waits in the lake.
    """

    def __init__(self, settings: Settings, consumer: KafkaConsumer, services: Services) -> None:
        self._topic = settings.kafka.products_topic
        self._until = time.monotonic() + settings.stream.catalogue_first_s
        self._consumer = consumer
        self._services = services
        self._targets: dict[int, int] | None = None
        self._asked: RetriedCall[dict[tuple[str, int], int]] | None = None
        self._next_check = 0.0
        self._open = settings.stream.catalogue_first_s == 0

    def is_open(self) -> bool:
        """Whether events may be read.

        Raises:
            TransientError: The writer has been unavailable for too long.
        """
        if not self._open:
            self._open = self._is_read() or self._is_overdue()
        return self._open

    def _is_overdue(self) -> bool:
        overdue = time.monotonic() > self._until
        if overdue:
            logger.warning("the catalogue is not read yet; events start all the same and wait for their products")
        return overdue

    def _is_read(self) -> bool:
        if self._targets is None:
            try:
                self._targets = self._end_offsets()
            except BrokerUnavailable:
                return False
        if not self._targets:
            return True
        if self._asked is None:
            if time.monotonic() >= self._next_check:
                # With patience: while nothing else is to be done, nobody but us would notice a writer that hangs.
                self._asked = RetriedCall(self._services.writer.offsets, self._services.writer_patience)
            return False
        if not self._asked.poll():
            return False
        asked, self._asked, self._next_check = self._asked, None, time.monotonic() + CHECK_EVERY_S
        consumed = asked.result()
        return all(consumed.get((self._topic, p), 0) >= end for p, end in self._targets.items())

    def _end_offsets(self) -> dict[int, int]:
        with broker_errors():
            partitions = partitions_of(self._consumer, self._topic)
            ends, begins = self._consumer.end_offsets(partitions), self._consumer.beginning_offsets(partitions)
        return {partition.partition: end for partition, end in ends.items() if end > begins[partition]}
