"""Every manifest, rendered, has the structure that its kind has."""

from __future__ import annotations

import json
import os
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from custom_resources import SPECS
from manifests import OVERLAYS, ROOT, Manifest, of_kind, one, pods, rendered, serve_config

KUBERNETES = "1.33"
CRDS = "LABELSTREAM_TEST_CRDS"  # a folder of CRDs (*.yaml), for a check against the real ones
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def _validate(text: str) -> None:
    kubernetes_validate.validate(json.loads(text), KUBERNETES, strict=True)


def validate(manifest: Manifest) -> None:
    """Check a manifest of Kubernetes' own; overlays share many, and each is checked once."""
    _validate(json.dumps(manifest, sort_keys=True))


def is_core(manifest: Manifest) -> bool:
    group, slash, _ = manifest["apiVersion"].rpartition("/")
    return not slash or "." not in group or group.endswith(".k8s.io")


@each_overlay
def test_kinds_of_kubernetes_are_valid(overlay: str):
    core = [manifest for manifest in rendered(overlay) if is_core(manifest)]
    for manifest in core:
        validate(manifest)
    assert len(core) > 10


def test_a_wrong_field_is_found():
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(broken)


@each_overlay
def test_custom_resources_are_valid(overlay: str):
    custom = [manifest for manifest in rendered(overlay) if not is_core(manifest)]
    for manifest in custom:
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        jsonschema.validate(manifest["spec"], SPECS[manifest["apiVersion"], manifest["kind"]])
    assert {manifest["kind"] for manifest in custom} >= {"RayService", "RayJob", "Kafka", "KafkaTopic", "KafkaUser"}


@each_overlay
def test_pods_inside_custom_resources_are_valid(overlay: str):
    for pod in pods(overlay):
        metadata = {"labels": pod.labels, "annotations": pod.annotations}
        template = {"metadata": metadata, "spec": pod.spec}
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        validate(whole)


@each_overlay
def test_volumes_and_mounts_fit(overlay: str):
    for pod in pods(overlay):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        volumes |= {"data"} if pod.where.startswith("StatefulSet") else set()
        mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        assert mounted == volumes, pod.where
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(paths) == len(set(paths)), pod.where


@each_overlay
def test_everything_is_in_one_namespace_and_named_once(overlay: str):
    names = [(m["apiVersion"], m["kind"], m["metadata"]["name"]) for m in rendered(overlay)]
    assert len(names) == len(set(names))
    for manifest in rendered(overlay):
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "labelstream"


@each_overlay
def test_what_is_named_is_there(overlay: str):
    """ConfigMaps with their hash, volumes, service accounts: of custom resources kustomize knows nothing by itself."""
    maps = {manifest["metadata"]["name"] for manifest in of_kind(overlay, "ConfigMap")}
    claims = {manifest["metadata"]["name"] for manifest in of_kind(overlay, "PersistentVolumeClaim")}
    accounts = {manifest["metadata"]["name"] for manifest in of_kind(overlay, "ServiceAccount")}
    for pod in pods(overlay):
        sources = [source for container in pod.containers for source in container.get("envFrom", [])]
        named = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
        named |= {volume["configMap"]["name"] for volume in pod.spec.get("volumes", []) if "configMap" in volume}
        assert named <= maps, pod.where
        claimed = [volume.get("persistentVolumeClaim") for volume in pod.spec.get("volumes", [])]
        assert {claim["claimName"] for claim in claimed if claim} <= claims, pod.where
        assert pod.spec.get("serviceAccountName") in accounts | {None}, pod.where


@each_overlay
def test_the_serve_configuration_is_one(overlay: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own, of pydantic
        from ray.serve.schema import ServeDeploySchema
    config = ServeDeploySchema.model_validate(serve_config(overlay))
    assert [application.name for application in config.applications] == ["labelstream"]


def test_both_ways_to_retrain_run_the_same_job():
    template = one("ray-cron-job", "RayJob", "labelstream-retrain")["spec"]
    scheduled = one("ray-cron-job", "RayCronJob", "labelstream-retrain")["spec"]["jobTemplate"]
    assert scheduled == {key: value for key, value in template.items() if key != "suspend"}
    (cron_job,) = [m for m in of_kind("gpu", "CronJob") if m["metadata"]["name"] == "labelstream-retrain"]
    (by_ray,) = of_kind("ray-cron-job", "RayCronJob")
    assert by_ray["spec"]["schedule"] == cron_job["spec"]["schedule"]
    assert "labelstream-retrain" not in {m["metadata"]["name"] for m in of_kind("ray-cron-job", "CronJob")}


@each_overlay
def test_the_page_says_how_to_suspend_what_retrains(overlay: str):
    """kubectl patches a custom resource only with --type merge or json: it does not know how to merge its lists."""
    patches = re.findall(r"kubectl patch (\w+) labelstream-retrain (.+)", (ROOT / "docs/deploy.md").read_text())
    options = {kind: line for kind, line in patches if '{"spec":{"suspend":true}}' in line}
    scheduled = [m for m in rendered(overlay) if m["kind"].endswith("CronJob") and "retrain" in m["metadata"]["name"]]
    assert len(scheduled) == 1
    for manifest in scheduled:
        assert is_core(manifest) or "--type merge" in options[manifest["kind"].lower()]
        assert "suspend" not in manifest["spec"], "an apply would undo what a person has set"


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's schema that refuses fields that it does not name, as the API server does with strict validation."""
    made = {key: strict(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
        made["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
    return made


def published(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The spec of each custom resource of a folder, by version and kind."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            spec = definition["spec"]
            for version in spec["versions"]:
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                found[key] = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return found


@pytest.mark.skipif(CRDS not in os.environ, reason=f"{CRDS} names no folder of custom resource definitions")
@each_overlay
def test_custom_resources_are_valid_by_their_own_definitions(overlay: str):
    definitions = published(Path(os.environ[CRDS]))
    checked = 0
    for manifest in rendered(overlay):
        definition = definitions.get((manifest["apiVersion"], manifest["kind"]))
        if definition is not None:
            jsonschema.validate(manifest["spec"], definition)
            checked += 1
    assert checked


def test_the_page_says_what_each_structure_was_read_from():
    page = (ROOT / "docs/deploy.md").read_text()
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \|", page, re.MULTILINE)
    kinds = [kind for row in rows for kind in re.findall(r"`(\w+)`", row)]
    assert sorted(kinds) == sorted(kind for _, kind in SPECS)
    assert f"`{CRDS}`" in page


def test_a_published_definition_refuses_what_it_does_not_name(tmp_path: Path):
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer"}}}}}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    definition = {"spec": {"group": "example.com", "names": {"kind": "Thing"}, "versions": versions}}
    (tmp_path / "thing.yaml").write_text(yaml.safe_dump(definition))
    (found,) = published(tmp_path).values()
    jsonschema.validate({"a": 1}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"b": 1}, found)
