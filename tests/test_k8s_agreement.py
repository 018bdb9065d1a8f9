"""Names, ports, topics, settings and commands of the manifests are those of the code."""

from __future__ import annotations

import ast
import json
import re
import shlex
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

import pytest
import typer
from endpoints import FailingServices, client
from manifests import OVERLAYS, ROOT, Pod, of_kind, one, pods, rendered, serve_config, settings_of
from ray._private import ray_constants
from ray.autoscaler._private.kuberay.autoscaling_config import _get_custom_resources

from labelstream.cli import app
from labelstream.commands.settings_table import setting_rows
from labelstream.schemas.errors import ModelUnavailable, SettingsError
from labelstream.schemas.settings import PREFIX, Settings
from labelstream.streaming.kafka_client import client_options

RAY_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
OTHER_VARIABLES = {"HF_HUB_OFFLINE", RAY_DRAIN, "RAY_USAGE_STATS_ENABLED", "VLLM_NO_USAGE_STATS"}
# What the Secret of docs/deploy.md may hold, by the name of the variable.
SECRET_VARIABLES = {"PGPASSWORD", "LABELSTREAM_LAKE_S3_KEY_ID", "LABELSTREAM_LAKE_S3_SECRET"}


def loaded(overlay: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as a pod would see them."""
    for name, value in settings_of(overlay).items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@each_overlay
def test_every_setting_exists_and_is_accepted(overlay: str, monkeypatch: pytest.MonkeyPatch):
    known = {row.variable for row in setting_rows()}
    assert set(settings_of(overlay)) <= known | OTHER_VARIABLES
    settings = loaded(overlay, monkeypatch)
    assert settings.kafka.security_protocol == "SASL_SSL"
    assert settings.lake.catalog.startswith("postgres:")
    for pod in pods(overlay):
        for container in pod.containers:
            ours = {variable["name"] for variable in container.get("env", []) if variable["name"].startswith(PREFIX)}
            assert ours <= known, pod.where


@each_overlay
def test_services_become_no_settings(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """By default Kubernetes sets variables for each Service, and some of the names begin as our settings do."""
    for pod in pods(overlay):
        assert pod.spec["enableServiceLinks"] is False, pod.where
    name = f"{settings_of(overlay)['LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS'].partition(':')[0]}-service-host"
    variable = name.upper().replace("-", "_")
    monkeypatch.setenv(variable, "10.0.0.1")
    with pytest.raises(SettingsError, match=variable):
        loaded(overlay, monkeypatch)


@each_overlay
def test_no_secret_is_among_the_settings(overlay: str):
    assert not [name for name in settings_of(overlay) if re.search("PASSWORD|SECRET|KEY", name)]
    assert not of_kind(overlay, "Secret")


def test_the_secret_has_what_the_code_asks_for():
    page = (ROOT / "docs/deploy.md").read_text()
    known = {row.variable for row in setting_rows()} | {"PGPASSWORD"}
    assert known >= SECRET_VARIABLES
    assert set(re.findall(r"--from-\w+=([A-Z_0-9]+)=", page)) == SECRET_VARIABLES


def mounts(pod: Pod) -> dict[str, bool]:
    """Paths that are volumes, and whether they can be written."""
    return {
        mount["mountPath"]: not mount.get("readOnly", False)
        for container in pod.containers
        for mount in container.get("volumeMounts", [])
    }


@each_overlay
def test_paths_of_the_settings_lie_in_volumes(overlay: str, monkeypatch: pytest.MonkeyPatch):
    settings = loaded(overlay, monkeypatch)
    written = [str(settings.store.path), str(settings.registry.folder)]
    if "://" not in settings.lake.data_path:
        written.append(settings.lake.data_path)
    read = [settings.labeller.model, str(settings.kafka.ssl_cafile), str(settings.endpoint.tokens_file)]
    for pod in pods(overlay):
        if not pod.where.startswith("RayService"):
            continue
        volumes = mounts(pod)
        for path in [*written, *read]:
            above = [str(parent) for parent in (PurePosixPath(path), *PurePosixPath(path).parents)]
            assert [parent for parent in above if parent in volumes], (pod.where, path)
            assert path in read or any(volumes.get(parent) for parent in above), (pod.where, path)


@each_overlay
def test_every_pod_that_needs_the_lake_can_reach_its_files(overlay: str, monkeypatch: pytest.MonkeyPatch):
    path = loaded(overlay, monkeypatch).lake.data_path
    for pod in pods(overlay):
        if pod.labels.get("labelstream.io/lake-client") and "://" not in path:
            assert any(path.startswith(volume + "/") and writable for volume, writable in mounts(pod).items()), pod


@each_overlay
def test_topics_are_those_of_the_settings(overlay: str, monkeypatch: pytest.MonkeyPatch):
    kafka = loaded(overlay, monkeypatch).kafka
    topics = {topic["metadata"]["name"]: topic["spec"] for topic in of_kind(overlay, "KafkaTopic")}
    assert set(topics) == {kafka.events_topic, kafka.products_topic, kafka.labels_topic, kafka.dead_letters_topic}
    for name, spec in topics.items():
        compacted = name == kafka.products_topic
        assert spec["config"]["cleanup.policy"] == ("compact" if compacted else "delete"), name
        assert ("retention.ms" in spec["config"]) != compacted, name


@each_overlay
def test_records_that_are_read_fit_and_can_become_dead_letters(overlay: str, monkeypatch: pytest.MonkeyPatch):
    settings = loaded(overlay, monkeypatch)
    largest = {
        t["metadata"]["name"]: t["spec"]["config"].get("max.message.bytes") for t in of_kind(overlay, "KafkaTopic")
    }
    events, products = largest[settings.kafka.events_topic], largest[settings.kafka.products_topic]
    assert largest[settings.kafka.dead_letters_topic or ""] >= 2 * max(events, products)


def rights_of(overlay: str, user: str) -> dict[tuple[str, str], set[str]]:
    """What a KafkaUser may do, by (type, name)."""
    acls = one(overlay, "KafkaUser", user)["spec"]["authorization"]["acls"]
    return {(acl["resource"]["type"], acl["resource"]["name"]): set(acl["operations"]) for acl in acls}


@each_overlay
def test_rights_are_the_narrowest(overlay: str, monkeypatch: pytest.MonkeyPatch):
    kafka = loaded(overlay, monkeypatch).kafka
    assert rights_of(overlay, str(kafka.sasl_username)) == {
        ("topic", kafka.events_topic): {"Describe", "Read"},
        ("topic", kafka.products_topic): {"Describe", "Read"},
        ("topic", kafka.labels_topic): {"Describe", "Write"},
        ("topic", kafka.dead_letters_topic): {"Describe", "Write"},
        ("group", kafka.group): {"Describe", "Read"},
    }


@each_overlay
def test_only_the_toolbox_looks_at_the_configuration_of_a_topic(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """Its commands look whether the catalogue is compacted; stream and endpoint never do."""
    products = loaded(overlay, monkeypatch).kafka.products_topic
    assert rights_of(overlay, "labelstream-toolbox")["topic", products] == {"Describe", "DescribeConfigs", "Write"}
    for path in [*(ROOT / "actors").rglob("*.py"), *(ROOT / "streaming").rglob("*.py")]:
        text = path.read_text()
        assert "describe_configs" not in text or path.name == "topics.py", path
        assert "ensure_topics" not in text or path.name == "topics.py", path


@each_overlay
def test_the_broker_is_where_the_settings_say(overlay: str, monkeypatch: pytest.MonkeyPatch):
    kafka = loaded(overlay, monkeypatch).kafka
    cluster = one(overlay, "Kafka", "labelstream")
    (listener,) = cluster["spec"]["kafka"]["listeners"]
    assert client_options(kafka)["bootstrap_servers"] == [f"labelstream-kafka-bootstrap:{listener['port']}"]
    assert str(kafka.sasl_mechanism).lower() == listener["authentication"]["type"]
    for kind in ("KafkaTopic", "KafkaUser", "KafkaNodePool"):
        assert all(m["metadata"]["labels"]["strimzi.io/cluster"] == "labelstream" for m in of_kind(overlay, kind))
    for pod in pods(overlay):
        for container in pod.containers:
            passwords = [v for v in container.get("env", []) if v["name"] == "LABELSTREAM_KAFKA_SASL_PASSWORD"]
            users = [v["value"] for v in container.get("env", []) if v["name"] == "LABELSTREAM_KAFKA_SASL_USERNAME"]
            named = [v["valueFrom"]["secretKeyRef"]["name"] for v in passwords]
            assert named in ([], [users[0] if users else kafka.sasl_username]), pod.where


@each_overlay
def test_replication_can_be_met(overlay: str):
    brokers = sum(p["spec"]["replicas"] for p in of_kind(overlay, "KafkaNodePool") if "broker" in p["spec"]["roles"])
    controllers = sum(
        p["spec"]["replicas"] for p in of_kind(overlay, "KafkaNodePool") if "controller" in p["spec"]["roles"]
    )
    config = one(overlay, "Kafka", "labelstream")["spec"]["kafka"]["config"]
    assert controllers % 2 == 1
    assert all(topic["spec"]["replicas"] <= brokers for topic in of_kind(overlay, "KafkaTopic"))
    assert config["min.insync.replicas"] < max(2, config["default.replication.factor"]) <= max(2, brokers)


def constants(path: str) -> dict[str, Any]:
    """Names and values of a module's constants, without importing it."""
    found: dict[str, Any] = {}
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Tuple):
            target = node.targets[0]
            names = [e.id for e in target.elts if isinstance(e, ast.Name)] if isinstance(target, ast.Tuple) else []
            names = [target.id] if isinstance(target, ast.Name) else names
            values = ast.literal_eval(node.value)
            found |= dict(zip(names, values if isinstance(target, ast.Tuple) else [values], strict=True))
    return found


