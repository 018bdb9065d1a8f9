from __future__ import annotations

from pathlib import Path

import pytest

from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.model_card import ModelCard, write_card
from labelstream.schemas.model_folder import fingerprint, model_folder, read_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_fingerprint_is_of_content_not_of_place(folder: Path, tmp_path: Path):
    moved = tmp_path / "elsewhere"
    before = fingerprint([folder])
    folder.rename(moved)
    assert fingerprint([moved]) == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_fingerprint_follows_what_answers_depend_on(folder: Path, name: str):
    before = fingerprint([folder])
    (folder / name).write_bytes(b"changed")
    assert fingerprint([folder]) != before


@pytest.mark.parametrize("name", ["README.md", "optimizer.pt", "checkpoint-10/model.safetensors"])
def test_fingerprint_ignores_what_training_leaves_about(folder: Path, name: str):
    before = fingerprint([folder])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"anything")
    assert fingerprint([folder]) == before


def test_fingerprint_knows_model_from_adapter(folder: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert len({fingerprint(folders) for folders in ([folder], [folder, adapter], [adapter, folder])}) == 3


def test_fingerprint_follows_calibration_but_no_figures_on_the_card(folder: Path):
    write_card(folder, ModelCard(temperature=2))
    before = fingerprint([folder])
    write_card(folder, ModelCard(temperature=2, metrics={"agreement": 0.9}, training={"seed": 1}, base="elsewhere"))
    assert fingerprint([folder]) == before
    write_card(folder, ModelCard(temperature=3))
    assert fingerprint([folder]) != before


@pytest.mark.parametrize("model", ["", "/no/such/folder", "./missing", "a/b/c", "missing"])
def test_missing_model_names_the_setting(model: str):
    with pytest.raises(ModelUnusable, match="SETTING"):
        model_folder(model, setting="SETTING")


def test_weights_in_pickle_form_are_refused(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnusable, match="safetensors"):
        model_folder(str(folder), setting="SETTING")


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff"])
def test_unreadable_config_names_setting_and_file(folder: Path, content: bytes):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelUnusable, match=r"SETTING: .*config\.json"):
        read_json(folder / "config.json", setting="SETTING")
