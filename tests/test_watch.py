from __future__ import annotations

import threading

import pytest
from patience import TIMEOUT

from labelstream.actors.watch import Watch
from labelstream.schemas.errors import LabelstreamError, TransientError


def test_a_look_gets_the_value_before_and_gives_the_next():
    watch = Watch("counter", lambda before: before + 1, 0, 60)
    watch.look()
    watch.look()
    assert watch.value == 2


def test_it_goes_on_looking_until_it_is_closed():
    often = threading.Event()

    def look(before: int) -> int:
        if before == 5:
            often.set()
        return before + 1

    watch = Watch("counter", look, 0, 0.001)
    watch.start()
    assert often.wait(TIMEOUT)
    watch.close()
    reached = watch.value
    assert not watch._thread.is_alive()
    assert watch.value == reached


@pytest.mark.parametrize("error", [TransientError("the lake is away"), ValueError("the lake is away")])
def test_what_goes_wrong_is_said_once_and_changes_nothing(error: Exception, caplog: pytest.LogCaptureFixture):
    answers = iter([error, error, 7, error])

    def look(_: int) -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = Watch("catalogue", look, 1, 60)
    watch.look()
    watch.look()
    assert watch.value == 1
    assert [record.getMessage() for record in caplog.records] == [
        "catalogue: the lake is away; what was there before stays"
    ]
    assert bool(caplog.records[0].exc_info) is not isinstance(error, LabelstreamError)
    watch.look()
    assert watch.value == 7
    watch.look()
    assert (watch.value, len(caplog.records)) == (7, 2)


def test_a_value_that_must_not_be_old_is_given_up_quietly(caplog: pytest.LogCaptureFixture):
    answers = iter([7, TransientError("the lake is away"), ValueError("a bug")])

    def look(_: int) -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    caplog.set_level("INFO")
    watch = Watch("drift", look, 1, 60, keeps=False)
    seen = []
    for _ in range(3):
        watch.look()
        seen.append(watch.value)
    assert seen == [7, 1, 1]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_closing_before_the_start_is_no_error():
    watch = Watch("counter", lambda before: before, 0, 60)
    watch.close()
    assert watch.value == 0
