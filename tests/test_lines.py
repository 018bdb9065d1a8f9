"""Files of one record a line, from wherever they come."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from labelstream.streaming.lines import read_lines

LINES = [b'{"number": %d}' % number for number in range(5000)]
TEXT = b"\n".join(LINES) + b"\n"


@pytest.mark.parametrize("content", [TEXT, gzip.compress(TEXT)], ids=["plain", "gzip"])
def test_a_pipe_is_read_from_its_first_line(tmp_path: Path, content: bytes):
    """As with `labelstream replay <(zcat log.gz)`: what was looked at to know a gzip must not be missing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    found = [line for _, line in read_lines(pipe)]
    writer.join()
    assert found == LINES


def test_a_gzip_is_told_by_its_content(tmp_path: Path):
    path = tmp_path / "judgments.csv"
    path.write_bytes(gzip.compress(TEXT))
    assert [line for _, line in read_lines(path)] == LINES
