"""What the pods may do, who may reach them, and that no secret is in the files."""

from __future__ import annotations

import re
from typing import Any

import pytest
from manifests import K8S, OVERLAYS, ROOT, Pod, of_kind, one, pods

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@each_overlay
def test_pods_keep_the_restricted_standard_and_a_read_only_root(overlay: str):
    assert len(pods(overlay)) >= 6
    for pod in pods(overlay):
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.where
        assert security["runAsUser"] > 0, pod.where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.where
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.where


@each_overlay
def test_the_autoscaler_beside_the_head_is_held_as_tightly(overlay: str):
    cluster = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]
    if cluster["enableInTreeAutoscaling"]:
        security = cluster["autoscalerOptions"]["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]


@each_overlay
def test_volumes_are_of_kinds_that_share_nothing_with_the_node(overlay: str):
    allowed = {"name", "emptyDir", "persistentVolumeClaim", "secret", "configMap"}
    for pod in pods(overlay):
        for volume in pod.spec.get("volumes", []):
            assert set(volume) <= allowed, pod.where


@each_overlay
def test_ray_can_write_where_it_must(overlay: str):
    for pod in pods(overlay):
        if pod.labels.get("labelstream.io/ray"):
            (container,) = pod.containers
            writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
            assert {"/tmp", "/home/labelstream", "/dev/shm"} <= writable, pod.where


@each_overlay
def test_pods_have_bounds_and_probes(overlay: str):
    for pod in pods(overlay):
        served = pod.where.startswith(("RayService", "RayJob", "RayCronJob", "StatefulSet"))
        for container in pod.containers:
            resources = container["resources"]
            assert set(resources["requests"]) == set(resources["limits"]) >= {"cpu", "memory"}, pod.where
            assert not served or {"livenessProbe", "readinessProbe"} <= set(container), pod.where


@each_overlay
def test_only_who_asks_the_cluster_gets_a_token_for_it(overlay: str):
    with_token = {pod.where for pod in pods(overlay) if pod.spec.get("automountServiceAccountToken", True)}
    expected = {
        "local": {"CronJob/labelstream-retrain"},
        "gpu": {"CronJob/labelstream-retrain", "RayService/labelstream/head"},
        "ray-cron-job": {"RayService/labelstream/head"},
    }
    assert with_token == expected[overlay]


@each_overlay
def test_rights_in_the_cluster_are_on_rayjobs_only(overlay: str):
    for role in of_kind(overlay, "Role"):
        assert role["rules"] == [
            {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "list", "create", "delete"]}
        ]
    assert not of_kind(overlay, "ClusterRole")


@each_overlay
def test_ray_asks_for_its_token(overlay: str):
    clusters = [one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]]
    clusters += [job["spec"]["rayClusterSpec"] for job in of_kind(overlay, "RayJob")]
    clusters += [job["spec"]["jobTemplate"]["rayClusterSpec"] for job in of_kind(overlay, "RayCronJob")]
    assert all(cluster["authOptions"] == {"mode": "token"} for cluster in clusters)


def allowed(overlay: str, pod: Pod) -> list[tuple[dict[str, Any], frozenset[int]]]:
    """(Who, ports) that the policies let reach a pod; no ports are all ports."""
    found = []
    for policy in of_kind(overlay, "NetworkPolicy"):
        if policy["spec"]["podSelector"].get("matchLabels", {}).items() <= pod.labels.items():
            for rule in policy["spec"].get("ingress", []):
                ports = frozenset(port["port"] for port in rule.get("ports", []))
                found += [(peer, ports) for peer in rule["from"]]
    return found


@each_overlay
def test_nobody_comes_in_who_is_not_let_in(overlay: str):
    default = one(overlay, "NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for pod in pods(overlay):
        for peer, ports in allowed(overlay, pod):
            # From elsewhere only to named ports, and from somewhere that is named.
            assert "ipBlock" not in peer
            assert "namespaceSelector" not in peer or (ports and peer["namespaceSelector"]), pod.where


@each_overlay
def test_the_dashboard_is_for_kuberay_alone(overlay: str):
    for pod in pods(overlay):
        for peer, ports in allowed(overlay, pod):
            if "namespaceSelector" in peer and 8265 in ports:
                assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kuberay-system"}
            # Ray's other ports never.
            assert not ports & {6379, 10001, 52365}


@each_overlay
def test_clients_of_the_endpoint_reach_its_pods_only(overlay: str):
    reached = {
        pod.labels["app.kubernetes.io/component"]
        for pod in pods(overlay)
        for peer, _ in allowed(overlay, pod)
        if "labelstream.io/endpoint-client" in str(peer)
    }
    assert reached == {"worker"}


@each_overlay
def test_services_are_inside_the_cluster(overlay: str):
    assert all(s["spec"].get("type", "ClusterIP") == "ClusterIP" for s in of_kind(overlay, "Service"))


@each_overlay
def test_budgets_are_numbers_of_pods_that_there_are(overlay: str):
    cluster = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]
    counts = {"ray-head": 1} | {
        group["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: group["minReplicas"]
        for group in cluster["workerGroupSpecs"]
    }
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        component = budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        assert isinstance(budget["spec"]["minAvailable"], int)
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"  # pods that do not work hold up no drain
        assert budget["spec"]["minAvailable"] <= counts[component]


def test_no_secret_is_in_the_files():
    suspicious = re.compile(r"(?i)(password|secret|token|key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/_-]{12,}")
    harmless = ("secretName: labelstream", "secretKeyRef", "TOKENS_FILE=/etc/")
    for path in [*K8S.rglob("*.yaml"), *K8S.rglob("*.env"), *(ROOT / "docker").iterdir()]:
        for line in path.read_text().splitlines():
            assert not suspicious.search(line) or any(word in line for word in harmless), f"{path}: {line}"
