from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from engines import EchoEngine, FailingEngine, GatedEngine
from patience import TIMEOUT

from labelstream.actors.engine_thread import URGENT_FOR_S, EngineThread
from labelstream.schemas.errors import ModelUnavailable
from labelstream.schemas.scale import Floats


def same(answers: Floats) -> Floats:
    return answers


@contextmanager
def running(engine: EchoEngine, limit: int = 4) -> Iterator[EngineThread]:
    thread = EngineThread(lambda: engine, levels=2, limit=limit)
    try:
        yield thread
    finally:
        if isinstance(engine, GatedEngine):
            engine.gate.set()
        thread.close()


def test_many_batches_at_once_each_get_their_own_answers_in_order():
    with running(EchoEngine()) as thread, ThreadPoolExecutor(8) as callers:
        batches = [[[batch, row] for row in range(50)] for batch in range(20)]
        futures = list(callers.map(lambda prompts: thread.submit(prompts, same), batches))
        for prompts, future in zip(batches, futures, strict=True):
            np.testing.assert_array_equal(future.result(TIMEOUT), prompts)


def test_engine_never_holds_more_than_the_limit():
    engine = EchoEngine()
    with running(engine, limit=3) as thread:
        thread.submit([[0, row] for row in range(20)], same).result(TIMEOUT)
    assert engine.fullest == 3


def test_urgent_batch_overtakes_what_waits():
    engine = GatedEngine()
    with running(engine, limit=1) as thread:
        slow = thread.submit([[1, row] for row in range(5)], same)
        assert engine.asked.wait(TIMEOUT)
        urgent = thread.submit([[2, 0]], same, priority=-1)
        engine.gate.set()
        slow.result(TIMEOUT)
        urgent.result(TIMEOUT)
    assert [seen[0] for seen in engine.seen] == [0, -1, 0, 0, 0, 0]


def test_few_patient_prompts_are_inside_while_urgent_ones_come_in():
    engine, now = GatedEngine(), [0.0]
    thread = EngineThread(lambda: engine, levels=2, limit=8, patient_limit=2, clock=lambda: now[0])
    thread.submit([[0, 99]], same)
    assert engine.asked.wait(TIMEOUT)  # from here on nothing is let in until the gate opens
    urgent = thread.submit([[1, row] for row in range(3)], same, priority=-1)
    patient = thread.submit([[0, row] for row in range(20)], same)
    engine.gate.set()
    urgent.result(TIMEOUT)
    patient.result(TIMEOUT)
    during, engine.fullest = engine.fullest, 0
    now[0] = 2 * URGENT_FOR_S
    thread.submit([[0, row] for row in range(20)], same).result(TIMEOUT)
    thread.close()
    assert (during, engine.fullest) == (3 + 2, 8)


def test_the_tokens_of_patient_prompts_inside_are_few_enough_to_be_worked_through_soon():
    engine = EchoEngine()
    thread = EngineThread(lambda: engine, levels=2, limit=100, patient_tokens=6)
    thread.submit([[0, row] for row in range(20)], same).result(TIMEOUT)
    patient, engine.fullest = engine.fullest, 0
    thread.submit([[1, row] for row in range(20)], same, priority=-1).result(TIMEOUT)
    thread.close()
    assert (patient, engine.fullest) == (3, 20)


def test_a_patient_prompt_of_more_tokens_than_may_be_inside_goes_in_alone():
    engine = EchoEngine()
    with_room_for_one = EngineThread(lambda: engine, levels=2, limit=100, patient_tokens=1)
    with_room_for_one.submit([[0, row] for row in range(5)], same).result(TIMEOUT)
    with_room_for_one.close()
    assert engine.fullest == 1


def test_a_step_that_does_not_end_is_seen():
    engine, now = GatedEngine(), [5.0]
    thread = EngineThread(lambda: engine, levels=2, limit=8, clock=lambda: now[0])
    assert thread.step_s == 0
    answer = thread.submit([[0, 1]], same)
    assert engine.asked.wait(TIMEOUT)
    now[0] = 47
    assert thread.step_s == 42
    engine.gate.set()
    answer.result(TIMEOUT)
    thread.close()
    assert thread.step_s == 0


