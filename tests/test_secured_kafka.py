"""The rights and the settings of the manifests, on a real broker with TLS, passwords and access control."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from labellers import HURRY, FixedTimeLabeller
from manifests import of_kind
from pydantic import SecretStr
from rays import small_ray
from secured_kafka import SecuredKafka, secured_kafka
from stream import KnownLog, look_until, stream_settings

from labelstream.actors import model_pool
from labelstream.actors.application import Application
from labelstream.schemas.errors import LabelstreamError, SettingsError
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings
from labelstream.schemas.settings import KafkaSettings, RaySettings
from labelstream.streaming.kafka_client import make_consumer
from labelstream.streaming.lake import Lake
from labelstream.streaming.topics import EndOffsets, ensure_topics, partitions_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.broker,
    # kafka-python leaves the socket of a handshake that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]

NAMESPACE = "secured"
OVERLAY = "gpu"


@pytest.fixture(scope="module")
def secured(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """With the topics, and the users that the manifests have."""
    with secured_kafka(kafka_home, tmp_path_factory.mktemp("kafka")) as running:
        ensure_topics(running.administrator)
        for user in of_kind(OVERLAY, "KafkaUser"):
            running.add_user(user["metadata"]["name"], user["spec"]["authorization"]["acls"])
        running.add_user("stranger", [])
        yield running


@pytest.fixture(autouse=True)
def _no_socket_is_left_to_another_test() -> Iterator[None]:
    yield
    gc.collect()


def test_the_rights_are_enough_for_the_whole_stream(
    secured: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(model_pool, "Labeller", FixedTimeLabeller)
    (tmp_path / HURRY).touch()
    other = {
        "encoder": EncoderSettings(enabled=False),
        "ray": RaySettings(namespace=NAMESPACE),
        "labeller": LabellerSettings(model=str(tmp_path), cpus=0),
    }
    settings = stream_settings(tmp_path, secured.user("labelstream")).model_copy(update=other)
    toolbox = secured.user("labelstream-toolbox")
    assert ensure_topics(toolbox) == [], "it sees all of them"
    log = KnownLog(13, 40)
    log.send_products(toolbox)
    log.send_events(toolbox)
    with small_ray(NAMESPACE), Application(settings) as application:
        look_until(application, application.is_drained, "all is drained")
        assert application.stop() == 0
    with Lake(settings.lake, read_only=True) as lake:
        log.check(lake)
    assert records(secured.administrator, settings.kafka.labels_topic) == len(log.pairs)
    assert records(secured.administrator, settings.kafka.dead_letters_topic) == log.outcomes["dead_lettered"]


def records(settings: KafkaSettings, topic: str | None) -> int:
    """How many a topic has had, markers of transactions not counted, of which there are none."""
    assert topic is not None
    with closing(make_consumer(settings, group=False)) as consumer:
        return sum(consumer.end_offsets(partitions_of(consumer, topic)).values())


@pytest.fixture(params=["heard", "silenced"])
def kafka_log(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """What kafka-python says, and as the commands have it, which want no word of it."""
    log = logging.getLogger("kafka")
    before = log.level
    log.setLevel(logging.CRITICAL if request.param == "silenced" else logging.NOTSET)
    yield log
    log.setLevel(before)


@pytest.mark.parametrize(
    ("user", "changes", "kind", "named"),
    [
        # The broker hangs up right after its refusal, so most are not heard; then the password is named all the same.
        ("labelstream", {"sasl_password": SecretStr("wrong")}, LabelstreamError, "LABELSTREAM_KAFKA_"),
        ("nobody", {}, LabelstreamError, "LABELSTREAM_KAFKA_"),
        ("labelstream", {"ssl_cafile": None}, SettingsError, "CERTIFICATE_VERIFY_FAILED"),
        ("stranger", {}, SettingsError, "LABELSTREAM_KAFKA_"),
    ],
)
def test_who_is_refused_is_told_so(
    secured: SecuredKafka,
    user: str,
    changes: dict[str, Any],
    kind: type[LabelstreamError],
    named: str,
    kafka_log: logging.Logger,
    caplog: pytest.LogCaptureFixture,
):
    kafka = secured.user(user, request_timeout_ms=10_000, **changes)
    with pytest.raises(kind, match=named), EndOffsets(kafka, kafka.input_topics) as end_offsets:
        end_offsets()
    if kafka_log.level == logging.CRITICAL:
        assert not [record for record in caplog.records if record.name.startswith("kafka.net.manager")]
