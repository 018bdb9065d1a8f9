"""SIGKILL before every single step, and several at once: a champion is whole whenever anybody looks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from registries import RANKER, Outcome, Workers, add, promote

from labelstream.training.registry import Registry

AT_ONCE = 4


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as started:
        yield started


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], Registry]:
    """Make copies of a registry with four versions, of which three were champion."""
    template = Registry(tmp_path / "template")
    versions = [add(template, content) for content in ("one", "two", "three", "four")]
    for version in versions[:3]:
        promote(template, version)
    numbers = count()

    def copy() -> Registry:
        root = tmp_path / str(next(numbers))
        shutil.copytree(tmp_path / "template", root)
        return Registry(root)

    return copy


def whole(registry: Registry) -> str:
    """The champion, once everything that can be seen is whole."""
    champion = registry.champion(RANKER)
    assert champion is not None
    for version in registry.names(RANKER):
        assert registry.verify(RANKER, version) == []
    assert champion.version in registry.names(RANKER)
    assert set(registry.history(RANKER).rollback_path[:2]) <= set(registry.names(RANKER))
    return champion.version


def kill_at_every_step(
    workers: Workers, start: Callable[[], Registry], check: Callable[[Registry], None], **job: Any
) -> int:
    """Do a job again and again, killed one step later each time, until it gets to its end; the number of kills."""
    for step in count(1):
        registry = start()
        [outcome] = workers.run({"root": str(registry._root), "die_at": step, **job})
        assert outcome.error == ""
        check(registry)
        if not outcome.killed:
            return step - 1
    raise AssertionError


def test_killed_at_any_step_of_adding_and_promoting(workers: Workers, start: Callable[[], Registry]):
    seen = set()

    def check(registry: Registry) -> None:
        seen.add((whole(registry), len(registry.names(RANKER))))
        [again] = workers.run({"root": str(registry._root), "do": "add_and_promote", "content": "five"})
        assert whole(registry) == again.result
        assert len(registry.names(RANKER)) == 5

    kills = kill_at_every_step(workers, start, check, do="add_and_promote", content="five")
    assert kills > 40
    assert len(seen) == 3  # nothing yet, added, promoted


def test_killed_at_any_step_of_a_rollback(workers: Workers, start: Callable[[], Registry]):
    seen = set()

    def check(registry: Registry) -> None:
        before = registry.history(RANKER).lineage
        seen.add(whole(registry))
        [again] = workers.run({"root": str(registry._root), "do": "rollback_from", "expected": versions(registry)[2]})
        assert again.error == "" if len(before) == 3 else again.error.startswith("StaleChampion")
        assert whole(registry) == versions(registry)[1]

    unwanted = versions(start())[2]
    assert kill_at_every_step(workers, start, check, do="rollback_from", expected=unwanted) > 20
    assert len(seen) == 2


def test_killed_at_any_step_of_pruning(workers: Workers, start: Callable[[], Registry]):
    def check(registry: Registry) -> None:
        assert len(registry.names(RANKER)) in {4, 3}
        whole(registry)
        [again] = workers.run({"root": str(registry._root), "do": "prune", "keep": 1})
        assert again.error == ""
        left = {path.name for path in (registry._root / RANKER / "versions").iterdir()}
        assert left == set(registry.names(RANKER))
        assert len(left) == 3
        assert list((registry._root / RANKER / "trash").iterdir()) == []

    assert kill_at_every_step(workers, start, check, do="prune", keep=1) > 20


def versions(registry: Registry) -> list[str]:
    return [manifest.version for manifest in registry.versions(RANKER)]


def test_killed_at_random_while_others_look_and_work(workers: Workers, start: Callable[[], Registry]):
    """Kills come from outside here, so also in the middle of a write."""
    registry = start()
    root = str(registry._root)
    for seed in range(20):
        churners = [
            {"root": root, "do": "churn", "seed": 2 * seed + i, "die_after": 1 + (seed + i) % 5} for i in (0, 1)
        ]
        *killed, watched = workers.run(*churners, {"root": root, "do": "watch"})
        assert all(outcome.killed for outcome in killed), killed
        assert watched.error == ""
        assert watched.result["wrong"] == []
        assert watched.result["looks"] >= 3
        whole(registry)
    [after] = workers.run({"root": root, "do": "add_and_promote", "content": "after it all"})
    assert whole(registry) == after.result


def test_of_several_promoters_one_wins(workers: Workers, start: Callable[[], Registry]):
    registry = start()
    for round_ in range(10):
        challengers = [add(registry, f"{round_} {number}") for number in range(AT_ONCE)]
        champion = registry.champion(RANKER)
        assert champion is not None
        outcomes = at_once(workers, registry, "promote_over", "version", challengers, expected=champion.version)
        winners = [v for v, outcome in zip(challengers, outcomes, strict=True) if not outcome.error]
        assert winners == [whole(registry)]
        assert all(outcome.error.startswith("StaleChampion") for outcome in outcomes if outcome.error)
        assert len(registry.history(RANKER).records) == 3 + round_ + 1


def test_of_several_who_roll_back_one_does(workers: Workers, start: Callable[[], Registry]):
    for _ in range(5):
        registry = start()
        unwanted = [versions(registry)[2]] * AT_ONCE
        outcomes = at_once(workers, registry, "rollback_from", "expected", unwanted)
        assert sorted(bool(outcome.error) for outcome in outcomes) == [False, True, True, True]
        assert whole(registry) == versions(registry)[1]


def test_several_who_add_the_same_arrive_at_one_version(workers: Workers, start: Callable[[], Registry]):
    registry = start()
    for round_ in range(5):
        outcomes = at_once(workers, registry, "add_only", "content", [f"same {round_}"] * AT_ONCE)
        assert {outcome.error for outcome in outcomes} == {""}
        assert len({outcome.result for outcome in outcomes}) == 1
        assert len(registry.names(RANKER)) == 4 + round_ + 1
    whole(registry)


def test_a_promotion_and_a_pruning_at_once_leave_a_whole_champion(workers: Workers, start: Callable[[], Registry]):
    """The oldest version is what both want: either it is champion, or it is gone and its promoter knows."""
    ends = set()
    for _ in range(15):
        registry = start()
        oldest, _, champion, _ = versions(registry)
        root = str(registry._root)
        promotion, pruning = workers.run(
            {"root": root, "do": "promote_over", "version": oldest, "expected": champion},
            {"root": root, "do": "prune", "keep": 1},
        )
        assert pruning.error == ""
        assert (whole(registry) == oldest) == (not promotion.error)
        ends.add(bool(promotion.error))
    assert ends


def at_once(
    workers: Workers, registry: Registry, do: str, name: str, values: list[str], **arguments: Any
) -> list[Outcome]:
    return workers.run(*({"root": str(registry._root), "do": do, name: value, **arguments} for value in values))
