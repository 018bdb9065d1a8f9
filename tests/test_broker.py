from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from conftest import MakeSettings

from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import KafkaSettings, Settings
from labelstream.streaming import broker
from labelstream.streaming.broker import KafkaCluster, find_kafka_home, local_broker
from labelstream.streaming.broker_node import free_ports, port_is_free
from labelstream.streaming.kafka_client import make_admin, make_consumer
from labelstream.streaming.mock_broker import MockCluster
from labelstream.streaming.publish import Outgoing, publish
from labelstream.streaming.topics import EndOffsets, ensure_topics, partitions_of

RECORDS = [Outgoing(b"key-%d" % number, b"value-%d" % number) for number in range(500)]


def read_values(settings: KafkaSettings, topic: str) -> list[bytes]:
    """Everything that the topic holds, read without a group."""
    with EndOffsets(settings, [topic]) as ask:
        ends = ask()
    values: list[bytes] = []
    with closing(make_consumer(settings, group=False)) as consumer:
        consumer.assign(partitions_of(consumer, topic))
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            values += [record.value for batch in consumer.poll(500).values() for record in batch]
    return values


@pytest.mark.broker
@pytest.mark.usefixtures("kafka_home")
def test_records_survive_sigkill_and_a_start_on_the_same_folder(tmp_path: Path, fresh_topics: MakeSettings):
    with KafkaCluster.start(tmp_path) as cluster:
        settings = fresh_topics(cluster.bootstrap_servers)
        ensure_topics(settings)
        publish(RECORDS, settings.events_topic, settings)
        cluster.kill(1)
        assert cluster.pids == {}
        cluster.restart(1)
        assert sorted(read_values(settings, settings.events_topic)) == sorted(r.value for r in RECORDS)
    with KafkaCluster.start(tmp_path) as again:
        assert again.bootstrap_servers == settings.bootstrap_servers
        assert sorted(read_values(settings, settings.events_topic)) == sorted(r.value for r in RECORDS)


@pytest.mark.broker
def test_a_leader_moves_and_producing_goes_on(kafka_three: KafkaCluster, fresh_topics: MakeSettings):
    settings = fresh_topics(kafka_three.bootstrap_servers)
    ensure_topics(settings, partitions=1)
    publish(RECORDS, settings.events_topic, settings)
    with closing(make_admin(settings)) as admin:
        [topic] = admin.describe_topics([settings.events_topic])
    leader = topic["partitions"][0]["leader_id"]
    assert len(topic["partitions"][0]["replica_nodes"]) == 3
    kafka_three.kill(leader)
    publish(RECORDS, settings.events_topic, settings)
    values = read_values(settings, settings.events_topic)
    assert sorted(values) == sorted(2 * [r.value for r in RECORDS])


@pytest.mark.broker
@pytest.mark.usefixtures("kafka_home")
def test_a_folder_serves_one_cluster_of_one_size(tmp_path: Path):
    with KafkaCluster.start(tmp_path):
        with pytest.raises(SettingsError, match="is taken; stop the broker that runs on this folder"):
            KafkaCluster.start(tmp_path)
        with pytest.raises(SettingsError, match="holds a cluster of 1 brokers, not 2"):
            KafkaCluster.start(tmp_path, brokers=2)


@pytest.mark.broker
@pytest.mark.usefixtures("kafka_home")
def test_a_temporary_cluster_leaves_nothing():
    with KafkaCluster.start() as cluster:
        [process] = [psutil.Process(pid) for pid in cluster.pids.values()]
        folder = Path(process.cmdline()[-1]).parents[1]
        assert folder.is_dir()
    cluster.stop()  # a second time does no harm
    assert not process.is_running()
    assert not folder.exists()


@pytest.mark.broker
@pytest.mark.usefixtures("kafka_home")
def test_brokers_die_with_a_process_that_is_killed(tmp_path: Path):
    # The broker is started in a thread that ends: it must outlive the thread but not the process.
    code = f"""
import threading, time
from pathlib import Path
from labelstream.streaming.broker import KafkaCluster
clusters = []
thread = threading.Thread(target=lambda: clusters.append(KafkaCluster.start(Path({str(tmp_path)!r}))))
thread.start()
thread.join()
print(clusters[0].pids[1], flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        kafka_process = psutil.Process(int(parent.stdout.readline()))
        assert kafka_process.is_running()
        os.kill(parent.pid, signal.SIGKILL)
    # A killed orphan may stay a zombie where the container's init does not reap: dead all the same.
    psutil.wait_procs([kafka_process], timeout=10)
    assert not kafka_process.is_running() or kafka_process.status() == psutil.STATUS_ZOMBIE


def test_a_wrong_kafka_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=f"KAFKA_HOME={tmp_path} has no bin/kafka-server-start.sh"):
        find_kafka_home()


def test_free_ports_are_distinct_and_outside_the_range_of_outgoing_connections():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port < 32_768 and port_is_free(port) for port in ports)


@pytest.fixture
def mock_cluster(monkeypatch: pytest.MonkeyPatch) -> MockCluster:
    pytest.importorskip("confluent_kafka", reason="the mock cluster needs labelstream[cpu]")
    monkeypatch.setattr(broker, "find_kafka_home", lambda: None)
    cluster = local_broker()
    assert isinstance(cluster, MockCluster)
    return cluster


def test_mock_cluster_takes_and_gives_records(mock_cluster: MockCluster, monkeypatch: pytest.MonkeyPatch):
    for name, value in mock_cluster.settings_environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load().kafka
    assert settings.assignment == "static"
    assert set(ensure_topics(settings)) == {
        "search-events",
        "products",
        "relevance-labels",
        "labelstream-dead-letters",
    }
    assert ensure_topics(settings) == []
    assert publish(RECORDS, settings.events_topic, settings) == 500
    assert sorted(read_values(settings, settings.events_topic)) == sorted(r.value for r in RECORDS)
    mock_cluster.stop()


@pytest.mark.usefixtures("mock_cluster")
def test_mock_cluster_says_what_it_is(caplog: pytest.LogCaptureFixture):
    with MockCluster.start():
        assert "for a first look only" in caplog.text
