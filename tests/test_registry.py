from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import SecretStr, ValidationError
from registries import RANKER, add, origin, promote
from typer.testing import CliRunner

from labelstream.commands.registry import models
from labelstream.schemas.errors import ModelUnusable, SettingsError, TransientError
from labelstream.training.manifest import MANIFEST, Manifest
from labelstream.training.registry import KINDS, Registry, StaleChampion


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def three(registry: Registry) -> list[str]:
    """Three versions that became champion one after the other."""
    versions = [add(registry, content) for content in ("one", "two", "three")]
    for version in versions:
        promote(registry, version)
    return versions


def champion_of(registry: Registry) -> str | None:
    champion = registry.champion(RANKER)
    return champion.version if champion else None


def test_what_is_added_comes_back_whole(registry: Registry):
    version = add(registry, "trees", score=0.9, snapshot=7, parents=("labeller",))
    manifest = registry.manifest(RANKER, version)
    assert manifest.origin == origin(snapshot=7, parents=("labeller",))
    assert manifest.metrics == {"ndcg": 0.9}
    assert {name: file.size for name, file in manifest.files.items()} == {"model.json": 5, "more/features.txt": 13}
    assert registry.versions(RANKER) == [manifest]
    assert registry.verify(RANKER, version) == []
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_the_same_content_is_the_same_version(registry: Registry):
    version = add(registry, "trees", score=0.9)
    assert add(registry, "trees", score=0.1) == version
    assert [m.metrics for m in registry.versions(RANKER)] == [{"ndcg": 0.9}]


def test_another_input_is_another_version(registry: Registry):
    assert len({add(registry, "trees"), add(registry, "trees", snapshot=2), add(registry, "trees", seed=2)}) == 3


def test_two_machines_arrive_at_the_same_version(tmp_path: Path):
    assert add(Registry(tmp_path / "a"), "trees") == add(Registry(tmp_path / "b"), "trees")


def test_reading_leaves_no_trace(registry: Registry, tmp_path: Path):
    assert (registry.champion(RANKER), registry.versions(RANKER), registry.names(RANKER)) == (None, [], [])
    assert list(tmp_path.iterdir()) == []


def test_versions_are_listed_oldest_first(registry: Registry):
    added = [add(registry, str(number)) for number in range(8)]
    assert [manifest.version for manifest in registry.versions(RANKER)] == added


def test_files_that_only_their_owner_could_read_are_opened_to_others(registry: Registry):
    with registry.stage(RANKER) as folder:
        (folder / "model.json").write_text("{}")
        (folder / "model.json").chmod(0o600)
        version = registry.add(RANKER, folder, origin=origin(), metrics={})
    manifest_mode = (registry._root / RANKER / "versions" / version / MANIFEST).stat().st_mode
    assert (registry._root / RANKER / "versions" / version / "model.json").stat().st_mode == manifest_mode


def test_a_staging_folder_is_gone_when_training_fails(registry: Registry, tmp_path: Path):
    def train(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), registry.stage(RANKER) as folder:
        train(folder)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_leftover_is_swept_when_it_is_old(registry: Registry, caplog: pytest.LogCaptureFixture):
    staging = registry._root / RANKER / "staging"
    for name, age_s in (("old", 4 * 24 * 3600), ("young", 3600), ("old but busy", 3600)):
        (staging / name).mkdir(parents=True)
        (staging / name / "part").write_text("part")
        moment = (staging / name / "part").stat().st_mtime - age_s
        os.utime(staging / name / "part", (moment, moment))
        os.utime(staging / name, (moment, moment) if name != "old but busy" else (1, 1))
    with registry.stage(RANKER) as mine:
        assert {path.name for path in staging.iterdir()} == {"young", "old but busy", mine.name}
    assert "leftover" in caplog.text


@pytest.mark.parametrize("what", ["nothing", "link", "folder link"])
def test_what_cannot_be_a_version_is_refused(registry: Registry, tmp_path: Path, what: str):
    (tmp_path / "elsewhere").mkdir()
    with registry.stage(RANKER) as folder:
        if what != "nothing":
            (folder / "model").symlink_to(tmp_path / ("elsewhere" if what == "folder link" else "nowhere"))
        with pytest.raises(SettingsError, match="no files" if what == "nothing" else "copy"):
            registry.add(RANKER, folder, origin=origin(), metrics={})


def test_only_a_staging_folder_of_the_registry_is_added(registry: Registry, tmp_path: Path):
    with Registry(tmp_path / "other").stage(RANKER) as folder, pytest.raises(ValueError, match="staging"):
        registry.add(RANKER, folder, origin=origin(), metrics={})