@each_overlay
def test_the_application_is_the_one_of_the_code(overlay: str, monkeypatch: pytest.MonkeyPatch):
    (application,) = serve_config(overlay)["applications"]
    module, _, function = application["import_path"].partition(":")
    assert module == "labelstream.actors.serving"
    tree = ast.parse((ROOT / "actors/serving.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    arguments = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Arguments")
    fields = {
        node.target.id
        for node in arguments.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert set(application["args"]) <= fields
    known = constants("actors/serving.py")
    assert application["name"] == known["NAME"]
    assert {entry["name"] for entry in application["deployments"]} == {known["MODELS"], known["ENDPOINT"]}
    settings, http = loaded(overlay, monkeypatch), serve_config(overlay)["http_options"]
    assert (http["host"], http["port"]) == (settings.endpoint.host, settings.endpoint.port)
    beyond = constants("actors/local_serving.py")["_BEYOND_DEADLINE_S"]
    assert http["request_timeout_s"] == settings.endpoint.deadline_s + beyond


@each_overlay
def test_ports_and_paths_fit(overlay: str, monkeypatch: pytest.MonkeyPatch):
    port = loaded(overlay, monkeypatch).endpoint.port
    service = one(overlay, "Service", "labelstream-endpoint")["spec"]
    routes = (ROOT / "actors/endpoint/routes_status.py").read_text()
    served = [pod for pod in pods(overlay) if service["selector"].items() <= pod.labels.items()]
    assert served
    for pod in served:
        (container,) = pod.containers
        ports = {named["name"]: named["containerPort"] for named in container["ports"]}
        assert ports[service["ports"][0]["targetPort"]] == port
        probe = container["readinessProbe"]["httpGet"]
        assert ports[probe["port"]] == port
        assert f'"{probe["path"]}"' in routes
    for monitor in of_kind(overlay, "ServiceMonitor"):
        labels = one(overlay, "Service", "labelstream-endpoint")["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == service["ports"][0]["name"]
        assert f'"{endpoint["path"]}"' in routes


def offered(group: dict[str, Any]) -> dict[str, float]:
    """What a pod of a group has for Ray, as the pod's shell, KubeRay itself and Ray's autoscaler read it."""
    parameters, (container,) = group["rayStartParams"], group["template"]["spec"]["containers"]
    own: dict[str, float] = _get_custom_resources({}, parameters, group["groupName"])
    (for_the_shell,) = shlex.split(parameters.get("resources", "{}"))
    for_kuberay = parameters.get("resources", "{}").strip("'\"` ")  # getResourcesMap in its common/pod.go
    assert json.loads(for_the_shell) == json.loads(for_kuberay) == own
    return {"CPU": float(container["resources"]["limits"]["cpu"]), **own}


@each_overlay
def test_replicas_run_in_pods_of_the_service_only(overlay: str):
    """Elsewhere an Endpoint gets no requests, and Models keeps a GPU's pod from going."""
    selector = one(overlay, "Service", "labelstream-endpoint")["spec"]["selector"]
    groups = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (application,) = serve_config(overlay)["applications"]
    for deployment in application["deployments"]:
        options = deployment["ray_actor_options"]
        wanted = {"CPU": options["num_cpus"], **options.get("resources", {})}
        for group in groups:
            has_room = all(offered(group).get(name, 0) >= amount for name, amount in wanted.items())
            is_of_the_service = selector.items() <= group["template"]["metadata"]["labels"].items()
            assert has_room == is_of_the_service, (deployment["name"], group["groupName"])


@pytest.mark.parametrize("overlay", ["gpu", "ray-cron-job"])
def test_an_ingest_knows_the_pods_with_a_gpu_by_their_group(overlay: str):
    groups = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    with_a_gpu = [g["groupName"] for g in groups if "nvidia.com/gpu" in str(g["template"]["spec"]["containers"])]
    assert with_a_gpu == [constants("actors/ingest.py")["_GPU_GROUP"]]


BYTES = {"Mi": 1 << 20, "Gi": 1 << 30}


def ray_groups(overlay: str) -> list[dict[str, Any]]:
    """Head and worker groups of every Ray cluster."""
    clusters = [one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]]
    clusters += [job["spec"]["rayClusterSpec"] for job in of_kind(overlay, "RayJob")]
    return [group for cluster in clusters for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@each_overlay
def test_the_object_store_fits_into_shared_memory(overlay: str):
    """Ray takes 30 % of a pod's memory by itself, and a folder on the disk where /dev/shm has less room than that."""
    for group in ray_groups(overlay):
        spec = group["template"]["spec"]
        (name,) = [m["name"] for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm"]
        (volume,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == name]
        size = volume["sizeLimit"]
        assert volume["medium"] == "Memory"
        assert int(group["rayStartParams"]["object-store-memory"]) < 0.95 * int(size[:-2]) * BYTES[size[-2:]], size


@pytest.mark.parametrize("overlay", ["gpu", "ray-cron-job"])
def test_each_endpoint_has_a_pod_to_itself(overlay: str):
    workers = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    (application,) = serve_config(overlay)["applications"]
    (endpoint,) = [each for each in application["deployments"] if each["name"] == "Endpoint"]
    assert endpoint["ray_actor_options"]["resources"]["endpoint"] == offered(workers)["endpoint"]
    assert endpoint["autoscaling_config"]["max_replicas"] <= workers["maxReplicas"]


@each_overlay
def test_pods_stay_in_the_service_while_a_model_restarts(overlay: str):
    """All pods share the models: with none left callers would be refused, and not told what is missing."""
    (worker,) = [pod for pod in pods(overlay) if pod.labels.get("app.kubernetes.io/component") == "worker"]
    (container,) = worker.containers
    path = container["readinessProbe"]["httpGet"]["path"]
    assert client(FailingServices(ModelUnavailable("it restarts"))).get(path).status_code == 200


@each_overlay
def test_labellers_find_room(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """Each replica fits into a pod of some group, and the groups may grow to hold them all."""
    labeller = loaded(overlay, monkeypatch).labeller
    groups = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    room = 0
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        gpus, cpus = float(limits.get("nvidia.com/gpu", 0)), float(limits["cpu"])
        if gpus >= labeller.gpus and cpus > labeller.cpus:
            room += group["maxReplicas"] * int(gpus / labeller.gpus if labeller.gpus else 1)
    assert room >= labeller.most


@each_overlay
def test_everything_that_runs_on_the_workers_finds_room_at_once(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """What does not fit would bring a pod, or wait for ever where none comes."""
    settings = loaded(overlay, monkeypatch)
    actors = 2 + settings.stream.replicas + settings.encoder.replicas  # two: Writer and ranker
    needed = actors * constants("actors/remote.py")["CLUSTER_CPUS"]
    needed += 0 if settings.labeller.gpus else settings.labeller.replicas * settings.labeller.cpus
    (application,) = serve_config(overlay)["applications"]
    for deployment in application["deployments"]:
        replicas = deployment.get("autoscaling_config", {}).get("min_replicas", deployment.get("num_replicas", 1))
        needed += replicas * deployment["ray_actor_options"]["num_cpus"]
    workers = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    (container,) = workers["template"]["spec"]["containers"]
    assert needed <= workers["minReplicas"] * float(container["resources"]["limits"]["cpu"])


@each_overlay
def test_labellers_that_come_with_the_lag_use_their_group_to_the_full(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """As many Labellers as their pods may be, and batches for all of them."""
    settings = loaded(overlay, monkeypatch)
    groups = one(overlay, "RayService", "labelstream")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    most = [group["maxReplicas"] for group in groups if group["groupName"] == "labellers"]
    assert most == ([settings.labeller.max_replicas] if settings.labeller.gpus else [])
    assert settings.stream.replicas * settings.stream.batches_in_flight >= settings.labeller.most


@each_overlay
def test_pods_have_the_time_that_a_graceful_end_takes(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """Batches in flight, then the answers under way, then the labels to be kept: as Models gets it from Ray Serve.

    Ray kills what is still there when its own time is over, whatever Kubernetes would have given.
    """
    assert hasattr(ray_constants, RAY_DRAIN), "the name of a variable that Ray does not read"
    settings, closing_s = loaded(overlay, monkeypatch), constants("actors/serving.py")["_CLOSING_S"]
    assert isinstance(closing_s, float)
    needed_s = settings.stream.shutdown_s + settings.endpoint.deadline_s + closing_s
    of_the_application = [pod for pod in pods(overlay) if pod.where.startswith("RayService")]
    assert len(of_the_application) >= 2
    drain_s = float(settings_of(overlay)[RAY_DRAIN])
    assert needed_s <= drain_s
    for pod in of_the_application:
        assert drain_s < pod.spec.get("terminationGracePeriodSeconds", 30), pod.where
        read = [source.get("configMapRef", {}).get("name", "") for source in pod.containers[0]["envFrom"]]
        assert any(name.startswith("labelstream-settings-") for name in read), pod.where


@each_overlay
def test_retraining_uses_the_cores_that_it_asks_for(overlay: str):
    (container, _) = retraining_containers(overlay)
    (threads,) = [v for v in container["env"] if v["name"] == "LABELSTREAM_RANKER_THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    assert int(container["resources"]["limits"]["cpu"]) >= 2


def retraining_containers(overlay: str) -> list[dict[str, Any]]:
    """Of the head, where the command runs, and of a further worker."""
    found = {pod.where: pod.containers for pod in pods(overlay) if pod.where.startswith("RayJob")}
    assert list(found) == ["RayJob/labelstream-retrain/head", "RayJob/labelstream-retrain/rankers"]
    return [container for (container,) in found.values()]


@each_overlay
def test_workers_of_a_ranker_find_room_and_share_a_storage(overlay: str, monkeypatch: pytest.MonkeyPatch):
    """One a pod, the first of them in the head."""
    settings = loaded(overlay, monkeypatch)
    (group,) = one(overlay, "RayJob", "labelstream-retrain")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert 1 + group["replicas"] == settings.ranker.workers
    head, worker = retraining_containers(overlay)
    assert int(worker["resources"]["limits"]["cpu"]) >= int(head["resources"]["limits"]["cpu"])
    for container in (head, worker):
        shared = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "state"]
        assert shared == [str(settings.ray.storage)]


@each_overlay
def test_ray_is_the_installed_one(overlay: str):
    found = re.findall(r"'rayVersion': '([\d.]+)'", str(rendered(overlay)))
    assert set(found) == {version("ray")}


@each_overlay
def test_the_toolbox_has_as_many_replicas_as_kubectl_scale_says(overlay: str):
    """With a number here a server-side apply after a kubectl scale ends with a conflict."""
    assert "replicas" not in one(overlay, "Deployment", "labelstream-toolbox")["spec"]


def our_commands(overlay: str) -> list[list[str]]:
    entrypoints = re.findall(r"'entrypoint': '(.+?)'", str(rendered(overlay)))
    started = [container.get("command", []) for pod in pods(overlay) for container in pod.containers]
    return [words for words in [*map(shlex.split, entrypoints), *started] if words and words[0] == "labelstream"]


@each_overlay
def test_commands_and_their_options_exist(overlay: str):
    assert len(our_commands(overlay)) >= 2
    for words in our_commands(overlay):
        command = typer.main.get_command(app)
        found = getattr(command, "commands", {})[words[1]]
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= options, words


@each_overlay
def test_images_are_the_ones_of_the_dockerfiles(overlay: str):
    ours = {c["image"] for pod in pods(overlay) for c in pod.containers if "labelstream" in c["image"]}
    for image in ours:
        name, _, tag = image.rpartition(":")
        edition = name.rpartition("-")[2]
        assert (ROOT / f"docker/{edition}.Dockerfile").is_file(), image
        assert tag == version("labelstream"), image
