"""What ``labelstream status`` tells: lag, counts, drift and versions, read from lake and broker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from labelstream.schemas.drift import population_stability_index
from labelstream.schemas.settings import Settings
from labelstream.streaming.lake import Lake
from labelstream.streaming.topics import EndOffsets

DRIFT_WINDOW = 5000
DRIFT_MINIMUM = 200

# Newest and oldest labels of each model, never the same ones: half of them at most.
_DRIFT = """
    WITH numbered AS (
        SELECT model_version, level, row_number() OVER model AS n, count(*) OVER (PARTITION BY model_version) AS total
        FROM labels WINDOW model AS (PARTITION BY model_version ORDER BY judged_at, label_key)
    )
    SELECT model_version, level,
           count(*) FILTER (n <= least(total // 2, $window)) AS reference,
           count(*) FILTER (n > total - least(total // 2, $window)) AS latest
    FROM numbered WHERE total >= 2 * $minimum GROUP BY ALL
"""


class PartitionLag(NamedTuple):
    """How far the lake is behind one partition: the next offset to consume, and the records from there on."""

    topic: str
    partition: int
    consumed: int
    lag: int


def partition_lags(settings: Settings, lake: Lake) -> list[PartitionLag]:
    """The lag of every partition of the two topics that are read.

    Raises:
        BrokerUnavailable: Kafka does not answer.
        SettingsError: A topic does not exist.
    """
    offsets = lake.offsets()
    with EndOffsets(settings.kafka, settings.kafka.input_topics) as ask:
        lags = ask.lags(offsets)
    return [
        PartitionLag(partition.topic, partition.partition, offsets.get(partition, 0), lag)
        for partition, lag in sorted(lags.items())
    ]


def label_versions(lake: Lake) -> list[tuple[str, str, str, int]]:
    """(model, prompt, scale, number of labels) of every judge that has written labels, the busiest first."""
    rows = lake.query(
        "SELECT model_version, prompt_version, scale_version, count(*) FROM labels GROUP BY ALL ORDER BY 4 DESC, 1"
    )
    return [(str(m), str(p), str(s), int(n)) for m, p, s, n in rows]


def label_drift(lake: Lake) -> dict[str, float]:
    """Population stability index of each model's newest labels against its first ones.

    Models with fewer than 400 labels are left out; the two windows hold up to 5,000 labels and never overlap.
    """
    rows = lake.query(_DRIFT.replace("$window", str(DRIFT_WINDOW)).replace("$minimum", str(DRIFT_MINIMUM)))
    models: dict[str, list[tuple[float, float]]] = {}
    for model, _, reference, latest in rows:
        models.setdefault(model, []).append((reference, latest))
    return {
        model: population_stability_index(*np.array(counts, dtype=np.float64).T) for model, counts in models.items()
    }


def dead_letter_reasons(lake: Lake, limit: int = 10) -> list[tuple[str, str, int]]:
    """(stage, message, count) of the most frequent reasons."""
    rows = lake.query(
        "SELECT stage, message, count(*) FROM dead_letters GROUP BY ALL ORDER BY 3 DESC, 2 LIMIT ?", [limit]
    )
    return [(str(stage), str(message), int(count)) for stage, message, count in rows]


def ignored_actions(lake: Lake, limit: int = 20) -> list[tuple[str, int]]:
    """(action, count) of the most frequent actions that are none of our business."""
    rows = lake.query(
        "SELECT e.key, sum(e.value)::BIGINT FROM (SELECT unnest(map_entries(ignored_by_action)) AS e FROM consumed) "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        [limit],
    )
    return [(str(action), int(count)) for action, count in rows]
