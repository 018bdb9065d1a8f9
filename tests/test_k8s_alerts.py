"""Every alert says where a person reads what to do, and there is something to read."""

from __future__ import annotations

import re

import pytest
import yaml
from manifests import K8S, OVERLAYS, ROOT, of_kind, pods

PAGE = ROOT / "docs/deploy.md"


def alerts() -> list[dict[str, object]]:
    rules = yaml.safe_load((K8S / "observability/prometheus-rules.yaml").read_text())
    return [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]


def test_every_alert_has_its_section():
    names = [str(alert["alert"]) for alert in alerts()]
    sections = re.findall(r"^### Alert (\w+)\n\n(.+)", PAGE.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in sections) == sorted(names)
    assert len(names) >= 5


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_leads_to_its_section(alert: dict[str, object]):
    annotations = alert["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["runbook_url"].endswith(f"docs/deploy.md#alert-{str(alert['alert']).lower()}")


@pytest.mark.parametrize("overlay", ["gpu", "ray-cron-job"])
def test_rules_and_dashboard_are_deployed(overlay: str):
    assert len(of_kind(overlay, "PrometheusRule")) == 1
    (dashboard,) = [m for m in of_kind(overlay, "ConfigMap") if m["metadata"]["name"] == "labelstream-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_logs_are_where_the_page_looks_for_them(overlay: str):
    """Ray writes below /tmp, of which ``kubectl logs`` shows nothing."""
    page = PAGE.read_text()
    (selector,) = re.findall(r"kubectl get pods .*--selector (\S+)=true", page)
    (volume,) = re.findall(r"mounts the volume `(\w+)` at `/tmp`", page)
    of_ray = [pod for pod in pods(overlay) if "Ray" in pod.where]
    assert of_ray
    for pod in of_ray:
        assert pod.labels[selector] == "true", pod.where
        assert {"name": volume, "mountPath": "/tmp"} in pod.containers[0]["volumeMounts"], pod.where


def test_words_to_look_for_in_the_logs_are_words_of_the_code():
    steps = re.findall(r"^\d\. (?=.*\[logs\]\(#alerts\)).*$", PAGE.read_text(), re.MULTILINE)
    code = "".join(path.read_text() for folder in ("actors", "schemas") for path in (ROOT / folder).rglob("*.py"))
    words = [word for step in steps for word in step.split("`")[1::2] if re.fullmatch("[A-Za-z ]{8,}", word)]
    assert len(words) >= 4
    assert not [word for word in words if word not in code]
