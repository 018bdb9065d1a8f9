"""What a test of the consumer loop needs around it: a broker's topics, a lake, a store, and replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from standins import ThreadWriter
from stream import KnownLog, Replica, stream_settings, wait_until

from labelstream.schemas.settings import KafkaSettings, Settings
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.topics import ensure_topics


class Stage:
    """Topics, a lake, a store, and replicas that can come and go."""

    def __init__(self, settings: Settings, writer_kind: Callable[[Settings], ThreadWriter] = ThreadWriter) -> None:
        self.settings = settings
        ensure_topics(settings.kafka)
        self.writer = writer_kind(settings)
        self.store = LocalStore(settings.store.path.with_name("reader"), 1 << 30)
        self.replicas: list[Replica] = []

    def start(self, judge: Any, **options: Any) -> Replica:
        store = self.store_of_writer()
        replica = Replica(self.settings, store, judge, self.writer, **options)
        self.replicas.append(replica)
        return replica

    def store_of_writer(self) -> LocalStore:
        return self.writer._writer._store  # one LMDB environment a process

    def wait_for(self, records: int) -> None:
        def arrived() -> bool:
            for replica in self.replicas:
                if replica.error is not None:
                    raise replica.error
            totals = self.writer.totals()
            return totals["records"] >= records and totals["waiting"] == 0

        wait_until(arrived, what=f"{records} records, all joined")

    def check(self, log: KnownLog) -> None:
        with Lake(self.settings.lake, read_only=True) as lake:
            log.check(lake)

    def close(self) -> None:
        for replica in self.replicas:
            if replica.is_running:
                replica.stop()
        self.writer.close()
        self.store.close()


@contextmanager
def stages(
    bootstrap_servers: str, fresh_topics: Callable[..., KafkaSettings], folder: Path
) -> Iterator[Callable[..., Stage]]:
    """A maker of stages, which are taken down in the end."""
    made: list[Stage] = []

    def make(writer: Callable[[Settings], ThreadWriter] = ThreadWriter, **options: Any) -> Stage:
        kafka_options = options.pop("kafka", {})
        settings = stream_settings(folder, fresh_topics(bootstrap_servers, **kafka_options), **options)
        made.append(Stage(settings, writer))
        return made[-1]

    yield make
    for one in made:
        one.close()
