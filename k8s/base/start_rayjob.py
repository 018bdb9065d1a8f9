"""Starts a copy of a suspended RayJob in this pod's namespace, and clears away old copies.

A CronJob can start a Job but not a RayJob. KubeRay's RayCronJob can, but is alpha: k8s/overlays/ray-cron-job uses it.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
COPY_OF = "labelstream.io/copy-of"
KEEP = 5
FINISHED = ("Complete", "Failed", "ValidationFailed")
STOPPED = (*FINISHED, "Suspended")


class Cluster:
    """The part of the Kubernetes API that is needed.

    Args:
        account: Folder with the token, the namespace and the CA of a service account.
        address: Of the API server, such as https://10.0.0.1:443.
    """

    def __init__(self, account: Path, address: str) -> None:
        self._token = account / "token"  # read for each call: Kubernetes renews it
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = (account / "namespace").read_text().strip()
        self._jobs = f"{address}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"

    def call(self, method: str, path: str = "", body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask about RayJobs; an answer that is no success raises ``HTTPError``."""
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._jobs + path, data, headers, method=method)  # noqa: S310 - the API server's address
        with urlopen(request, timeout=30, context=self._context) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found


def copy_of(template: dict[str, Any]) -> dict[str, Any]:
    """The RayJob to create: as the template, but not suspended."""
    metadata = template["metadata"]
    labels = metadata.get("labels", {}) | {COPY_OF: metadata["name"]}
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {"generateName": f"{metadata['name']}-", "labels": labels},
        "spec": template["spec"] | {"suspend": False},
    }


def status_of(job: dict[str, Any]) -> str:
    """What KubeRay says of a RayJob; nothing where it has not seen it yet."""
    return str(job.get("status", {}).get("jobDeploymentStatus", ""))


def outdated(jobs: list[dict[str, Any]], keep: int) -> list[str]:
    """Names of finished copies beyond the newest ``keep``."""
    done = [job for job in jobs if status_of(job) in FINISHED]
    done.sort(key=lambda job: job["metadata"]["creationTimestamp"], reverse=True)
    return [job["metadata"]["name"] for job in done[keep:]]


def start(cluster: Cluster, template: str) -> str:
    """Start a copy, unless one runs.

    The CronJob's concurrencyPolicy knows this script and not the RayJobs, and the CronJob repeats what has failed: a
    start whose answer was lost must not become a second one.

    Returns:
        The name of the copy that runs.
    """
    copies = cluster.call("GET", f"?labelSelector={COPY_OF}%3D{template}")["items"]
    for name in outdated(copies, KEEP):
        cluster.call("DELETE", f"/{name}")
    running = [job for job in copies if status_of(job) not in STOPPED]
    made = running[0] if running else cluster.call("POST", body=copy_of(cluster.call("GET", f"/{template}")))
    return str(made["metadata"]["name"])


def api_server(environment: Mapping[str, str]) -> str:
    """The address of the API server, from what Kubernetes tells every container."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"  # an IPv6 address has brackets


if __name__ == "__main__":
    print("running:", start(Cluster(ACCOUNT, api_server(os.environ)), sys.argv[1]))
