from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LONGEST

ROOT = Path(__file__).resolve().parent.parent
BELOW = {
    "schemas": set[str](),
    "streaming": {"schemas"},
    "training": {"schemas", "streaming"},
    "actors": {"schemas", "streaming", "training"},
    "labelstream": {"schemas", "streaming", "training", "actors"},
}
# Of the stream, training sees what reads: the lake, files of products, and the meaning of both.
READ_SIDE = {"ducklake", "importers", "lake", "lines", "views"}
LONGEST_FILE = 300
# In pieces, because this file is searched too.
LEAKS = {
    "a package registry": r"\b(?:py"
    r"pi\.org|pythonhosted\."
    r"org|npm"
    r"js\.(?:org|com)|download\.py"
    r"torch\.org)",
    "an option that names a registry": r"(?:index-" r"url|find-" r"links)[ =]",
    "a path of one machine": r"(?<![\w.])/wo" r"rk/",
}


def sources(folder: str) -> list[Path]:
    """Python files of a folder; links to the other folders are not followed."""
    linked = set(BELOW) - {folder}
    found = (ROOT / folder).rglob("*.py")
    return sorted(path for path in found if not linked & set(path.relative_to(ROOT / folder).parts))


SOURCES = [pytest.param(path, id=str(path.relative_to(ROOT))) for folder in BELOW for path in sources(folder)]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is imported, those for type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def floor(name: str) -> str | None:
    """The folder of ours that a dotted name lies in."""
    first, _, rest = name.partition(".")
    if first != "labelstream":
        return None
    second = rest.partition(".")[0]
    return second if second in BELOW else "labelstream"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("labelstream.schemas.keys", "schemas"),
        ("labelstream.cli", "labelstream"),
        ("labelstream", "labelstream"),
        ("labelstreams.schemas", None),
        ("streaming.lake", None),
    ],
)
def test_a_name_has_a_floor(name: str, expected: str | None) -> None:
    assert floor(name) == expected


def test_every_folder_has_sources() -> None:
    assert all(sources(folder) for folder in BELOW)


@pytest.mark.parametrize("folder", BELOW)
def test_imports_point_down(folder: str) -> None:
    allowed = BELOW[folder] | {folder}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in imported(ast.parse(path.read_bytes()))
        if name.startswith(".") or floor(name) not in allowed | {None}
        # The package itself holds nothing but the version: "from labelstream import …" is judged by what follows.
        if name not in ("labelstream", "labelstream.__version__")
    ]
    assert wrong == []


def test_training_only_reads_from_the_stream() -> None:
    used = {
        name.split(".")[2]
        for path in sources("training")
        for name in imported(ast.parse(path.read_bytes()))
        if name.startswith("labelstream.streaming.")
    }
    assert used <= READ_SIDE


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_does_one_thing(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def dangers(tree: ast.AST) -> Iterator[str]:
    """What must not be in the code: code or objects from outside, commands through a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for name in imported(node) if name.partition(".")[0] in ("pickle", "dill", "cloudpickle"))
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.system", "os.popen", "subprocess.getoutput"):
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "shell") and is_not_false(node.value):
            yield f"{node.arg}={ast.unparse(node.value)}"
        elif isinstance(node, ast.Dict):
            named = zip(node.keys, node.values, strict=True)
            yield from (
                f"trust_remote_code: {ast.unparse(value)}"
                for key, value in named
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and is_not_false(value)
            )


def is_not_false(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Constant) and node.value is False)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import load",
        "os.system('ls')",
        "run('ls', shell=True)",
        "load(x, trust_remote_code=True)",
        "load(x, trust_remote_code=chosen)",
        "o = {'trust_remote_code': True}",
    ],
)
def test_a_danger_is_seen(code: str) -> None:
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize("path", SOURCES)
def test_no_code_from_outside_runs(path: Path) -> None:
    assert list(dangers(ast.parse(path.read_bytes()))) == []


def repository_files() -> list[Path]:
    """Files that git has, or would take up; those of a folder that is no repository are not looked at."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", LEAKS)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(LEAKS[what])
    leaks = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert leaks == []


def test_the_files_that_take_longest_are_there():
    assert {name for name in LONGEST if not (ROOT / "tests" / name).is_file()} == set()
