"""Tokens: made once, kept as hashes, known at once and forgotten at once."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from labelstream.actors.endpoint.tokens import NAME, TokenFile, add_token, read_hashes, remove_token
from labelstream.cli import app
from labelstream.schemas.errors import SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "tokens"


def test_only_the_hash_is_kept(path: Path):
    token = add_token(path, "search-team")
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert path.read_text() == f"search-team sha256:{digest}\n"
    assert token.startswith("labelstream_")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["tokens"]


def test_tokens_are_known_by_their_names(path: Path):
    tokens = {name: add_token(path, name) for name in ("a", "b", "c")}
    known = TokenFile(path)
    assert {name: known.name_of(token) for name, token in tokens.items()} == {name: name for name in tokens}
    assert len(set(tokens.values())) == 3


@given(st.text())
def test_nothing_else_is_known(tmp_path_factory: pytest.TempPathFactory, token: str):
    path = tmp_path_factory.getbasetemp() / "shared-tokens"
    if not path.exists():
        add_token(path, "a")
    known = TokenFile(path)
    assert known.name_of(token) is None
    assert known.name_of(read_hashes(path)["a"]) is None


def test_a_change_is_seen(path: Path):
    add_token(path, "a")
    known = TokenFile(path)
    token = add_token(path, "b")
    assert known.name_of(token) == "b"
    remove_token(path, "b")
    assert known.name_of(token) is None
    path.unlink()
    assert known.name_of(token) is None
    token = add_token(path, "c")
    assert known.name_of(token) == "c"


def test_a_file_that_is_gone_lets_nobody_in(path: Path, caplog: pytest.LogCaptureFixture):
    token = add_token(path, "a")
    known = TokenFile(path)
    path.unlink()
    assert known.name_of(token) is None
    assert "is gone" in caplog.text


def test_a_slip_in_the_file_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture):
    token = add_token(path, "a")
    known = TokenFile(path)
    path.write_text("a slip\n")
    assert known.name_of(token) == "a"
    assert known.name_of(token) == "a"
    assert caplog.text.count("line 1") == 1


def refused(*_: object, **__: object) -> str:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_file_that_could_not_be_read_for_a_while_is_read_afterwards(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    token = add_token(path, "a")
    known = TokenFile(path)
    remove_token(path, "a")
    with monkeypatch.context() as others:
        others.setattr(Path, "read_text", refused)
        assert [known.name_of(token) for _ in range(3)] == ["a"] * 3
    assert known.name_of(token) is None
    assert caplog.text.count("the tokens from before go on") == 1


def test_two_who_add_at_once_lose_nothing(path: Path):
    with ThreadPoolExecutor(8) as threads:
        tokens = dict(zip("abcdefgh", threads.map(lambda name: add_token(path, name), "abcdefgh"), strict=True))
    known = TokenFile(path)
    assert {name: known.name_of(token) for name, token in tokens.items()} == {name: name for name in tokens}


def test_a_name_is_taken_once(path: Path):
    add_token(path, "a")
    with pytest.raises(SettingsError, match="already"):
        add_token(path, "a")


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "-a", "a/b", "ä", "a" * 65])
def test_names_are_plain(path: Path, name: str):
    with pytest.raises(SettingsError, match="name"):
        add_token(path, name)
    assert not path.exists()


@settings(max_examples=30)
@given(st.from_regex(NAME, fullmatch=True))
def test_what_is_written_can_be_read(tmp_path_factory: pytest.TempPathFactory, name: str):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    token = add_token(path, name)
    assert TokenFile(path).name_of(token) == name


def test_comments_and_empty_lines_mean_nothing(path: Path):
    token = add_token(path, "a")
    path.write_text(f"# who may ask\n\n  {path.read_text()}")
    assert TokenFile(path).name_of(token) == "a"


@pytest.mark.parametrize(
    "content",
    ["a", "a sha256:", f"a sha256:{'g' * 64}", f"a sha256:{'A' * 64}", f"a b sha256:{'0' * 64}", f"a md5:{'0' * 64}",
     f"a sha256:{'0' * 64}\na sha256:{'1' * 64}", "labelstream_0123456789"],
)  # fmt: skip
def test_a_bad_line_is_named_and_not_shown(path: Path, content: str):
    path.parent.mkdir()
    path.write_text(f"# comment\n{content}\n")
    with pytest.raises(SettingsError, match=r"line [23]") as caught:
        TokenFile(path)
    assert "0123" not in str(caught.value)


def test_a_file_that_is_not_text(path: Path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        TokenFile(path)


def test_a_file_that_there_is_not(path: Path):
    with pytest.raises(SettingsError, match="labelstream token add"):
        TokenFile(path)


def test_the_command(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_TOKENS_FILE", str(path))
    added = CliRunner().invoke(app, ["token", "add", "search-team"])
    token = added.stdout.strip()
    assert added.exit_code == 0
    assert TokenFile(path).name_of(token) == "search-team"
    listed = CliRunner().invoke(app, ["token", "list"]).stdout
    assert "search-team" in listed
    assert token not in listed
    assert CliRunner().invoke(app, ["token", "remove", "search-team"]).exit_code == 0
    assert read_hashes(path) == {}


def test_the_command_takes_a_file(path: Path, tmp_path: Path):
    other = tmp_path / "other"
    added = CliRunner().invoke(app, ["token", "add", "a", "--file", str(other)], env={})
    assert TokenFile(other).name_of(added.stdout.strip()) == "a"
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["add", "a"], "LABELSTREAM_ENDPOINT_TOKENS_FILE"),
        (["remove", "a", "--file", "{tmp}/none"], "labelstream token list"),
        (["list", "--file", "{tmp}/none"], "labelstream token add"),
    ],
)
def test_the_command_says_what_to_do(
    arguments: list[str], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("LABELSTREAM_ENDPOINT_TOKENS_FILE", raising=False)
    words = [word.format(tmp=tmp_path) for word in arguments]
    failed = CliRunner().invoke(app, ["token", *words])
    assert isinstance(failed.exception, SettingsError)
    assert remedy in str(failed.exception)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="may be written"):
        add_token(tmp_path / "tokens", "a")


def test_no_token_is_logged(path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="labelstream"):
        token = add_token(path, "a")
        known = TokenFile(path)
        add_token(path, "b")
        assert known.name_of(token) == "a"
    assert caplog.text
    assert token not in caplog.text
