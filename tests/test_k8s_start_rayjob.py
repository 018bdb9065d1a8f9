"""The script by which a CronJob starts a RayJob, against a stand-in for the Kubernetes API."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import certifi
import pytest
from manifests import K8S, one

BASE = "/apis/ray.io/v1/namespaces/labelstream/rayjobs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("start_rayjob", K8S / "base/start_rayjob.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_start_may_wait_for_a_node_and_its_image():
    """A Job's deadline runs from when it is made: what comes too late is given up, and nobody hears of it."""
    for overlay in ("local", "gpu"):
        job = one(overlay, "CronJob", "labelstream-retrain")["spec"]["jobTemplate"]["spec"]
        assert job["activeDeadlineSeconds"] >= 1800, overlay


class OneNamespace(BaseHTTPRequestHandler):
    """Keeps RayJobs as the API server would: names are made, a label selector selects."""

    jobs: dict[str, dict[str, Any]]
    numbers: Iterator[int]

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        allowed = self.headers["Authorization"] == "Bearer of-the-pod" and self.path.startswith(BASE)
        text = json.dumps(body).encode()
        self.send_response(status if allowed else 403)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        name, _, selector = self.path.removeprefix(BASE).lstrip("/").partition("?labelSelector=")
        if name:
            self._answer(200 if name in self.jobs else 404, self.jobs.get(name, {}))
            return
        label, _, value = selector.partition("%3D")
        chosen = [job for job in self.jobs.values() if job["metadata"].get("labels", {}).get(label) == value]
        self._answer(200, {"items": chosen})

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = next(self.numbers)
        name = f"{job['metadata'].pop('generateName')}{number}"
        job["metadata"] |= {"name": name, "creationTimestamp": f"2026-01-{number:02}T00:00:00Z"}
        self.jobs[name] = job
        self._answer(201, job)

    def do_DELETE(self) -> None:
        self._answer(200, self.jobs.pop(self.path.removeprefix(BASE + "/")))


@pytest.fixture
def namespace() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    handler = type("Handler", (OneNamespace,), {"jobs": {}, "numbers": itertools.count(1)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.jobs  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("of-the-pod\n")
    (tmp_path / "namespace").write_text("labelstream")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    return tmp_path


def test_copies_start_and_old_ones_go(
    script: ModuleType, namespace: tuple[str, dict[str, dict[str, Any]]], account: Path
):
    address, jobs = namespace
    template = one("local", "RayJob", "labelstream-retrain")
    jobs["labelstream-retrain"] = template
    cluster = script.Cluster(account, address)
    names = []
    for _ in range(script.KEEP + 3):
        names.append(script.start(cluster, "labelstream-retrain"))
        jobs[names[-1]]["status"] = {"jobDeploymentStatus": "Complete"}
    started = jobs[names[-1]]
    assert started["spec"] == template["spec"] | {"suspend": False}
    assert jobs["labelstream-retrain"]["spec"]["suspend"] is True
    assert set(jobs) == {"labelstream-retrain", *names[-script.KEEP - 1 :]}  # those kept, and the newest


def test_a_start_that_is_repeated_starts_no_second_copy(
    script: ModuleType, namespace: tuple[str, dict[str, dict[str, Any]]], account: Path
):
    """The CronJob does not know the RayJobs, and repeats a start whose answer was lost."""
    address, jobs = namespace
    jobs["labelstream-retrain"] = one("local", "RayJob", "labelstream-retrain")
    cluster = script.Cluster(account, address)
    first = script.start(cluster, "labelstream-retrain")
    assert script.start(cluster, "labelstream-retrain") == first
    jobs[first]["status"] = {"jobDeploymentStatus": "Running"}
    assert script.start(cluster, "labelstream-retrain") == first
    jobs[first]["status"] = {"jobDeploymentStatus": "Suspended"}  # by a person, who may want another one meanwhile
    assert script.start(cluster, "labelstream-retrain") != first


def test_a_copy_that_runs_is_left_alone(script: ModuleType):
    times = [f"2026-01-{day:02}T00:00:00Z" for day in range(1, 9)]
    jobs = [
        {
            "metadata": {"name": time, "creationTimestamp": time},
            "status": {"jobDeploymentStatus": "Running" if index % 2 else script.FINISHED[index % 3]},
        }
        for index, time in enumerate(times)
    ]
    assert script.outdated([*jobs, {"metadata": {"name": "new", "creationTimestamp": "2026"}}], 1) == [
        times[4], times[2], times[0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "address"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00:10:96::1", "https://[fd00:10:96::1]:443")]
)
def test_the_api_server_may_have_an_address_of_either_kind(script: ModuleType, host: str, address: str):
    found = script.api_server({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"})
    assert found == address


def test_without_the_template_nothing_starts(
    script: ModuleType, namespace: tuple[str, dict[str, dict[str, Any]]], account: Path
):
    address, jobs = namespace
    with pytest.raises(HTTPError, match="404") as failure:
        script.start(script.Cluster(account, address), "labelstream-retrain")
    failure.value.close()
    assert jobs == {}
