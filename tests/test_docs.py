from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
from lakes import lake_settings

from labelstream.cli import FAILED, TRY_AGAIN, app
from labelstream.commands.retrain import REFUSED
from labelstream.commands.run import GIVEN_BACK
from labelstream.commands.settings_table import markdown_table, setting_rows
from labelstream.schemas import errors
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.messages import parse_product, parse_search_event
from labelstream.schemas.tables import TABLES, Table, duckdb_type
from labelstream.streaming.lake import Lake
from labelstream.streaming.views import VIEWS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "schemas|streaming|actors|training|labelstream|tests|docs|benchmarks|k8s|requirements"
OTHER_VARIABLES = {
    "LABELSTREAM_TEST_CRDS",
    "LABELSTREAM_TEST_DATA",
    "LABELSTREAM_TEST_RANDOM",
    "LABELSTREAM_TEST_SEED",
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def named_files(text: str) -> set[str]:
    """Paths of the repository that a text names between back-quotes or in commands."""
    return set(re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w", text))


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """What stands between back-quotes, outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_page
def test_named_files_exist(page: Path):
    missing = [name for name in named_files(page.read_text()) if not (ROOT / name).exists()]
    assert missing == []


@each_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
        assert not fragment or fragment in map(anchor, headings), target


@each_page
def test_named_tests_exist(page: Path):
    for file, name in re.findall(r"(tests/test_\w+\.py)::([\w:]+)", page.read_text()):
        *classes, test = name.split("::")
        found: ast.AST = ast.parse((ROOT / file).read_text())
        for wanted in (*classes, test):
            children = [node for node in ast.iter_child_nodes(found) if getattr(node, "name", None) == wanted]
            assert children, f"{file}::{name}"
            found = children[0]


@each_page
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = inline(page.read_text()) + [line for block in blocks(page.read_text(), "sh") for line in block.splitlines()]
    named = {match[1] for line in code if (match := re.match(r"make (\w+)", line))}
    assert named <= targets


def commands(text: str) -> list[list[str]]:
    """Every ``labelstream …`` of a text, as words."""
    lines = inline(text) + [line for block in blocks(text, "sh") for line in block.splitlines()]
    found = (re.match(r"(?:\.venv/bin/)?labelstream (\w.*)", line.strip()) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match]


@each_page
def test_sub_commands_and_their_options_exist(page: Path):
    for line in commands(page.read_text()):
        command, words = typer.main.get_command(app), list(line)
        while words and (known := getattr(command, "commands", None)):  # a group, such as train
            assert words[0] in known, line
            command = known[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= options, line


@each_page
def test_benchmarks_take_the_options_that_are_shown(page: Path):
    for script, words in re.findall(r"python (benchmarks/\w+\.py)(.*)", page.read_text()):
        options = set(re.findall(r"(?<!\S)--[a-z-]+", words.partition("#")[0]))
        text = (ROOT / script).read_text()
        if "model_parser(" in text:  # which brings options of its own
            text += (ROOT / "benchmarks/common.py").read_text()
        known = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text))
        assert options <= known, script


@each_page
def test_named_settings_exist(page: Path):
    known = {row.variable for row in setting_rows()} | OTHER_VARIABLES
    for name in set(re.findall(r"\bLABELSTREAM_[A-Z0-9_]*", page.read_text())):
        prefix = name.endswith("_")
        assert any(variable.startswith(name) for variable in known) if prefix else name in known, name


def test_every_variable_of_the_tests_is_on_the_page():
    used = {
        name for file in (ROOT / "tests").glob("*.py") for name in re.findall(r"LABELSTREAM_TEST_\w+", file.read_text())
    }
    assert used == set(re.findall(r"`(LABELSTREAM_TEST_\w+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert used == OTHER_VARIABLES


def test_a_change_of_a_setting_reaches_the_page():
    assert (ROOT / "docs/settings.md").read_text().endswith("\n" + markdown_table()), (
        "paste the output of: labelstream settings --markdown"
    )


def test_readme_has_the_two_commands():
    assert re.findall(r"^make \w+", blocks((ROOT / "README.md").read_text(), "sh")[0], re.MULTILINE) == [
        "make demo",
        "make test",
    ]


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text()
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, heading
    return match[1]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_on_the_page(table: Table):
    rows = re.findall(r"^\| (\w+) \| (.+?) \|", section("docs/data-model.md", table.name), re.MULTILINE)
    assert rows[1:] == [(field.name, duckdb_type(field.type)) for field in table.schema]


def test_every_view_is_on_the_page():
    assert set(re.findall(r"^- `(\w+)`", section("docs/data-model.md", "Views"), re.MULTILINE)) == set(VIEWS)


def test_the_sql_runs(tmp_path: Path):
    statements = blocks((ROOT / "docs/data-model.md").read_text(), "sql")
    for page in PAGES:
        asked = [words for words in commands(page.read_text()) if words[0] == "sql"]
        statements += [word for words in asked for word in words if " " in word]
    with Lake(lake_settings(tmp_path)):
        pass
    with Lake(lake_settings(tmp_path), read_only=True) as lake:
        for statement in statements:
            lake.query(re.sub(r"\b42\b", str(lake.snapshot), statement))
    assert len(statements) > 10


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("search-events: UBI queries", "UbiQuery"),
        ("search-events: UBI events", "UbiEvent"),
        ("search-events: plain pairs", "Pair"),
    ],
)
def test_example_events_are_read(heading: str, kind: str):
    (example,) = blocks(section("docs/messages.md", heading), "json")
    assert type(parse_search_event(example.encode())).__name__ == kind


def test_the_example_product_is_read():
    (example,) = blocks(section("docs/messages.md", "products"), "json")
    assert parse_product(example.encode()).alternative_ids == ["4006381333931"]


def test_the_example_label_is_whole():
    (example,) = blocks(section("docs/messages.md", "relevance-labels"), "json")
    assert LabelRecord.model_validate_json(example).model_fields_set == set(LabelRecord.model_fields)


def test_every_error_has_a_remedy():
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    named = set(re.findall(r"^\| `(\w+)` \|", section("docs/operations.md", "Errors"), re.MULTILINE))
    assert named == classes - {"LabelstreamError", "TransientError", "TerminalError"}


def test_every_exit_code_is_on_the_page():
    codes = {0, 2, 130, FAILED, TRY_AGAIN, GIVEN_BACK, REFUSED}  # the first three are those of typer
    named = re.findall(r"^\| (\d+) \|", section("docs/operations.md", "Exit codes"), re.MULTILINE)
    assert {int(code) for code in named} == codes


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_what_the_tests_of_the_lake_cover(page: str):
    """A person who chooses a catalogue goes by it."""
    (covered,) = re.findall(r"\bthe tests (?:of this version )?cover [^.;]*", (ROOT / page).read_text(), re.IGNORECASE)
    for name, tested in (
        ("SQLite", "test_lake"),
        ("PostgreSQL", "test_postgres"),
        ("S3|object", "test_object_storage"),
    ):
        assert bool(re.search(name, covered)) == (ROOT / f"tests/{tested}.py").exists(), name