@pytest.mark.parametrize(
    "secret",
    [
        {"sasl_password": "hunter2"},
        {"s3": {"s3_secret": "abc"}},
        {"tokens": [{"api_token": "abc"}]},
        {"catalog": "postgres://me:hunter2@host/db"},
        {"catalog": "postgres:host=db password=hunter2"},
        {"password": SecretStr("hunter2")},
    ],
)
def test_a_secret_does_not_get_into_a_manifest(secret: dict[str, object]):
    with pytest.raises(ValidationError, match=r"secret|valid JSON"):
        origin(settings=secret)


def test_what_only_looks_a_little_like_a_secret_does():
    innocent = {"max_tokens": 511, "label_token_ids": [1, 2], "sasl_password": None, "s3_secret": "**********"}
    assert origin(settings=innocent).settings == innocent


def test_numbers_of_numpy_are_numbers_and_undefined_ones_are_null(registry: Registry):
    with registry.stage(RANKER) as folder:
        (folder / "model.json").write_text("{}")
        metrics = {"ndcg": np.float32(0.5), "n": np.int64(3), "by_class": (0.5, np.nan), "worst": -np.inf}
        version = registry.add(RANKER, folder, origin=origin(settings={"gains": (0, 1)}), metrics=metrics)
    manifest = registry.manifest(RANKER, version)
    assert manifest.metrics == {"ndcg": 0.5, "n": 3, "by_class": [0.5, None], "worst": None}
    assert manifest.origin.settings == {"gains": [0, 1]}


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("model.json", "twoo", "model.json: has changed"),
        ("model.json", None, "model.json: is missing"),
        ("new", "new", "new: is not in the manifest"),
        (MANIFEST, "{}", "version: Field required"),
        (MANIFEST, "not JSON", "Invalid JSON"),
        (MANIFEST, None, "is missing"),
    ],
)
def test_a_damaged_version_is_seen_and_never_promoted(
    registry: Registry, three: list[str], file: str, content: str | None, complaint: str
):
    path = registry._root / RANKER / "versions" / three[1] / file
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    assert complaint in "; ".join(registry.verify(RANKER, three[1]))
    with pytest.raises(ModelUnusable, match="promote another"):
        registry.promote(RANKER, three[1], expected=three[2], reason="")
    with pytest.raises(ModelUnusable):
        registry.rollback(RANKER, "bad")
    assert champion_of(registry) == three[2]


def test_a_manifest_that_tells_another_origin_is_seen(registry: Registry):
    version = add(registry, "trees")
    path = registry._root / RANKER / "versions" / version / MANIFEST
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    assert registry.verify(RANKER, version) == [f"{MANIFEST}: has changed"]


def test_one_unreadable_manifest_does_not_hide_the_others(
    registry: Registry, three: list[str], caplog: pytest.LogCaptureFixture
):
    (registry._root / RANKER / "versions" / three[1] / MANIFEST).write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert [manifest.version for manifest in registry.versions(RANKER)] == [three[0], three[2]]
    assert three[1] in caplog.text
    assert sorted(three) == registry.names(RANKER)


def test_adding_what_is_there_but_damaged_says_what_to_delete(registry: Registry):
    version = add(registry, "trees")
    folder = registry._root / RANKER / "versions" / version
    (folder / "model.json").write_text("rotten")
    with pytest.raises(ModelUnusable, match=f"{folder}.*delete"):
        add(registry, "trees")
    shutil.rmtree(folder)
    assert add(registry, "trees") == version


@pytest.mark.parametrize("version", ["0" * 16, "../../etc", "", "0" * 16 + "\n", "A" * 16, "0" * 16 + "-0"])
def test_an_unknown_version_is_named(registry: Registry, three: list[str], version: str):
    with pytest.raises(SettingsError, match="models list"):
        registry.promote(RANKER, version, expected=three[2], reason="")


def test_a_challenger_that_was_compared_with_a_former_champion_is_refused(registry: Registry, three: list[str]):
    late = add(registry, "late")
    for expected in (three[0], None):
        with pytest.raises(StaleChampion, match=three[2]):
            registry.promote(RANKER, late, expected=expected, reason="")
    assert registry.promote(RANKER, late, expected=three[2], reason="").previous == three[2]


def test_promoting_the_champion_again_changes_nothing(registry: Registry, three: list[str]):
    before = registry.champion(RANKER)
    assert registry.promote(RANKER, three[2], expected=three[1], reason="the run was killed") == before
    assert len(registry.history(RANKER).records) == 3


