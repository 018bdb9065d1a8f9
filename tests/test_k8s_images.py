"""The Dockerfiles, read as text: no Docker engine runs in the project's checks, so they are not built there."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from manifests import K8S, ROOT, render
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labelstream.schemas.settings import PREFIX, Settings
from labelstream.training import code_version

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
each_file = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
PINNED = re.compile(r"^[\w./-]+:\d+\.\d+(\.\d+)?[\w.-]*(@sha256:[0-9a-f]{64})?$")


def instructions(path: Path) -> list[tuple[str, str]]:
    """(Instruction, arguments) of a Dockerfile, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    split = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), arguments.strip()) for word, _, arguments in split]


def last_stage(path: Path) -> list[tuple[str, str]]:
    """The instructions that make the image itself."""
    words = [word for word, _ in instructions(path)]
    return instructions(path)[len(words) - 1 - words[::-1].index("FROM") :]


def test_there_are_two():
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@each_file
def test_bases_are_pinned_and_the_same(path: Path):
    defaults = dict(arguments.split("=", 1) for word, arguments in instructions(path) if word == "ARG")
    bases = [arguments.split()[0] for word, arguments in instructions(path) if word == "FROM"]
    resolved = {re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base) for base in bases}
    assert len(bases) == 2
    assert len(resolved) == 1
    assert all(PINNED.match(base) and not base.endswith(":latest") for base in resolved)
    assert resolved == {"python:3.11.15-slim-bookworm"}  # both images are nodes of one Ray cluster


@each_file
def test_it_runs_as_somebody_without_rights(path: Path):
    stage = last_stage(path)
    users = [arguments for word, arguments in stage if word == "USER"]
    assert users == ["1000:1000"]
    assert [word for word, _ in stage].index("USER") > max(i for i, (w, _) in enumerate(stage) if w == "RUN")


@each_file
def test_nothing_is_fetched_past_the_package_managers(path: Path):
    text = path.read_text()
    assert "ADD" not in {word for word, _ in instructions(path)}
    assert not re.search(r"https?://|curl|wget|--index|trusted-host|sudo|chmod 777", text)
    for word, arguments in instructions(path):
        if word == "RUN" and "apt-get install" in arguments:
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists/*" in arguments
        if word == "RUN" and "pip install" in arguments:
            assert "--no-deps" in arguments


def test_the_gpu_image_compiles_what_triton_and_torch_ask_for():
    (installed,) = [a for w, a in last_stage(ROOT / "docker/gpu.Dockerfile") if w == "RUN" and "apt-get install" in a]
    assert {"g++", "gcc", "libc6-dev"} <= set(installed.split())


@each_file
def test_an_image_knows_the_commit_that_it_was_built_from(path: Path, monkeypatch: pytest.MonkeyPatch):
    stage = last_stage(path)
    given = dict(pair.split("=", 1) for word, pairs in stage if word == "ENV" for pair in shlex.split(pairs))
    name = f"{PREFIX}REGISTRY_COMMIT"
    assert given[name] == "$COMMIT"
    assert stage.index(("ARG", "COMMIT=")) > max(i for i, (word, _) in enumerate(stage) if word == "COPY")  # cache
    monkeypatch.setenv(name, "abc123")
    assert Settings.load().registry.commit == "abc123"


def test_the_page_builds_images_that_know_their_commit():
    page = (ROOT / "docs/deploy.md").read_text()
    builds = re.findall(r"^docker build .*$", page, re.MULTILINE)
    assert len(builds) == len(DOCKERFILES)
    assert all('--build-arg COMMIT="$COMMIT"' in build for build in builds)
    [asked] = re.findall(r"^COMMIT=\$\((.*)\)$", page, re.MULTILINE)
    assert tuple(shlex.split(asked)) == code_version._DESCRIBE, "a checkout and an image name their commit alike"


@each_file
def test_no_secret_reaches_a_layer(path: Path):
    for word, arguments in instructions(path):
        if word in ("ARG", "ENV", "COPY"):
            assert not re.search(r"(?i)password|secret|token|credential|pip\.conf", arguments), arguments
        if "pip.conf" in arguments:
            assert arguments.startswith("--mount=type=secret,")


def let_through(name: str) -> bool:
    """Whether .dockerignore lets a path into the build; the last pattern that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            bare = pattern.removeprefix("!").removeprefix("**/")
            parts = [name, *map(str, Path(name).parents)]
            if any(fnmatch.fnmatch(part, bare) or fnmatch.fnmatch(Path(part).name, bare) for part in parts):
                kept = pattern.startswith("!")
    return kept


