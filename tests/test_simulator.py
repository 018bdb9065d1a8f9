"""The simulation: repeatable, true to its stated model, and in the very format that the stream reads."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from conftest import MakeSettings
from lakes import EVENTS, PRODUCT_TOPIC, Bench
from pydantic import ValidationError
from typer.testing import CliRunner

from labelstream.commands.simulate import simulate
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.messages import UbiEvent, UbiQuery, parse_search_event
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.records import Record
from labelstream.streaming.topics import EndOffsets
from labelstream.training.engagement_counts import EngagementCounts, read_counts
from labelstream.training.judgments import JudgedPairs
from labelstream.training.simulated_log import APPLICATION, LogCounts, write_log
from labelstream.training.simulated_truth import SimulationSettings, ground_truth, uniform
from labelstream.training.simulator import NOTHING, Simulation

SCALE = LabelScale()
SMALL = SimulationSettings(sessions=150, page=5, days=3)
STEPS = ["impression", "click", "add_to_cart", "purchase"]


def judged_pairs(queries: int = 8, products: int = 10) -> JudgedPairs:
    """Every query with products of its own, levels mixed; the first query with fewer than the others."""
    rng = np.random.default_rng(3)
    names = [(query, product) for query in range(queries) for product in range(products if query else 3)]
    levels = rng.choice(3, len(names), p=[0.5, 0.2, 0.3])
    return JudgedPairs(
        queries=tuple(f"Sofa  {query}" for query, _ in names),
        products=tuple(Product(product_id=f"{query}-{product}", title="Sofa") for query, product in names),
        ratings=levels.astype(np.float64),
        levels=levels,
    )


def log_lines(path: Path, simulation: Simulation) -> list[bytes]:
    write_log(simulation, path)
    return path.read_bytes().splitlines()


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(judged_pairs(), SCALE, SMALL)


@pytest.fixture(scope="module")
def lines(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return log_lines(tmp_path_factory.mktemp("simulation") / "log.ndjson", simulation)


def by_pair_and_position(counts: EngagementCounts) -> dict[tuple[str, str, int], tuple[int, ...]]:
    keys = [(counts.queries[pair], counts.product_ids[pair]) for pair in counts.pair]
    cells = zip(keys, counts.position.tolist(), counts.impressions.tolist(), counts.actions.tolist(), strict=True)
    return {(*key, position): (shown, *done) for key, position, shown, done in cells}


def test_the_same_settings_give_the_same_log_and_others_another(tmp_path: Path, lines: list[bytes]):
    assert log_lines(tmp_path / "a", Simulation(judged_pairs(), SCALE, SMALL)) == lines
    for change in ({"seed": 2}, {"world_seed": 2}, {"ranker_noise": 5.0}):
        other = Simulation(judged_pairs(), SCALE, SMALL.model_copy(update=change))
        assert not set(log_lines(tmp_path / "b", other)) & set(lines)


def test_every_document_is_read_by_the_stream_and_says_that_it_is_simulated(lines: list[bytes]):
    messages = [parse_search_event(line) for line in lines]
    kinds = Counter(type(message) for message in messages)
    assert set(kinds) == {UbiQuery, UbiEvent}
    assert kinds[UbiQuery] == 150
    assert {json.loads(line)["application"] for line in lines} == {APPLICATION} == {"labelstream-simulation"}
    events = [message for message in messages if isinstance(message, UbiEvent)]
    assert list(dict.fromkeys(sorted((e.action_name for e in events), key=STEPS.index))) == STEPS
    assert {event.event_attributes.object.object_id_field for event in events} == {"product_id"}


def test_a_session_is_told_in_order_within_one_day(lines: list[bytes]):
    sessions: dict[str, list[Any]] = defaultdict(list)
    for line in lines:
        message = parse_search_event(line)
        sessions[message.query_id].append(message)
    starts = [messages[0].timestamp for messages in sessions.values()]
    assert starts == sorted(starts)
    for query, *events in sessions.values():
        assert isinstance(query, UbiQuery)
        hits = query.query_response_hit_ids
        impressions = [(event.position, event.object_id) for event in events if event.action_name == "impression"]
        assert impressions == list(enumerate(hits, start=1))
        times = [query.timestamp, *(event.timestamp for event in events)]
        assert times == sorted(times)
        assert len({time.date() for time in times}) == 1
        assert {event.client_id for event in events} == {query.client_id}
        for product_id in hits:
            done = [event.action_name for event in events if event.object_id == product_id]
            assert done == STEPS[: len(done)]


def test_what_is_shown_belongs_to_the_query_and_comes_once(simulation: Simulation):
    for block in simulation.blocks():
        for query, shown in zip(block.query, block.shown, strict=True):
            pairs = shown[shown != NOTHING]
            assert len(set(pairs)) == len(pairs) == min(5, 3 if query == 0 else 10)
            normalised = normalise_query(simulation.queries[query])
            assert {simulation.truth.queries[pair] for pair in pairs} == {normalised}
            assert (shown[len(pairs) :] == NOTHING).all()


def test_the_counts_are_those_of_the_log(simulation: Simulation, lines: list[bytes]):
    typed: dict[str, str] = {}
    expected: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for line in lines:
        message = parse_search_event(line)
        if isinstance(message, UbiQuery):
            typed[message.query_id] = normalise_query(message.user_query)
        else:
            key = (typed[message.query_id], message.object_id, message.position)
            expected[key][STEPS.index(message.action_name)] += 1
    assert by_pair_and_position(simulation.counts()) == {key: tuple(count) for key, count in expected.items()}


def test_the_counts_are_those_of_the_lake(simulation: Simulation, lines: list[bytes], tmp_path: Path):
    """The whole way: the stream reads the log, joins it and commits it."""
    products = [product.model_dump_json().encode() for product in judged_pairs().products]
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    with Bench(tmp_path) as bench:
        for topic, values in ((PRODUCT_TOPIC, products), (EVENTS, lines)):
            keys = [json.loads(value).get("product_id", "").encode() or None for value in values]
            records = [
                Record(topic, 0, offset, key, value, (), moment)
                for offset, (key, value) in enumerate(zip(keys, values, strict=True))
            ]
            bench.take(*records)
        assert bench.totals()["records"] == len(products) + len(lines)
        for until, since in ((None, None), (date(2026, 1, 3), None), (date(2026, 1, 3), date(2026, 1, 2))):
            read = by_pair_and_position(read_counts(bench.lake, until, since))
            assert read == by_pair_and_position(simulation.counts(until, since))


def test_the_days_divide_the_log(simulation: Simulation):
    days = [
        simulation.counts(date(2026, 1, 2) + timedelta(days=n), date(2026, 1, 1) + timedelta(days=n)) for n in (0, 1, 2)
    ]
    impressions = [int(day.impressions.sum()) for day in days]
    assert all(count > 0 for count in impressions)
    assert sum(impressions) == simulation.counts().impressions.sum()
    assert simulation.counts(until=date(2026, 1, 1)).impressions.size == 0


def test_shoppers_behave_as_the_truth_says():
    settings = SimulationSettings(sessions=60_000, page=4, zipf_exponent=0, shuffle=100.0)
    simulation = Simulation(judged_pairs(queries=4, products=6), SCALE, settings)
    truth, counts = simulation.truth, simulation.counts()
    clicks, carts, purchases = counts.actions.T
    looked = counts.impressions * truth.theta[counts.position - 1]
    chances = (truth.attractiveness, truth.cart_probability, truth.purchase_probability)
    for before, after, chance in zip((looked, clicks, carts), (clicks, carts, purchases), chances, strict=True):
        expected = before * chance[counts.pair]
        assert abs(after.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
        assert np.corrcoef(after, expected)[0, 1] > 0.9


def test_queries_are_sent_by_a_zipf_law():
    simulation = Simulation(judged_pairs(queries=20), SCALE, SimulationSettings(sessions=50_000, page=1))
    sent = np.sort(np.bincount(np.concatenate([block.query for block in simulation.blocks()])))[::-1]
    np.testing.assert_allclose(sent / sent[0], 1 / np.arange(1, 21), rtol=0.1)


def test_a_given_ranker_decides_what_comes_first():
    scores = np.arange(len(judged_pairs()), dtype=np.float64)
    still = SMALL.model_copy(update={"shuffle": 0.0})
    for block in Simulation(judged_pairs(), SCALE, still, scores).blocks():
        for shown in block.shown:
            assert (np.diff(shown[shown != NOTHING]) == -1).all()


def test_relevance_attracts_but_so_does_a_share_of_irrelevant_products():
    truth = ground_truth(judged_pairs(queries=400), SCALE, SimulationSettings())
    assert truth.popular.mean() == pytest.approx(0.15, abs=0.02)
    assert truth.popular_irrelevant.tolist() == (truth.popular & (truth.levels == 0)).tolist()
    plain = [np.median(truth.add_to_cart_rate[(truth.levels == level) & ~truth.popular]) for level in range(3)]
    assert plain == sorted(plain)
    misleading = np.median(truth.add_to_cart_rate[truth.popular_irrelevant])
    assert misleading == pytest.approx(plain[2], rel=0.2)
    assert misleading > 5 * plain[0]
    assert truth.popularity.max() > 15 * np.median(truth.popularity)  # heavy-tailed
    none = ground_truth(judged_pairs(), SCALE, SimulationSettings(popular_share=0))
    assert not none.popular.any()


def test_a_pair_keeps_its_truth_whatever_stands_beside_it_and_whichever_sessions_follow():
    judged = judged_pairs()
    some = np.array([20, 4, 31])
    whole, part = (ground_truth(pairs, SCALE, SMALL) for pairs in (judged, judged.select(some)))
    assert part.attractiveness.tolist() == whole.attractiveness[some].tolist()
    again = ground_truth(judged, SCALE, SimulationSettings(seed=9, sessions=7))
    assert again.attractiveness.tolist() == whole.attractiveness.tolist()
    other = ground_truth(judged, SCALE, SimulationSettings(world_seed=9))
    assert other.attractiveness.tolist() != whole.attractiveness.tolist()


def test_draws_from_names_are_even():
    drawn = uniform("test", [str(name) for name in range(20_000)], 0)
    assert ((drawn > 0) & (drawn < 1)).all()
    np.testing.assert_allclose(np.histogram(drawn, 10, (0, 1))[0], 2000, rtol=0.1)


def test_the_truth_survives_its_file(simulation: Simulation, tmp_path: Path):
    path = tmp_path / "truth.parquet"
    simulation.truth.save(path)
    table, truth = pq.read_table(path), simulation.truth
    assert list(zip(table["query"].to_pylist(), table["product_id"].to_pylist(), strict=True)) == list(
        zip(truth.queries, truth.product_ids, strict=True)
    )
    assert len(table.column_names) == 10
    for name in set(table.column_names) - {"query", "product_id"}:
        np.testing.assert_array_equal(table[name].to_numpy(), getattr(truth, name))
    [facts] = table.schema.metadata.values()
    assert json.loads(facts) == {"settings": truth.settings.model_dump(mode="json"), "theta": truth.theta.tolist()}
    assert [file.name for file in tmp_path.iterdir()] == ["truth.parquet"]


def test_no_pair_and_the_same_pair_twice_are_refused():
    for chosen in (np.array([], np.int64), np.array([1, 1])):
        with pytest.raises(SettingsError, match="judged pairs"):
            Simulation(judged_pairs().select(chosen), SCALE, SMALL)


@pytest.mark.parametrize("change", [{"sessions": 0}, {"page": 301}, {"popular_share": 1.1}, {"shuffle": float("nan")}])
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(change))):
        SimulationSettings.model_validate(change)


def test_a_packed_log_is_the_same_log_and_the_same_file_each_time(
    simulation: Simulation, lines: list[bytes], tmp_path: Path
):
    paths = [tmp_path / "a.ndjson.gz", tmp_path / "b.ndjson.gz"]
    steps: list[int] = []
    counts = [write_log(simulation, path, steps.append) for path in paths]
    assert gzip.decompress(paths[0].read_bytes()).splitlines() == lines
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert counts[0] == LogCounts(
        *(Counter(json.loads(line).get("action_name") for line in lines)[name] for name in [None, *STEPS])
    )
    assert sum(counts[0]) == len(lines)
    assert sum(steps) == 2 * 150
    assert sorted(tmp_path.iterdir()) == paths


def test_a_log_that_cannot_be_written_is_named(simulation: Simulation, tmp_path: Path):
    (tmp_path / "a file").touch()
    with pytest.raises(SettingsError, match="a file"):
        write_log(simulation, tmp_path / "a file" / "log.ndjson")


def command(tmp_path: Path, *options: str) -> Any:
    judged = judged_pairs()
    (tmp_path / "products.jsonl").write_bytes(b"\n".join(p.model_dump_json().encode() for p in judged.products))
    rated = [
        f"{query},{product.product_id},{3 if level == 2 else level}"
        for query, product, level in zip(judged.queries, judged.products, judged.levels, strict=True)
    ]
    (tmp_path / "judgments.csv").write_text("\n".join(["query,docid,rating", *rated]))
    app = typer.Typer()
    app.command()(simulate)
    files = ["--judgments", f"{tmp_path}/judgments.csv", "--catalogue", f"{tmp_path}/products.jsonl"]
    return CliRunner().invoke(app, [*files, "--layout", "products", "--sessions", "150", *options])


def test_the_command_writes_log_and_truth_and_calls_it_a_simulation(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = command(tmp_path, "--page", "5", "--days", "3", "--out", "log.ndjson")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "log.ndjson").read_bytes().splitlines() == lines
    assert len(pq.read_table(tmp_path / "log.ndjson.truth.parquet")) == len(judged_pairs())
    assert f"simulation: {len(lines):,} documents" in done.output
    assert "simulation: 73 pairs of 8 queries" in done.output


def test_the_command_names_a_folder_that_is_not_there(tmp_path: Path):
    done = command(tmp_path, "--out", str(tmp_path / "nowhere" / "log.ndjson"))
    assert isinstance(done.exception, SettingsError)
    assert "nowhere" in str(done.exception)


@pytest.mark.broker
def test_the_command_sends_the_log_to_kafka(
    kafka: KafkaCluster, fresh_topics: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = fresh_topics(kafka.bootstrap_servers)
    for name in ("bootstrap_servers", "events_topic", "products_topic", "labels_topic", "dead_letters_topic"):
        monkeypatch.setenv(f"LABELSTREAM_KAFKA_{name.upper()}", str(getattr(settings, name)))
    done = command(tmp_path, "--out", str(tmp_path / "log.ndjson.gz"), "--publish")
    assert done.exit_code == 0, done.output
    documents = len(gzip.decompress((tmp_path / "log.ndjson.gz").read_bytes()).splitlines())
    assert f"simulation: {documents:,} records sent to {settings.events_topic}" in done.output
    with EndOffsets(settings, [settings.events_topic]) as ask:
        assert sum(ask().values()) == documents
