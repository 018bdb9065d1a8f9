from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from kafka import TopicPartition
from lakes import all_settings
from standins import UniformJudge, services
from stream import wait_until

from labelstream.streaming.catalogue_gate import CatalogueGate
from labelstream.streaming.retry import Patience

END = 7


class OnePartition:
    """A consumer of a products topic that holds some products."""

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, END)


class HangingWriter:
    """Answers only after it has been restarted."""

    def __init__(self, consumed: dict[tuple[str, int], int]) -> None:
        self.restarts, self._consumed = 0, consumed

    def offsets(self) -> Future[Any]:
        future: Future[Any] = Future()
        if self.restarts:
            future.set_result(self._consumed)
        return future

    def restart(self) -> None:
        self.restarts += 1


def test_a_writer_that_hangs_while_only_the_gate_asks_is_restarted(tmp_path: Path):
    settings = all_settings(tmp_path)
    writer = HangingWriter({(settings.kafka.products_topic, 0): END})
    patience = Patience("writer", 0.05, 30, writer.restart)
    patient = replace(services(UniformJudge(), writer, 30), writer_patience=patience)
    gate = CatalogueGate(settings, OnePartition(), patient)
    assert not gate.is_open()
    wait_until(gate.is_open)
    assert writer.restarts == 1
