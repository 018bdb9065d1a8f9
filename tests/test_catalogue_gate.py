from __future__ import annotations

from pathlib import Path

from kafka import TopicPartition
from lakes import all_settings
from standins import HangingWriter
from stream import wait_until

from labelstream.streaming.catalogue_gate import CatalogueGate

END = 7


class OnePartition:
    """A consumer of a products topic that holds some products."""

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, END)


def test_a_writer_that_hangs_while_only_the_gate_asks_is_restarted(tmp_path: Path):
    settings = all_settings(tmp_path)
    writer = HangingWriter({(settings.kafka.products_topic, 0): END})
    gate = CatalogueGate(settings, OnePartition(), writer.services())
    assert not gate.is_open()
    wait_until(gate.is_open)
    assert writer.restarts == 1
