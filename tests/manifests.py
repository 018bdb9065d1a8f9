"""The manifests as kustomize renders them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
K8S = ROOT / "k8s"
OVERLAYS = ("local", "gpu", "ray-cron-job")
POD_FIELDS = ("containers", "initContainers")

Manifest = dict[str, Any]


class Pod(NamedTuple):
    """A pod template, wherever it stands."""

    where: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [container for field in POD_FIELDS for container in self.spec.get(field, [])]


def _renderer() -> list[str]:
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    pytest.skip("neither kustomize nor kubectl is installed")


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """All manifests of an overlay."""
    return tuple(yaml.safe_load_all(render(K8S / "overlays" / overlay)))


def render(folder: Path) -> str:
    """The text that kustomize makes of a folder."""
    done = subprocess.run([*_renderer(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in rendered(overlay) if manifest["kind"] == kind]


def one(overlay: str, kind: str, name: str) -> Manifest:
    """The manifest of this name."""
    (found,) = [manifest for manifest in of_kind(overlay, kind) if manifest["metadata"]["name"] == name]
    return found


def settings_of(overlay: str) -> dict[str, str]:
    """The ConfigMap with the settings."""
    (found,) = [
        manifest["data"]
        for manifest in of_kind(overlay, "ConfigMap")
        if manifest["metadata"]["name"].startswith("labelstream-settings-")
    ]
    return dict(found)


def pods(overlay: str) -> list[Pod]:
    """Every pod template of our own, those inside custom resources too."""
    return [
        pod
        for manifest in rendered(overlay)
        for pod in _pods_in(manifest, f"{manifest['kind']}/{manifest['metadata']['name']}")
    ]


def _pods_in(node: Any, where: str) -> Iterator[Pod]:
    if isinstance(node, list):
        for item in node:
            yield from _pods_in(item, where)
    elif isinstance(node, dict):
        where = f"{where}/{node['groupName']}" if "groupName" in node else where
        spec = node.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            metadata = node.get("metadata", {})
            yield Pod(where, metadata.get("labels", {}), metadata.get("annotations", {}), spec)
        for key, value in node.items():
            yield from _pods_in(value, f"{where}/head" if key == "headGroupSpec" else where)


def serve_config(overlay: str) -> dict[str, Any]:
    """The Serve configuration of the application."""
    found: dict[str, Any] = yaml.safe_load(one(overlay, "RayService", "labelstream")["spec"]["serveConfigV2"])
    return found
