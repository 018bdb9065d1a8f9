"""The place for work that may be killed: it goes on, it begins anew, it is one's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from patience import TIMEOUT

from labelstream.schemas.errors import SettingsError
from labelstream.training import unfinished as module
from labelstream.training.unfinished import unfinished

IDENTITY = {"seed": "1", "base": "here"}


def work_of(out: Path) -> Path:
    return out.parent / f".{out.name}.unfinished"


def cut_off(out: Path, identity: dict[str, str] = IDENTITY) -> None:
    """Begin, leave a file and a folder, and fail."""
    with suppress(ZeroDivisionError), unfinished(out, identity) as work:
        (work / "file").write_text("half")
        (work / "folder").mkdir()
        (work / "folder" / "more").write_text("half")
        raise ZeroDivisionError


def left(out: Path) -> set[str]:
    return {path.name for path in work_of(out).iterdir()}


def test_what_ends_well_leaves_nothing_behind(tmp_path: Path):
    out = tmp_path / "models" / "new"
    with unfinished(out, IDENTITY) as work:
        assert work.parent == out.parent
        assert not out.exists()
        (work / "result").mkdir()
        (work / "result").rename(out)
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_what_is_cut_off_is_there_again_for_the_same_work(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "new"
    cut_off(out)
    assert not out.exists()
    with unfinished(out, dict(reversed(IDENTITY.items()))) as work:
        assert (work / "file").read_text() == "half"
        assert (work / "folder" / "more").read_text() == "half"
    assert "going on" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{**IDENTITY, "seed": "2"}, {"seed": "1"}, {**IDENTITY, "more": ""}])
def test_other_work_begins_anew(tmp_path: Path, other: dict[str, str], caplog: pytest.LogCaptureFixture):
    out = tmp_path / "new"
    cut_off(out)
    with unfinished(out, other) as work:
        assert left(out) == {"started-with.json"}
        (work / "file").write_text("mine")
    assert "going on" not in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_beginning_that_cannot_be_read_is_none(tmp_path: Path, content: str):
    out = tmp_path / "new"
    cut_off(out)
    (work_of(out) / "started-with.json").write_text(content)
    with unfinished(out, IDENTITY):
        assert left(out) == {"started-with.json"}


def test_a_result_that_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("keep me")
    with pytest.raises(SettingsError, match=r"--out .*new exists; name a new folder"), unfinished(tmp_path / "new", {}):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "mine").read_text() == "keep me"


def test_two_at_once_are_refused_and_the_first_is_not_disturbed(tmp_path: Path):
    out = tmp_path / "new"
    with unfinished(out, IDENTITY) as work:
        (work / "file").write_text("mine")
        for identity in (IDENTITY, {"seed": "2"}):
            with pytest.raises(SettingsError, match="another run is writing it"), unfinished(out, identity):
                raise AssertionError
        assert (work / "file").read_text() == "mine"
        with unfinished(tmp_path / "other", IDENTITY):
            pass


def test_another_who_finishes_just_now_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between our look at the result and our lock."""
    out, lock = tmp_path / "new", module._lock

    def finish_first(folder: int, path: Path) -> None:
        shutil.rmtree(work_of(out))
        out.mkdir()
        lock(folder, path)

    monkeypatch.setattr(module, "_lock", finish_first)
    with pytest.raises(SettingsError, match="exists"), unfinished(out, IDENTITY):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Results of processes that were killed, each one line of ``unfinished`` later than the one before."""
    root = tmp_path_factory.mktemp("killed")
    command = [sys.executable, __file__, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    return [root / str(step) / "new" for step in json.loads(done.stdout)]


def test_killed_at_any_line_it_can_be_done_again(killed: list[Path]):
    assert len(killed) > 15
    went_on = 0
    for out in killed:
        if out.exists():
            assert (out / "result").read_text() == "whole"
            continue
        with unfinished(out, IDENTITY) as work:
            went_on += (work / "half").exists()
            (work / "half").write_text("half")
    assert went_on


def test_a_lock_dies_with_its_owner(tmp_path: Path):
    out = tmp_path / "new"
    owner = subprocess.Popen([sys.executable, __file__, str(out), "hold"], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "holding\n"
        with pytest.raises(SettingsError, match="another run is writing it"), unfinished(out, IDENTITY):
            raise AssertionError
    finally:
        owner.kill()
        owner.communicate()
    with unfinished(out, IDENTITY) as work:
        assert (work / "half").read_text() == "half"


def _die_at(step: int) -> None:
    """SIGKILL ourselves before the given line of the module, or of the work that is done in its folder."""
    done = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal done
        if frame.f_code.co_filename not in {module.__file__, __file__}:
            return None
        done += event == "line"
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _work(out: Path) -> None:
    with unfinished(out, IDENTITY) as work:
        (work / "half").write_text("half")
        (work / "whole").mkdir()
        (work / "whole" / "result").write_text("whole")
        (work / "whole").rename(out)


def _killed_steps(root: Path) -> Iterator[int]:
    """Fork, and let the child die one line later each time, until it gets to its end."""
    for step in range(1, 200):
        (root / str(step)).mkdir()
        child = os.fork()
        if child == 0:
            _die_at(step)
            _work(root / str(step) / "new")
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            return
        yield step
    raise AssertionError


def _hold(out: Path) -> None:
    with unfinished(out, IDENTITY) as work:
        (work / "half").write_text("half")
        print("holding", flush=True)
        signal.pause()


if __name__ == "__main__":
    if sys.argv[2:] == ["hold"]:
        _hold(Path(sys.argv[1]))
    else:
        print(json.dumps(list(_killed_steps(Path(sys.argv[1])))))