def test_batches_of_one_priority_go_in_the_order_they_came():
    engine = GatedEngine()
    with running(engine, limit=1) as thread:
        futures = [thread.submit([[batch, 0], [batch, 1]], same) for batch in range(3)]
        engine.gate.set()
        for future in futures:
            future.result(TIMEOUT)
    assert [seen[1] for seen in engine.seen] == [0, 0, 1, 1, 2, 2]


def test_cancelled_batch_is_not_fed_any_further():
    engine = GatedEngine()
    with running(engine, limit=1) as thread:
        unwanted = thread.submit([[1, row] for row in range(100)], same)
        assert engine.asked.wait(TIMEOUT)
        assert unwanted.cancel()
        engine.gate.set()
        np.testing.assert_array_equal(thread.submit([[2, 7]], same).result(TIMEOUT), [[2, 7]])
    assert len(engine.seen) < 100


def test_empty_batch_is_answered_at_once():
    with running(EchoEngine()) as thread:
        assert thread.submit([], same).result(TIMEOUT).shape == (0, 2)


def test_answer_that_cannot_be_read_fails_its_own_batch_only():
    def unreadable(_: Floats) -> Floats:
        raise ValueError("unreadable")

    with running(EchoEngine()) as thread:
        bad, good = thread.submit([[1, 1]], unreadable), thread.submit([[2, 2]], same)
        with pytest.raises(ValueError, match="unreadable"):
            bad.result(TIMEOUT)
        assert good.result(TIMEOUT).tolist() == [[2, 2]]
        assert thread.healthy


@pytest.mark.filterwarnings("error")
def test_failed_engine_fails_everybody_who_waits_and_everybody_who_comes():
    heard: list[Exception] = []
    engine = FailingEngine()
    thread = EngineThread(lambda: engine, levels=2, limit=2, on_failure=heard.append)
    waiting = [thread.submit([[batch, row] for row in range(10)], same) for batch in range(3)]
    for future in waiting:
        with pytest.raises(ModelUnavailable, match="out of memory"):
            future.result(TIMEOUT)
    assert not thread.healthy
    with pytest.raises(ModelUnavailable, match="out of memory"):
        thread.submit([[0, 0]], same).result(TIMEOUT)
    thread.close()
    assert engine.closed
    assert [str(error) for error in heard] == ["out of memory"]


def test_close_fails_what_is_not_answered():
    engine = GatedEngine()
    with running(engine) as thread:
        future = thread.submit([[0, row] for row in range(1000)], same)
        assert engine.asked.wait(TIMEOUT)
        with ThreadPoolExecutor(1) as closer:
            closing = closer.submit(thread.close)
            with thread._changed:
                assert thread._changed.wait_for(lambda: not thread.healthy, TIMEOUT)
            engine.gate.set()
            closing.result(TIMEOUT)
        with pytest.raises(ModelUnavailable, match="closed"):
            future.result(TIMEOUT)
    assert engine.closed


def test_engine_that_cannot_be_loaded_says_so_where_it_was_asked_for():
    def load() -> EchoEngine:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        EngineThread(load, levels=2, limit=1)


def test_close_right_after_an_answer_ends_in_good_order():
    engine = GatedEngine()
    with running(engine, limit=1) as thread:  # full, so what has been fed still stands among those that wait
        future = thread.submit([[1, 2]], same)
        assert engine.asked.wait(TIMEOUT)
        with ThreadPoolExecutor(1) as closer:
            closing = closer.submit(thread.close)
            with thread._changed:
                assert thread._changed.wait_for(lambda: not thread.healthy, TIMEOUT)
            engine.gate.set()
            closing.result(TIMEOUT)
        np.testing.assert_array_equal(future.result(TIMEOUT), [[1, 2]])
    assert engine.closed
