from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakes import EVENTS, MOMENT, a_commit, consumed_rows, lake_settings
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.tables import CONSUMED
from labelstream.streaming.commit import OffsetRange
from labelstream.streaming.lake import Lake
from labelstream.training.cost import Seen, cost_table, h100_pairs_per_second, seen_in
from labelstream.training.report import read_report_inputs


def commit(lake: Lake, first: int, seconds: float, **counts: int) -> None:
    """One commit of the stream, this long after the first."""
    places = [OffsetRange(EVENTS, 0, first, first + 1)]
    table = consumed_rows(f"{first:032x}", places, **counts)
    moment = (MOMENT + timedelta(seconds=seconds),) * len(table)
    place = table.schema.get_field_index("committed_at")
    field = table.schema.field(place)
    lake.commit(a_commit(first, tables={CONSUMED.name: table.set_column(place, field, [moment])}))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    with Lake(lake_settings(tmp_path)) as writing:
        yield writing


def test_the_lake_tells_its_speed_without_pauses(lake: Lake):
    assert seen_in(lake) == Seen(None, None)
    commit(lake, 0, 0, labelled=1000)
    assert seen_in(lake) == Seen(None, 0.0)
    commit(lake, 1, 2, labelled=60, cached=20)
    commit(lake, 2, 4, labelled=40, cached=200)
    commit(lake, 3, 4000, labelled=900)  # after an hour: how long these took is not known
    commit(lake, 4, 4006, labelled=100)
    found = seen_in(lake)
    assert found.pairs_per_second == pytest.approx(200 / 10)
    assert found.hit_share == pytest.approx(220 / 2320)


@given(st.floats(0.01, 1e6), st.floats(0, 0.99), st.floats(1, 1e4), st.floats(0.01, 1))
def test_every_row_follows_the_formula(speed: float, share: float, tokens: float, utilisation: float):
    found = cost_table(speed, "measured", hit_share=share, tokens=tokens, utilisation=utilisation)
    assert len(found.rows) == (6 if share else 3)
    for row in found.rows:
        assert row.hours_per_million * 3600 * row.pairs_per_second == pytest.approx(1e6)
        assert row.source
    new, *_ = [row.pairs_per_second for row in found.rows]
    assert new == speed
    if share:
        assert found.rows[1].pairs_per_second * (1 - share) == pytest.approx(speed)
    small, large = (h100_pairs_per_second(size, tokens=tokens, utilisation=utilisation) for size in (1e9, 7e9))
    assert small == pytest.approx(7 * large)
    assert small * tokens * 2e9 == pytest.approx(utilisation * 989.4e12)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"pairs_per_second": 0.0}, "--pairs-per-second"), ({"hit_share": 1.0}, "--hit-share"),
     ({"tokens": 0.0}, "--tokens-per-pair"), ({"utilisation": 1.5}, "--utilisation"),
     ({"pairs_per_second": float("nan")}, "--pairs-per-second")],
)  # fmt: skip
def test_a_figure_out_of_range_is_named(wrong: dict[str, float], name: str):
    with pytest.raises(SettingsError, match=name):
        cost_table(**({"pairs_per_second": 1.0, "source": "measured"} | wrong))


def test_by_command_and_read_by_the_report(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", lake._settings.catalog)
    monkeypatch.setenv("LABELSTREAM_LAKE_DATA_PATH", lake._settings.data_path)
    path = tmp_path / "cost.json"
    silent = CliRunner().invoke(app, ["cost"])
    assert isinstance(silent.exception, SettingsError)
    commit(lake, 0, 0, labelled=10)
    commit(lake, 1, 5, labelled=50, cached=60)
    done = CliRunner().invoke(app, ["cost", "--out", str(path), "--tokens-per-pair", "100"])
    assert done.exit_code == 0, done.output
    inputs = read_report_inputs({}, cost=path)
    assert inputs.cost is not None
    assert [row.what for row in inputs.cost.rows][:2] == [
        "this machine and its labeller, new pairs",
        "this machine and its labeller, with the cache",
    ]
    assert inputs.cost.rows[0].pairs_per_second == pytest.approx(10)
    assert inputs.cost.rows[1].pairs_per_second == pytest.approx(20)
    assert "100 tokens" in json.loads(path.read_text())["rows"][2]["source"]


def test_without_a_lake_the_measured_speed_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LAKE_CATALOG", f"sqlite:{tmp_path}/none.sqlite")
    done = CliRunner().invoke(app, ["cost", "--pairs-per-second", "415"])
    assert done.exit_code == 0, done.output
    assert "0.67" in done.output
