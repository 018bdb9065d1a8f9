"""A full disk, made for real with a small file system in memory (needs the right to mount one)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labelstream.schemas.errors import LakeUnavailable
from labelstream.schemas.settings import LakeSettings
from labelstream.schemas.tables import DEAD_LETTERS
from labelstream.streaming.commit import Commit, OffsetRange, rows
from labelstream.streaming.lake import Lake


def mount(*arguments: str) -> bool:
    command = shutil.which("mount")
    return (
        command is not None and subprocess.run([command, *arguments], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)):
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def batch(number: int) -> Commit:
    now = datetime.now(UTC)
    letter = {"topic": "t", "partition": 0, "offset": 0, "key": None, "headers": [], "timestamp": now, "stage": "read"}
    letter |= {"error": "BadRecord", "message": "bad", "field": "", "failed_at": now}
    letters = [letter | {"value": os.urandom(200)} for _ in range(1000)]
    moved = OffsetRange("t", 0, number * 1000, number * 1000 + 1000)
    return Commit(f"batch-{number}", (moved,), {DEAD_LETTERS.name: rows(DEAD_LETTERS, letters)})


def fits(lake: Lake, commit: Commit) -> bool:
    try:
        lake.commit(commit)
    except LakeUnavailable as error:
        return "No space left" not in str(error)
        return False
    return True


def test_a_full_disk_is_transient_and_leaves_whole_batches_only(small_disk: Path) -> None:
    settings = LakeSettings(catalog=f"sqlite:{small_disk}/catalog.sqlite", data_path=f"{small_disk}/files")
    with Lake(settings) as lake:
        written = 0
        while fits(lake, batch(written)):
            written += 1
        count = "SELECT count(*) FROM dead_letters"
        assert lake.query(count) == [(written * 1000,)]
        assert lake.offsets() == {("t", 0): written * 1000}
        assert mount("-o", "remount,size=32m", str(small_disk))
        assert lake.commit(batch(written))
        assert lake.query(count) == [(written * 1000 + 1000,)]
