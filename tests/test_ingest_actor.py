from __future__ import annotations

import threading
from pathlib import Path

import pytest
from lakes import all_settings

from labelstream.actors.ingest import IngestActor, ingest_options
from labelstream.schemas.errors import BrokerUnavailable, SettingsError
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import RaySettings
from labelstream.streaming import retry


class ReluctantBroker:
    """Refuses a few times before it lets somebody in."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def __call__(self) -> str:
        self.refusals -= 1
        if self.refusals >= 0:
            raise BrokerUnavailable("connection reset by peer")
        return "connected"


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestActor:
    monkeypatch.setattr(retry, "AGAIN_S", 0.01)
    return IngestActor(all_settings(tmp_path), (0, 1), JudgeDescription("m", "p", "s", 1.0), "")


def test_a_broker_that_is_away_at_the_start_is_waited_for(actor: IngestActor):
    assert actor._patiently(ReluctantBroker(3)) == "connected"


def test_nobody_waits_who_has_been_told_to_stop(actor: IngestActor):
    threading.Timer(0.05, actor.stop).start()
    with pytest.raises(BrokerUnavailable):
        actor._patiently(ReluctantBroker(1_000_000))


def test_what_waiting_does_not_mend_is_raised_at_once(actor: IngestActor):
    def refuse() -> str:
        raise SettingsError("no such user")

    with pytest.raises(SettingsError, match="no such user"):
        actor._patiently(refuse)


def test_on_a_cluster_replicas_ask_for_different_machines(tmp_path: Path):
    on_one_machine = ingest_options(all_settings(tmp_path), 0)
    assert "scheduling_strategy" not in on_one_machine
    assert on_one_machine["num_cpus"] == 0
    on_a_cluster = ingest_options(all_settings(tmp_path, ray=RaySettings(address="auto")), 0)
    assert on_a_cluster["scheduling_strategy"] == "SPREAD"  # as far as Ray can: best effort
    assert on_a_cluster["num_cpus"] > 0  # else Ray does not even try
