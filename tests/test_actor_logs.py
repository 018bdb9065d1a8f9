"""What an actor says on standard error, in Ray's own files."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import ray
from lakes import all_settings
from patience import TIMEOUT
from rays import small_ray
from stream import wait_until

from labelstream.actors.writer import Writer, writer_options
from labelstream.schemas.settings import Settings


class TalkativeWriter(Writer):
    """Says things."""

    def say(self, message: str) -> int:
        logging.getLogger("labelstream.writer").info(message)
        logging.getLogger("somebody.else").warning(message)
        return os.getpid()


def test_every_line_of_an_actor_is_json_where_that_is_asked_for(tmp_path: Path):
    settings = all_settings(tmp_path)
    settings = Settings.load(**settings.model_dump() | {"observability": {"log_format": "json"}})
    with small_ray() as logs:
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
