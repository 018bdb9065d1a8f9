from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.model_card import CARD, ModelCard, make_readable, read_card, write_card

NUMBERS = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=5) | st.lists(NUMBERS))
CARDS = st.builds(
    ModelCard,
    levels=st.none() | st.lists(st.text(), max_size=5).map(tuple),
    temperature=st.floats(min_value=1e-3, max_value=1e3),
    prompt_version=st.none() | st.text(),
    kind=st.sampled_from([None, "generative", "classifier", "cross-encoder"]),
    base=st.none() | st.text(),
    trained_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    metrics=FIGURES,
    training=FIGURES,
)


@pytest.fixture
def other_umask() -> Iterator[None]:
    """A user whose files are for the group too."""
    before = os.umask(0o007)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@given(CARDS)
def test_a_card_round_trips_and_leaves_nothing_else(tmp_path_factory: pytest.TempPathFactory, card: ModelCard):
    folder = tmp_path_factory.mktemp("card")
    assert write_card(folder, card) == folder / CARD
    assert read_card(folder) == card
    assert [path.name for path in folder.iterdir()] == [CARD]


def test_the_file_is_plain_json_with_every_field(tmp_path: Path):
    moment = datetime(2026, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    path = write_card(tmp_path, ModelCard(kind="classifier", trained_at=moment, metrics={"kappa": float("nan")}))
    written = json.loads(path.read_text())
    assert set(written) == set(ModelCard.model_fields)
    set_here = {"kind": "classifier", "trained_at": "2026-03-04T03:00:00Z", "metrics": {"kappa": None}}
    unset = {"levels": None, "temperature": 1.0, "prompt_version": None, "base": None, "training": {}}
    assert written | set_here | unset == written


def test_first_card_wins_and_no_card_is_no_calibration(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert read_card(tmp_path, folder) == ModelCard()
    (folder / CARD).write_text('{"temperature": 2.0, "tuned_on": "later versions may say more"}')
    assert read_card(tmp_path, folder).temperature == 2.0


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"temperature": 0}', '{"temperature": "hot"}', '{"levels": 3}', '{"kind": "oracle"}', '{"metrics": 1}'],
)
def test_unreadable_card_names_the_file(tmp_path: Path, content: str):
    (tmp_path / CARD).write_text(content)
    with pytest.raises(ModelUnusable, match=r"labelstream\.json: "):
        read_card(tmp_path)


def test_a_card_takes_the_place_of_the_old_one_and_a_failure_leaves_it(tmp_path: Path):
    write_card(tmp_path, ModelCard(temperature=2))
    with pytest.raises(ValueError, match="serialize"):
        write_card(tmp_path, ModelCard(metrics={"what": object()}))
    assert read_card(tmp_path).temperature == 2
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


@pytest.mark.usefixtures("other_umask")
def test_a_saved_model_can_be_read_by_whom_the_umask_allows(tmp_path: Path):
    weights = tmp_path / "1_Dense" / "model.safetensors"
    weights.parent.mkdir()
    weights.touch(mode=0o600)
    assert mode(write_card(tmp_path, ModelCard())) == 0o640
    make_readable(tmp_path)
    assert mode(weights) == 0o640
    assert mode(weights.parent) == 0o770
