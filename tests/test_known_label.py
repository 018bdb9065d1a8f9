from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lakes import label_rows

from labelstream.streaming.known_label import KnownLabel

KEY = "0123456789abcdef" * 2
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))])
SINGLES = st.floats(0, 1, width=32)
KNOWN_LABELS = st.builds(
    KnownLabel,
    st.just(KEY),
    st.lists(SINGLES, min_size=2, max_size=20).map(tuple),
    st.booleans(),
    st.datetimes(timezones=ZONES),
    st.none() | SINGLES,
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)


@given(KNOWN_LABELS)
def test_a_label_is_the_same_after_it_was_on_disk(label: KnownLabel):
    read = KnownLabel.decode(KEY, label.encode())
    assert read == label
    assert read.judged_at.tzinfo is UTC


def test_a_row_of_labels_is_known_by_its_own_parts():
    [row] = label_rows(7).to_pylist()
    label = KnownLabel.of(row)
    assert KnownLabel.decode(label.label_key, label.encode()) == label
    expected: dict[str, Any] = {name: row[name] for name in KnownLabel._fields}
    assert label._asdict() == expected | {"probabilities": (0.25, 0.25, 0.5)}


def test_a_label_takes_some_forty_bytes():
    [row] = label_rows(7).to_pylist()
    assert len(KnownLabel.of(row | {"cross_encoder_version": "0123456789ab"}).encode()) < 45
