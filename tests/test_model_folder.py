from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.actors.model_folder import ModelCard, fingerprint, model_folder, read_card, read_json
from labelstream.schemas.errors import ModelUnusable


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


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "labelstream.json"])
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


@given(st.floats(min_value=1e-3, max_value=1e3))
def test_card_round_trips(tmp_path_factory: pytest.TempPathFactory, temperature: float):
    folder = tmp_path_factory.mktemp("card")
    card = ModelCard(levels=("no", "yes"), temperature=temperature)
    (folder / "labelstream.json").write_text(card.model_dump_json())
    assert read_card(folder) == card


def test_first_card_wins_and_no_card_is_no_calibration(folder: Path, tmp_path: Path):
    assert read_card(tmp_path, folder) == ModelCard()
    (folder / "labelstream.json").write_text('{"temperature": 2.0, "tuned_on": "later versions may say more"}')
    assert read_card(tmp_path, folder).temperature == 2.0


@pytest.mark.parametrize("content", ["", "[]", '{"temperature": 0}', '{"temperature": "hot"}', '{"levels": 3}'])
def test_unreadable_card_names_the_file(folder: Path, content: str):
    (folder / "labelstream.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"labelstream\.json: "):
        read_card(folder)


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
