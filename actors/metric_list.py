"""Every metric, once: its name, kind, labels and meaning. Code, dashboard, alerts and documents go by this list."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric of Prometheus.

    Attributes:
        name: With its unit, and ``_total`` at the end of a counter.
        kind: As Prometheus calls it.
        labels: Names of its labels.
        help: What it says, in one sentence.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def samples(self) -> tuple[str, ...]:
        """Names under which a query finds it."""
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


HTTP_REQUESTS = Metric(
    "labelstream_http_requests_total",
    "counter",
    ("route", "method", "status", "replica"),
    "Requests answered; status 499 where the caller went away.",
)
HTTP_SECONDS = Metric(
    "labelstream_http_request_seconds",
    "histogram",
    ("route", "replica"),
    "Time from a request's arrival to the end of its answer.",
)
HTTP_IN_FLIGHT = Metric("labelstream_http_in_flight_requests", "gauge", ("replica",), "Requests being worked on.")
HTTP_REFUSED = Metric(
    "labelstream_http_refused_total", "counter", ("reason", "replica"), "Requests refused before any work."
)
HTTP_ITEMS = Metric(
    "labelstream_http_items_total",
    "counter",
    ("kind", "outcome", "replica"),
    "Pairs (kind label) and documents (kind rerank) of requests: labelled, cached, error or ranked.",
)

BUILD_INFO = Metric("labelstream_build_info", "gauge", ("version",), "Always 1; the version that runs.")
READY = Metric("labelstream_ready", "gauge", (), "1 when every part answers, else 0.")
RESTARTS = Metric("labelstream_actor_restarts_total", "counter", (), "Ingest actors that had to be started again.")

LABELLERS_WANTED = Metric("labelstream_labellers_wanted", "gauge", (), "Labellers that the work asks for.")
LABELLERS_READY = Metric(
    "labelstream_labellers_ready", "gauge", (), "Labellers that have loaded their model and take work."
)

KEPT_LABELS = Metric(
    "labelstream_kept_labels_total", "counter", (), "Labels made for requests that were brought to the lake."
)
LOST_LABELS = Metric(
    "labelstream_lost_labels_total",
    "counter",
    (),
    "Labels made for requests that were given up, because lake or broker did not take them in time.",
)

LAG = Metric("labelstream_lag_records", "gauge", (), "Records in Kafka that the lake does not have.")
RECORDS = Metric(
    "labelstream_records_total",
    "counter",
    ("outcome",),
    "Records in the lake since it began: queries, products, labelled, cached, dead_lettered or ignored.",
)
WAITING = Metric(
    "labelstream_waiting_events", "gauge", (), "Events in the lake that wait for their product or query text."
)
BATCHES = Metric(
    "labelstream_batches_total", "counter", ("replica",), "Batches that an Ingest has brought to the lake."
)
BATCH_SECONDS = Metric(
    "labelstream_batch_seconds",
    "histogram",
    ("replica",),
    "Time from a batch's start to its arrival in the lake: judging, publishing, committing.",
)
BATCHES_IN_FLIGHT = Metric("labelstream_in_flight_batches", "gauge", ("replica",), "Batches on their way to the lake.")
PAIRS = Metric("labelstream_pairs_total", "counter", ("replica",), "New pairs that an Ingest had judged.")
STALE_BATCHES = Metric(
    "labelstream_stale_batches_total", "counter", ("replica",), "Batches that somebody else had committed already."
)
FAILED_COMMITS = Metric(
    "labelstream_failed_offset_commits_total",
    "counter",
    ("replica",),
    "Offsets that Kafka did not take; the lake has its own, so nothing is lost.",
)
STORE_ENTRIES = Metric(
    "labelstream_store_entries", "gauge", ("kind", "replica"), "Products, queries and labels in the local store."
)

MODEL_PAIRS = Metric(
    "labelstream_model_pairs_total", "counter", ("model", "replica"), "Pairs that a model actor has answered."
)
MODEL_ERRORS = Metric(
    "labelstream_model_errors_total", "counter", ("model", "replica"), "Pairs that a model could not judge."
)
MODEL_BATCHES = Metric(
    "labelstream_model_batches_total", "counter", ("model", "replica"), "Batches that a model actor has answered."
)
MODEL_BUSY = Metric(
    "labelstream_model_busy_seconds_total",
    "counter",
    ("model", "replica"),
    "Time in which a model actor had at least one batch.",
)
MODEL_STARTED = Metric(
    "labelstream_model_start_timestamp_seconds",
    "gauge",
    ("model", "replica"),
    "Unix time at which a model actor started; it changes with every restart.",
)

DRIFT = Metric(
    "labelstream_label_drift_psi",
    "gauge",
    ("model_version",),
    "Population stability index of a labeller's newest labels against its first ones.",
)
CHAMPION = Metric("labelstream_champion_info", "gauge", ("kind", "version"), "Always 1; which model is champion.")
PROMOTED = Metric(
    "labelstream_champion_promoted_timestamp_seconds",
    "gauge",
    ("kind",),
    "Unix time at which the champion became that.",
)
RETRAINED = Metric(
    "labelstream_retrain_timestamp_seconds", "gauge", ("kind",), "Unix time at which the newest version was trained."
)
RETRAIN_PASSED = Metric(
    "labelstream_retrain_passed",
    "gauge",
    ("kind",),
    "1 if the gate let the newest version pass, 0 if it refused it.",
)
REFUSALS = Metric(
    "labelstream_gate_refused_versions",
    "gauge",
    ("kind",),
    "Versions that the gate has refused since the champion was promoted.",
)

HTTP_METRICS = (HTTP_REQUESTS, HTTP_SECONDS, HTTP_IN_FLIGHT, HTTP_REFUSED, HTTP_ITEMS)
STREAM_METRICS = (
    LAG, RECORDS, WAITING, BATCHES, BATCH_SECONDS, BATCHES_IN_FLIGHT, PAIRS, STALE_BATCHES, FAILED_COMMITS,
    STORE_ENTRIES,
)  # fmt: skip
MODEL_METRICS = (MODEL_PAIRS, MODEL_ERRORS, MODEL_BATCHES, MODEL_BUSY, MODEL_STARTED)
LEARNING_METRICS = (DRIFT, CHAMPION, PROMOTED, RETRAINED, RETRAIN_PASSED, REFUSALS)
LABELLER_METRICS = (LABELLERS_WANTED, LABELLERS_READY)
KEEPER_METRICS = (KEPT_LABELS, LOST_LABELS)
# Of what is behind the endpoint: each of its replicas tells them alike, so they must not be added up over pods.
SHARED_METRICS = (
    BUILD_INFO, READY, RESTARTS, *LABELLER_METRICS, *KEEPER_METRICS, *STREAM_METRICS, *MODEL_METRICS,
    *LEARNING_METRICS,
)  # fmt: skip
METRICS = (*HTTP_METRICS, *SHARED_METRICS)


def markdown_table() -> str:
    """All metrics as a table for the documents."""
    rows = [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.help} |" for m in METRICS]
    return "\n".join(["| metric | kind | labels | meaning |", "|---|---|---|---|", *rows]) + "\n"