def test_two_rollbacks_go_back_twice_and_promotion_is_the_way_forward(registry: Registry, three: list[str]):
    one, two, three_ = three
    assert registry.rollback(RANKER, "bad").version == two
    assert registry.rollback(RANKER, "bad too").version == one
    with pytest.raises(SettingsError, match="promote"):
        registry.rollback(RANKER, "worse")
    assert registry.history(RANKER).rolled_back == {two, three_}
    registry.promote(RANKER, three_, expected=one, reason="it was not the model")
    assert registry.history(RANKER).rollback_path == (three_, one)
    assert registry.history(RANKER).rolled_back == {two}


def test_a_rollback_of_somebody_who_comes_late_does_nothing(registry: Registry, three: list[str]):
    registry.rollback(RANKER, "bad", expected=three[2])
    with pytest.raises(StaleChampion):
        registry.rollback(RANKER, "bad", expected=three[2])
    assert champion_of(registry) == three[1]


def test_nothing_to_roll_back_to_is_said(registry: Registry):
    with pytest.raises(SettingsError, match="no ranker to roll back to"):
        registry.rollback(RANKER, "bad")


def test_pruning_keeps_the_newest_and_the_way_back(registry: Registry, three: list[str]):
    newer = [add(registry, f"never promoted {number}") for number in range(3)]
    assert set(registry.prune(RANKER, keep=1)) == {three[0], *newer[:2]}
    assert set(registry.names(RANKER)) == {three[2], three[1], newer[2]}
    assert registry.rollback(RANKER, "bad").version == three[1]
    with pytest.raises(SettingsError):
        registry.rollback(RANKER, "bad")


def test_the_history_of_a_pruned_version_stays(registry: Registry, three: list[str]):
    registry.prune(RANKER, keep=1)
    assert [r.version for r in registry.history(RANKER).records] == [*three, three[2]]
    assert registry.prune(RANKER, keep=1) == ()


def test_what_was_pruned_can_be_added_again_under_a_new_name(registry: Registry, three: list[str]):
    registry.prune(RANKER, keep=1)
    with pytest.raises(SettingsError, match="no ranker"):
        registry.promote(RANKER, three[0], expected=three[2], reason="")
    again = add(registry, "one")
    assert again == add(registry, "one") == f"{three[0]}-2"
    assert registry.verify(RANKER, again) == []


def test_at_least_one_version_is_kept(registry: Registry):
    with pytest.raises(SettingsError, match="at least 1"):
        registry.prune(RANKER, keep=0)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("damage", ["missing", "empty", "other number"])
def test_a_damaged_record_is_named(registry: Registry, damage: str):
    records = registry._root / RANKER / "promotions"
    first, last = records / "0000000001.json", records / "0000000003.json"
    if damage == "missing":
        first.unlink()
    else:
        last.write_text("" if damage == "empty" else first.read_text())
    with pytest.raises(SettingsError, match=r"000000000[13]\.json.*copy"):
        registry.history(RANKER)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"), Registry(tmp_path / "file").stage(RANKER):
        pass


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, TransientError), (errno.EROFS, SettingsError)])
def test_trouble_with_the_storage_is_an_error_of_ours(
    registry: Registry, three: list[str], code: int, kind: type[Exception]
):
    refused = OSError(code, os.strerror(code))
    with patch("os.link", side_effect=refused), pytest.raises(kind, match=os.strerror(code)):
        registry.promote(RANKER, three[0], expected=three[2], reason="")
    assert champion_of(registry) == three[2]


def test_a_file_system_without_hard_links_is_named(registry: Registry, three: list[str]):
    with patch("os.link", side_effect=PermissionError(errno.EPERM, "no")), pytest.raises(SettingsError, match="hard"):
        registry.promote(RANKER, three[0], expected=three[2], reason="")


