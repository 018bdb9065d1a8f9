"""Steps of the deployment guide against the manifests that they are for."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from manifests import K8S, OVERLAYS, ROOT, of_kind, one, pods, settings_of

PAGE = (ROOT / "docs/deploy.md").read_text()


def test_going_over_to_the_schedule_of_kuberay_leaves_nothing_behind():
    (command,) = re.findall(r"^kubectl delete (\S+) labelstream-retrain --namespace labelstream$", PAGE, re.MULTILINE)
    overlay = yaml.safe_load((K8S / "overlays/ray-cron-job/kustomization.yaml").read_text())
    gone = [yaml.safe_load(entry["patch"]) for entry in overlay["patches"]]
    assert {manifest["metadata"]["name"] for manifest in gone} == {"labelstream-retrain"}
    assert sorted(command.split(",")) == sorted(manifest["kind"].lower() for manifest in gone)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_database_and_owner_that_the_page_makes_are_those_of_the_settings(overlay: str):
    page = (ROOT / "docs/operations.md").read_text()
    (role,) = re.findall(r"^CREATE ROLE (\w+) LOGIN", page, re.MULTILINE)
    ((database, owner),) = re.findall(r"^CREATE DATABASE (\w+) OWNER (\w+);", page, re.MULTILINE)
    catalog = dict(
        word.split("=", 1)
        for word in settings_of(overlay)["LABELSTREAM_LAKE_CATALOG"].removeprefix("postgres:").split()
    )
    assert (catalog["dbname"], catalog["user"]) == (database, owner)
    assert role == owner


@pytest.mark.parametrize("command", ["kind load docker-image", "minikube image load"])
def test_the_image_that_is_loaded_is_the_one_that_runs(command: str):
    (image,) = re.findall(rf"`{command} (\S+)`", PAGE)
    assert {c["image"] for pod in pods("local") for c in pod.containers} - {image} == {
        container["image"] for pod in pods("local") if "postgres" in pod.where for container in pod.containers
    }


def test_a_restore_suspends_every_schedule():
    (step,) = re.findall(r"^1\. Stop whatever writes.*$", PAGE, re.MULTILINE)
    schedules = [cron["metadata"]["name"] for cron in of_kind("gpu", "CronJob")]
    assert len(schedules) == 2
    assert all(name in step for name in schedules)


def test_runbooks_become_addresses():
    (script,) = re.findall(r"`sed -i ('s\|runbook_url.*?') k8s/observability/prometheus-rules.yaml`", PAGE)
    _, former, new, _ = shlex.split(script)[0].split("|")
    rules = (K8S / "observability/prometheus-rules.yaml").read_text().replace(former, new)
    urls = re.findall(r"runbook_url: (.*)", rules)
    assert len(urls) == rules.count("- alert:")
    assert all(url.startswith("https://") for url in urls)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_dashboard_is_at_the_port_that_is_forwarded(overlay: str):
    (port,) = re.findall(r'port-forward --namespace labelstream "service/\$RUNNING-head-svc" (\d+)', PAGE)
    service = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]
    ports = service["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    assert {"name": "dashboard", "containerPort": int(port)} in ports
    assert service["authOptions"] == {"mode": "token"}
