"""Claims and disks get storage that can do what they need."""

from __future__ import annotations

import re

import pytest
from manifests import K8S, OVERLAYS, ROOT, of_kind


def classes_of_kafka(overlay: str) -> set[str | None]:
    """The storage class of each disk; none is the cluster's default."""
    pools = of_kind(overlay, "KafkaNodePool")
    assert pools
    return {volume.get("class") for pool in pools for volume in pool["spec"]["storage"]["volumes"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kafka_does_not_lie_on_the_storage_that_pods_share(overlay: str):
    """A default that does ReadWriteMany is NFS as a rule, so the claims that need it must name it."""
    claims = of_kind(overlay, "PersistentVolumeClaim")
    assert len(claims) == 2
    shared = {
        claim["spec"].get("storageClassName") for claim in claims if "ReadWriteMany" in claim["spec"]["accessModes"]
    }
    assert not shared & {None, *classes_of_kafka(overlay)}
    assert bool(shared) == (overlay != "local")


def test_the_page_says_which_name_is_to_be_changed():
    overlay = (K8S / "overlays/gpu/kustomization.yaml").read_text()
    (name,) = re.findall(r"path: /spec/storageClassName, value: ([\w-]+)}", overlay)
    assert f"`{name}`" in (ROOT / "docs/deploy.md").read_text()
