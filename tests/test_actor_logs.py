"""What an actor says on standard error, in Ray's own files."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from lakes import all_settings
from patience import TIMEOUT
from stream import wait_until

from labelstream.actors.writer import Writer, writer_options
from labelstream.schemas.settings import Settings


class TalkativeWriter(Writer):
    """Says things."""

    def say(self, message: str) -> int:
        logging.getLogger("labelstream.writer").info(message)
        logging.getLogger("somebody.else").warning(message)
        return os.getpid()


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the logs of a small Ray."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")  # where the writer of this test is
    context = ray.init(
        "local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=80 << 20,
        _node_ip_address="127.0.0.1",
    )
    yield Path(context.address_info["session_dir"]) / "logs"
    ray.shutdown()


def test_every_line_of_an_actor_is_json_where_that_is_asked_for(logs: Path, tmp_path: Path):
    settings = all_settings(tmp_path)
    settings = Settings.load(**settings.model_dump() | {"observability": {"log_format": "json"}})
    writer = ray.remote(TalkativeWriter).options(**writer_options(settings)).remote(settings)
    pid = ray.get(writer.say.remote("spoken"), timeout=TIMEOUT)
    (file,) = logs.glob(f"worker-*-{pid}.err")

    def said() -> list[dict[str, Any]]:
        mine = [line for line in file.read_text().splitlines() if not line.startswith(":")]  # Ray's own marks
        return [json.loads(line) for line in mine]

    wait_until(lambda: len(said()) == 2, what="both lines")
    assert [(line["logger"], line["level"], line["message"]) for line in said()] == [
        ("labelstream.writer", "INFO", "spoken"),
        ("somebody.else", "WARNING", "spoken"),
    ]
