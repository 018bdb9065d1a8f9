"""What is looked after until an error ends it."""

from __future__ import annotations

import threading

import pytest
from patience import TIMEOUT
from stream import wait_until

from labelstream.actors.upkeep import Upkeep
from labelstream.schemas.errors import LabelstreamError, ModelUnavailable, TerminalError

ENDED = "the models are not looked after any more"


class Faulty:
    """Fails at the second look, and counts them."""

    def __init__(self, error: Exception) -> None:
        self.looks, self._error = 0, error

    def look(self) -> None:
        self.looks += 1
        if self.looks == 2:
            raise self._error


def failure_after(error: Exception) -> LabelstreamError:
    faulty = Faulty(error)
    with Upkeep(ENDED, faulty.look, interval_s=0) as upkeep:
        wait_until(lambda: upkeep.failure is not None)
        with pytest.raises(RuntimeError, match=f"{ENDED}: .*{error}"):
            upkeep.check()
    assert faulty.looks == 2, "an error is the last look"
    assert upkeep.failure is not None
    return upkeep.failure


def test_while_all_is_well_nothing_is_said():
    looked = threading.Event()
    with Upkeep(ENDED, looked.set, interval_s=0) as upkeep:
        assert looked.wait(TIMEOUT)
        upkeep.check()
    assert upkeep.failure is None


def test_an_error_of_ours_is_passed_on_and_told_in_the_words_of_whoever_is_looked_after(
    caplog: pytest.LogCaptureFixture,
):
    error = ModelUnavailable("labeller-0 is away")
    assert failure_after(error) is error
    assert [record.getMessage() for record in caplog.records] == [f"{ENDED}: ModelUnavailable: labeller-0 is away"]


def test_a_fault_is_told_with_where_it_happened(caplog: pytest.LogCaptureFixture):
    failure = failure_after(ZeroDivisionError("no Labeller"))
    assert (type(failure), str(failure)) == (TerminalError, "ZeroDivisionError: no Labeller")
    assert ENDED in caplog.text
    assert "Traceback" in caplog.text
