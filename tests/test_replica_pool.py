"""Which replica of a pool is asked."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from labelstream.actors.replica_pool import ReplicaPool
from labelstream.schemas.errors import ModelUnavailable


class FakeActor:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Future[str]] = []
        self.judge = self

    def remote(self) -> FakeActor:
        self.asked.append(Future())
        return self

    def future(self) -> Future[str]:
        return self.asked[-1]


class Shop:
    """A pool of actors that can be found by their number."""

    def __init__(self, there: int, used: int) -> None:
        self.actors = [FakeActor() for _ in range(there)]
        self.pool = ReplicaPool("labeller", self.find, range(used), answer_timeout_s=60)

    def find(self, index: int) -> FakeActor:
        if index >= len(self.actors):
            raise ValueError("no such actor")
        return self.actors[index]

    def call(self) -> int:
        """Who is asked."""
        before = [len(actor.asked) for actor in self.actors]
        self.last: Future[Any] = self.pool.call("judge")
        (index,) = [n for n, actor in enumerate(self.actors) if len(actor.asked) > before[n]]
        return index


def test_the_least_busy_one_is_asked():
    shop = Shop(2, used=2)
    assert [shop.call() for _ in range(4)] == [0, 1, 0, 1]
    for future in shop.actors[1].asked:
        future.set_result("done")
    assert [shop.call() for _ in range(2)] == [1, 1]


def test_one_that_fails_at_once_is_not_asked_again_at_once():
    shop = Shop(2, used=2)
    assert shop.call() == 0
    shop.actors[0].asked[0].set_exception(ActorDiedError())
    with pytest.raises(ModelUnavailable):
        shop.last.result()
    assert [shop.call() for _ in range(3)] == [1, 1, 1]


def test_the_only_one_is_asked_again():
    shop = Shop(1, used=1)
    shop.call()
    shop.actors[0].asked[0].set_exception(ActorDiedError())
    assert shop.call() == 0


def test_they_can_become_more_and_fewer():
    shop = Shop(3, used=1)
    assert [shop.call() for _ in range(2)] == [0, 0]
    shop.pool.use(range(3))
    assert [shop.call() for _ in range(4)] == [1, 2, 1, 2]
    last = shop.last
    shop.pool.use([0])
    assert [shop.call() for _ in range(2)] == [0, 0]
    shop.actors[2].asked[-1].set_result("finished")
    assert last.result() == "finished"


def test_one_in_the_middle_can_go_and_another_one_have_its_number():
    shop = Shop(3, used=3)
    shop.pool.use([0, 2])
    assert [shop.call() for _ in range(4)] == [0, 2, 0, 2]
    shop.actors[1] = FakeActor()
    shop.pool.use([0, 1, 2])
    assert [shop.call() for _ in range(2)] == [1, 1]


def test_one_that_is_not_there_is_left_out():
    shop = Shop(2, used=1)
    shop.pool.use([0, 3, 1])
    assert [shop.call() for _ in range(3)] == [0, 1, 0]
