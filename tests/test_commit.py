from __future__ import annotations

from lakes import a_commit, label_rows

from labelstream.schemas.tables import CONSUMED, LABELS
from labelstream.streaming.commit import Commit


def keys(commit: Commit) -> list[int]:
    return [int(key, 16) for key in commit.tables[LABELS.name].column("label_key").to_pylist()]


def counts(commit: Commit) -> tuple[int, int]:
    [row] = commit.tables[CONSUMED.name].to_pylist()
    return row["labelled"], row["cached"]


def test_labels_that_are_left_out_count_as_cached():
    commit = a_commit(0, 3, tables={LABELS.name: label_rows(1, 2, 3)})
    fresh = commit.without_labels({0, 2})
    assert (keys(fresh), list(fresh.label_ranges), counts(fresh)) == ([2], [0], (1, 2))
    assert (keys(commit), counts(commit)) == ([1, 2, 3], (3, 0))
    assert (fresh.batch_id, fresh.ranges) == (commit.batch_id, commit.ranges)


def test_labels_that_consume_nothing_are_left_out_without_a_count():
    commit = Commit("asked for", (), {LABELS.name: label_rows(1, 2)})
    fresh = commit.without_labels({1})
    assert (keys(fresh), fresh.label_ranges, set(fresh.tables)) == ([1], (), {LABELS.name})
    nothing = commit.without_labels({0, 1})
    assert nothing.tables[LABELS.name].schema == LABELS.schema
    assert keys(nothing) == []


def test_nothing_left_out_is_the_same_commit():
    commit = Commit("asked for", (), {LABELS.name: label_rows(1)})
    assert commit.without_labels(set()) is commit
