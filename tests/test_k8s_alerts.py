"""Every alert says where a person reads what to do, and there is something to read."""

from __future__ import annotations

import re

import pytest
import yaml
from manifests import K8S, ROOT, of_kind

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