def test_an_answer_that_nfs_lost_is_not_taken_for_defeat(registry: Registry, three: list[str]):
    link = os.link

    def link_and_ask_again(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    with patch("os.link", link_and_ask_again):
        assert registry.promote(RANKER, three[0], expected=three[2], reason="").number == 4


def test_a_rename_whose_answer_nfs_lost_has_happened(registry: Registry):
    rename = Path.rename

    def rename_and_ask_again(source: Path, target: Path) -> None:
        rename(source, target)
        rename(source, target)

    with patch.object(Path, "rename", rename_and_ask_again):
        version = add(registry, "trees")
    assert registry.verify(RANKER, version) == []


class RegistryModel(RuleBasedStateMachine):
    """A registry beside the simplest idea of one."""

    contents = st.sampled_from("abcd")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry(Path(self.folder.name))
        self.there: list[str] = []
        self.stack: list[str] = []
        self.gone: list[str] = []
        self.no_sync = patch("os.fsync")  # the disk's pace is not under test
        self.no_sync.start()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.no_sync.stop()
            self.folder.cleanup()

    @property
    def champion(self) -> str | None:
        return self.stack[-1] if self.stack else None

    @rule(content=contents)
    def add(self, content: str) -> None:
        version = add(self.registry, content)
        assert version not in self.gone
        if version not in self.there:
            self.there.append(version)

    @precondition(lambda self: self.there)
    @rule(data=st.data(), compared_with_champion=st.booleans())
    def promote(self, data: st.DataObject, compared_with_champion: bool) -> None:
        version = data.draw(st.sampled_from(self.there))
        if compared_with_champion or version == self.champion:
            self.registry.promote(RANKER, version, expected=self.champion, reason="")
            if version != self.champion:
                self.stack.append(version)
        else:
            with pytest.raises(StaleChampion):
                self.registry.promote(RANKER, version, expected="another", reason="")

    @rule()
    def rollback(self) -> None:
        rest = list(self.stack)
        while rest and (rest[-1] == self.champion or rest[-1] in self.gone):
            rest.pop()
        if rest:
            assert self.registry.rollback(RANKER, "").version == rest[-1]
            self.stack = rest
        else:
            with pytest.raises(SettingsError):
                self.registry.rollback(RANKER, "")

    @rule(keep=st.integers(1, 3))
    def prune(self, keep: int) -> None:
        way_back = self.registry.history(RANKER).rollback_path[: keep + 1]
        gone = self.registry.prune(RANKER, keep=keep)
        assert set(gone) == set(self.there[:-keep]) - set(way_back)
        self.there = [version for version in self.there if version not in gone]
        self.gone += gone

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "folder"):
            return
        assert champion_of(self.registry) == self.champion
        assert self.registry.names(RANKER) == sorted(self.there)
        assert self.champion is None or self.registry.verify(RANKER, self.champion) == []


RegistryModel.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestRegistryModel = RegistryModel.TestCase


def command(registry: Registry, *arguments: str) -> str:
    done = CliRunner().invoke(models, [*arguments, "--registry", str(registry._root)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_says_who_is_champion(registry: Registry, three: list[str]):
    lines = command(registry, "list").splitlines()
    marked = {version: next(line for line in lines if version in line) for version in three}
    assert "champion" in marked[three[2]]
    assert "next rollback" in marked[three[1]]
    assert "ndcg 0.9" in marked[three[0]]


def test_a_version_is_shown(registry: Registry):
    version = add(registry, "trees", settings={"booster": {"depth": 6}}, parents=("labeller-a", "encoder-b"))
    promote(registry, version)
    shown = command(registry, "show", version)
    for told in ("booster.depth", "labeller-a, encoder-b", "model.json", "pairs 10", "better"):
        assert told in shown


def test_versions_are_promoted_and_rolled_back(registry: Registry, three: list[str]):
    assert f"champion: {three[1]}" in command(registry, "rollback", "--from", three[2])
    assert f"champion: {three[2]} (before: {three[1]})" in command(registry, "promote", three[2], "--reason", "[it]")
    assert registry.history(RANKER).records[-1].reason == "[it]"


def test_verify_names_what_is_damaged(registry: Registry, three: list[str]):
    assert command(registry, "verify").count("as it was added") == 3
    (registry._root / RANKER / "versions" / three[0] / "model.json").unlink()
    with pytest.raises(ModelUnusable, match=three[0]):
        command(registry, "verify")
    assert "as it was added" in command(registry, "verify", three[1])


def test_prune_prints_what_it_deleted(registry: Registry, three: list[str]):
    assert three[0] in command(registry, "prune", "--keep", "1")
    assert three[0] not in command(registry, "list")


def test_there_are_versions_of_nothing_but_rankers(registry: Registry):
    assert KINDS == (RANKER,)
    made = add(registry, "trees")
    assert f"ranker {made}" in command(registry, "show", made)
    refused = CliRunner().invoke(models, ["list", "--kind", "labeller"])
    assert "No such option" in refused.output


def test_a_registry_that_is_not_there_is_named(registry: Registry):
    with pytest.raises(SettingsError, match=r"--registry .*no such folder"):
        command(registry, "list")