@each_file
def test_what_is_copied_is_there(path: Path):
    sources = [
        source
        for word, arguments in instructions(path)
        if word == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert len(sources) >= 2
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source == "." or let_through(source), source


def test_the_build_sees_what_the_package_is_made_of_and_no_more():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = ["pyproject.toml", project["readme"], *project["license-files"]]
    needed += [f"{folder}/__init__.py" for folder in ("labelstream", "schemas", "streaming", "training", "actors")]
    assert all(let_through(name) for name in needed)
    assert not any(let_through(name) for name in (".git/config", ".venv/bin/python", "tests/conftest.py", "k8s/base"))
    assert not let_through("actors/__pycache__/x.pyc")


def pins(*names: str) -> dict[str, str]:
    """Versions by package of requirements files."""
    lines = [line.partition("#")[0].strip() for name in names for line in (ROOT / name).read_text().splitlines()]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        (("requirements/cpu.txt",), "cpu"),
        (("docker/requirements-gpu.txt",), "gpu"),
    ],
)
def test_the_images_have_what_the_project_asks_for(files: tuple[str, ...], extra: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins(*files)
    for text in (*project["dependencies"], *project["optional-dependencies"][extra]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text
    assert "setuptools" in pinned


def test_nodes_of_one_cluster_have_the_same_ray_and_the_same_wire_formats():
    cpu, gpu = pins("requirements/cpu.txt"), pins("docker/requirements-gpu.txt")
    for name in ("ray", "cloudpickle", "pydantic", "pyarrow", "numpy", "duckdb", "transformers", "tokenizers"):
        assert cpu[name] == gpu[name], name


def test_the_gpu_image_has_one_nccl():
    """Those for two CUDAs are one file, nvidia/nccl/lib/libnccl.so.2: torch would get whichever was unpacked last."""
    pinned = pins("docker/requirements-gpu.txt")
    cuda = pinned["cuda-toolkit"].partition(".")[0]
    assert [name for name in pinned if name.startswith("nvidia-nccl-")] == [f"nvidia-nccl-cu{cuda}"]
    assert "xgboost" not in pinned, "it asks for the NCCL of CUDA 12; rankers train on the CPU, with xgboost-cpu"


def test_cuda_python_brings_no_files_of_its_own():
    """From 13 on it only asks for cuda-bindings of its version; before, it had these files, of another CUDA, itself."""
    pinned = pins("docker/requirements-gpu.txt")
    assert pinned["cuda-python"] == pinned["cuda-bindings"]


# The oldest branch of drivers for each CUDA: NVIDIA's "CUDA Compatibility", minor version compatibility, on Linux.
OLDEST_DRIVERS = {"12": "R525", "13": "R580"}


@pytest.mark.parametrize("name", ["docs/deploy.md", "docker/gpu.Dockerfile"])
def test_the_driver_that_the_cuda_of_the_image_needs_is_named(name: str):
    cuda = pins("docker/requirements-gpu.txt")["cuda-toolkit"].partition(".")[0]
    text = (ROOT / name).read_text()
    assert set(re.findall(r"CUDA (\d+)", text)) == {cuda}
    assert set(re.findall(r"\bR\d{3}\b", text)) == {OLDEST_DRIVERS[cuda]}


def test_images_are_pinned_by_digest_as_the_page_says(tmp_path: Path):
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s/overlays/gpu"
    page = (ROOT / "docs/deploy.md").read_text()
    (example,) = re.findall(r"^```yaml\n(images:\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    file = overlay / "kustomization.yaml"
    former = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(former | yaml.safe_load(example.replace("sha256:...", DIGEST))))
    images = set(re.findall(r"image: (\S*labelstream\S*)", render(overlay)))
    assert images == {f"registry.example.com/labelstream-{edition}@{DIGEST}" for edition in ("cpu", "gpu")}
