"""Prometheus is let in where it looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from endpoints import InstantServices, client
from manifests import ROOT, one

from labelstream.actors.endpoint.tokens import add_token

monitored = pytest.mark.parametrize("overlay", ["gpu", "ray-cron-job"])


@monitored
def test_metrics_want_a_token_and_prometheus_sends_one(overlay: str, tmp_path: Path):
    (scraped,) = one(overlay, "ServiceMonitor", "labelstream-endpoint")["spec"]["endpoints"]
    token = add_token(tmp_path / "tokens", "prometheus")
    guarded = client(InstantServices(), tokens_file=tmp_path / "tokens")
    assert guarded.get(scraped["path"]).status_code == 401
    header = f"{scraped['authorization'].get('type', 'Bearer')} {token}"
    assert guarded.get(scraped["path"], headers={"Authorization": header}).status_code == 200


@monitored
def test_the_token_is_in_a_secret_that_the_steps_make(overlay: str):
    """Of one file, so that the endpoint knows the token that Prometheus sends."""
    (scraped,) = one(overlay, "ServiceMonitor", "labelstream-endpoint")["spec"]["endpoints"]
    credentials = scraped["authorization"]["credentials"]
    steps = (ROOT / "docs/deploy.md").read_text().replace("\\\n", "")
    secrets = re.findall(r"^kubectl create secret generic (\S+) --namespace labelstream +(.+)$", steps, re.MULTILINE)
    names, made = [name for name, _ in secrets], dict(secrets)
    made_by = rf'--from-literal={credentials["key"]}="\$\(labelstream token add \w+ --file (\w+)\)"'
    found = re.fullmatch(made_by, made[credentials["name"]])
    assert found
    assert made["labelstream-tokens"] == f"--from-file={found[1]}"
    assert names.index(credentials["name"]) < names.index("labelstream-tokens")
