from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from labelstream.training.code_version import code_version


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a commit, a tag, and a file that git does not know."""
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    git(tmp_path, "tag", "v1")
    (tmp_path / "notes").touch()
    return tmp_path


def test_a_checkout_names_its_commit_and_whether_it_was_changed(checkout: Path):
    commit = git(checkout, "rev-parse", "HEAD")
    found = code_version(checkout=checkout)
    assert (found.package, found.commit) == (version("labelstream"), commit)
    (checkout / "code.py").write_text("2\n")
    assert code_version(checkout=checkout).commit == f"{commit}-dirty"


def test_a_hook_of_git_does_not_lead_astray(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    assert code_version(checkout=checkout).commit == git(checkout, "rev-parse", "HEAD")


def test_an_image_says_what_it_was_built_from(checkout: Path):
    assert code_version("abc", checkout=checkout).commit == "abc"


def test_an_installed_package_takes_no_repository_around_it_for_its_own(checkout: Path):
    installed = checkout / "site-packages"
    installed.mkdir()
    assert code_version(checkout=installed).commit is None


def test_without_git_or_with_a_broken_repository_there_is_no_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (checkout / ".git" / "HEAD").write_text("nonsense")
    assert code_version(checkout=checkout).commit is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert code_version(checkout=checkout).commit is None
