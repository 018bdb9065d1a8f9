"""Ports that are open, asked and looked at are those where something listens, and every selector finds a pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from manifests import OVERLAYS, Manifest, Pod, of_kind, one, pods, rendered, settings_of
from ray._private import ray_constants

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
monitored = pytest.mark.parametrize("overlay", ["gpu", "ray-cron-job"])

Labels = dict[str, str]


def ray_groups(node: Any) -> Iterator[dict[str, Any]]:
    """Head and worker groups of every Ray cluster, wherever they stand."""
    if isinstance(node, dict):
        if "rayStartParams" in node:
            yield node
        for value in node.values():
            yield from ray_groups(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from ray_groups(value)


def chosen(overlay: str, selector: dict[str, Any]) -> list[Pod]:
    """The pods that a selector of labels finds."""
    assert set(selector) <= {"matchLabels"}, selector
    return [pod for pod in pods(overlay) if selector.get("matchLabels", {}).items() <= pod.labels.items()]


def endpoint_port(overlay: str) -> int:
    return int(settings_of(overlay)["LABELSTREAM_ENDPOINT_PORT"])


def metrics_port(overlay: str) -> int:
    """Where Ray shows its metrics, in all pods alike."""
    (port,) = {int(group["rayStartParams"]["metrics-export-port"]) for group in ray_groups(rendered(overlay))}
    return port


def opened(overlay: str, policy: str) -> set[int]:
    """The ports that a network policy names."""
    rules = one(overlay, "NetworkPolicy", policy)["spec"]["ingress"]
    return {entry["port"] for rule in rules for entry in rule.get("ports", [])}


@each_overlay
def test_the_ports_that_are_open_are_those_where_something_listens(overlay: str):
    assert opened(overlay, "endpoint") == {endpoint_port(overlay)}
    assert opened(overlay, "ray") == {ray_constants.DEFAULT_DASHBOARD_PORT}
    for group in ray_groups(rendered(overlay)):
        assert "dashboard-port" not in group["rayStartParams"]


@each_overlay
def test_kuberay_is_let_in_wherever_it_asks(overlay: str):
    """Of the proxy of a head it asks only where the head is to take requests."""
    service = one(overlay, "RayService", "labelstream")["spec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    for group in ray_groups(rendered(overlay)):
        ports = {port["name"]: port["containerPort"] for port in group["template"]["spec"]["containers"][0]["ports"]}
        assert ports.get("dashboard", ray_constants.DEFAULT_DASHBOARD_PORT) in opened(overlay, "ray")


@monitored
def test_prometheus_looks_at_every_pod_of_ray_and_at_its_metrics(overlay: str):
    spec = one(overlay, "PodMonitor", "labelstream-ray")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    of_ray = [pod for pod in pods(overlay) if "Ray" in pod.where]
    assert chosen(overlay, spec["selector"]) == of_ray
    for pod in of_ray:
        ports = {port["name"]: port["containerPort"] for port in pod.containers[0]["ports"]}
        assert ports[endpoint["port"]] == metrics_port(overlay), pod.where


@monitored
def test_prometheus_is_let_in_where_it_looks(overlay: str):
    policy = one(overlay, "NetworkPolicy", "prometheus")["spec"]
    assert opened(overlay, "prometheus") == {endpoint_port(overlay), metrics_port(overlay)}
    let_in = chosen(overlay, policy["podSelector"])
    looked_at = chosen(overlay, one(overlay, "PodMonitor", "labelstream-ray")["spec"]["selector"])
    for monitor in of_kind(overlay, "ServiceMonitor"):
        for service in services_with(overlay, monitor["spec"]["selector"]["matchLabels"]):
            looked_at += chosen(overlay, {"matchLabels": service["spec"]["selector"]})
    assert looked_at
    assert all(pod in let_in for pod in looked_at)


def services_with(overlay: str, labels: Labels) -> list[Manifest]:
    return [s for s in of_kind(overlay, "Service") if labels.items() <= s["metadata"].get("labels", {}).items()]


@each_overlay
def test_probes_ask_the_agent_of_ray_where_it_listens(overlay: str):
    default, asked = str(ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT), 0
    for group in ray_groups(rendered(overlay)):
        container = group["template"]["spec"]["containers"][0]
        named = {port["name"] for port in container["ports"]}
        agent = group["rayStartParams"].get("dashboard-agent-listen-port", default)
        for probe in (container["livenessProbe"]["httpGet"], container["readinessProbe"]["httpGet"]):
            if probe["port"] not in named:
                assert str(probe["port"]) == agent
                assert probe["path"] == "/api/local_raylet_healthz"
                asked += 1
    assert asked


@pytest.mark.parametrize("overlay", ["local", "gpu"])
def test_the_schedule_starts_a_job_that_is_there(overlay: str):
    pod = one(overlay, "CronJob", "labelstream-retrain")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    _, script, name = container["command"]
    assert one(overlay, "RayJob", name)["spec"]["suspend"] is True
    (mount,) = container["volumeMounts"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    folder, _, file = script.rpartition("/")
    assert folder == mount["mountPath"]
    assert file in one(overlay, "ConfigMap", volume["configMap"]["name"])["data"]


def selectors(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """What a manifest asks of the labels of our own pods."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            yield {"matchLabels": spec["selector"]}
        case "PodDisruptionBudget" | "PodMonitor" | "Deployment" | "StatefulSet":
            yield spec["selector"]
        case "NetworkPolicy":
            yield spec["podSelector"]
            yield from _peers(peer for rule in spec.get("ingress", []) for peer in rule.get("from", []))
        case "Kafka":
            yield from _peers(peer for each in spec["kafka"]["listeners"] for peer in each["networkPolicyPeers"])


def _peers(peers: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those of our namespace: what another one runs is not known here."""
    yield from (peer["podSelector"] for peer in peers if "namespaceSelector" not in peer)


@each_overlay
def test_every_selector_finds_a_pod(overlay: str):
    found = [(manifest, selector) for manifest in rendered(overlay) for selector in selectors(manifest)]
    assert len(found) >= 8
    for manifest, selector in found:
        assert chosen(overlay, selector), (manifest["kind"], manifest["metadata"]["name"], selector)
    for pod in pods(overlay):
        for constraint in pod.spec.get("topologySpreadConstraints", []):
            assert pod in chosen(overlay, constraint["labelSelector"]), pod.where


@monitored
def test_every_monitor_of_services_finds_one(overlay: str):
    for monitor in of_kind(overlay, "ServiceMonitor"):
        assert services_with(overlay, monitor["spec"]["selector"]["matchLabels"])
