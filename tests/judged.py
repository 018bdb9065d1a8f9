"""Judged pairs of the made-up shop, whose truth is known, and small bases to tune on them."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from models import BERT_TOKENS
from sklearn.feature_extraction.text import HashingVectorizer
from threadpoolctl import threadpool_limits

from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product, product_text
from labelstream.training.demo_catalogue import QueryIntent, demo_catalogue, intent_met_by, phrase, relevance
from labelstream.training.judgments import MISSING, JudgedPairs

CATALOGUE = demo_catalogue(products=300)
# Two shelves: what is neither is irrelevant to every query, so there is something to learn in a few steps.
CATEGORIES = ("Scarves", "Kettles")
RATINGS = np.array([0.0, 2.0, 3.0])


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny models: where cores are shared, threads that wait for each other are far slower."""
    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def embed_words(texts: list[str]) -> np.ndarray:
    """Texts as unit vectors of their words and parts of words."""
    counts = HashingVectorizer(n_features=512, analyzer="char_wb", ngram_range=(2, 5))
    return counts.transform(texts).toarray().astype(np.float32)


def judged_queries(
    count: int, *, seed: int = 1, categories: Sequence[str] = CATEGORIES
) -> list[tuple[str, QueryIntent]]:
    """Different queries for these shelves, and what is meant by each."""
    rng = random.Random(seed)
    found: dict[str, tuple[str, QueryIntent]] = {}
    sold = [product for product in CATALOGUE if product.category in categories]
    while len(found) < count:
        intent = intent_met_by(rng, rng.choice(sold))
        query = phrase(rng, intent)
        found.setdefault(normalise_query(query), (query, intent))
    return list(found.values())


def judge(queries: Sequence[tuple[str, QueryIntent]], per_query: int, *, seed: int = 1) -> JudgedPairs:
    """The truth about some products of each query, the levels in turn as far as there are such products."""
    rng = random.Random(seed)
    rows: list[tuple[str, Product, int]] = []
    for query, intent in queries:
        by_level: dict[int, list[Product]] = {0: [], 1: [], 2: []}
        for product in rng.sample(CATALOGUE, len(CATALOGUE)):
            by_level[relevance(intent, product)].append(product)
        for level, products in by_level.items():
            rows += [(query, product, level) for product in products[: per_query // 3]]
    levels = np.array([level for _, _, level in rows], np.int64)
    return JudgedPairs(tuple(query for query, _, _ in rows), tuple(p for _, p, _ in rows), RATINGS[levels], levels)


def demo_judged(queries: int = 24, per_query: int = 9, *, seed: int = 1) -> JudgedPairs:
    """Judged pairs of that many queries."""
    return judge(judged_queries(queries, seed=seed), per_query, seed=seed)


def split_judged(training: int = 18, held_out: int = 6, *, per_query: int = 9) -> tuple[JudgedPairs, JudgedPairs]:
    """Judged pairs to train on, and those of other queries."""
    queries = judged_queries(training + held_out)
    return judge(queries[:training], per_query), judge(queries[training:], per_query)


def with_raters(judged: JudgedPairs, *, seed: int = 1) -> JudgedPairs:
    """The same pairs with three raters, who err now and then or say nothing."""
    rng = np.random.default_rng(seed)
    said = np.repeat(judged.levels[:, None], 3, axis=1)
    said = np.where(rng.random(said.shape) < 0.2, rng.integers(0, 3, said.shape), said)
    said = np.where(rng.random(said.shape) < 0.1, MISSING, said)
    return JudgedPairs(judged.queries, judged.products, judged.ratings, judged.levels, said.astype(np.int64))


def tiny_encoder(folder: Path, *, layers: int = 2, positions: int = 128, seed: int = 5) -> Path:
    """Write a BERT without a head, random weights, and a tokenizer that knows the made-up shop's words.

    Returns:
        The folder.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=1200, special_tokens=list(BERT_TOKENS), show_progress=False)
    asked = [query for query, _ in judged_queries(60)]
    pieces.train_from_iterator([*asked, *map(product_text, CATALOGUE)], trainer)
    names = {f"{token[1:-1].lower()}_token": token for token in BERT_TOKENS}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=positions, **names)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=positions,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_chorus(folder: Path, judged: JudgedPairs, name: str = "judgments.csv") -> tuple[Path, Path]:
    """Write judgements and the whole catalogue as Chorus does.

    Returns:
        The CSV and the catalogue.
    """
    judgments, catalogue = folder / name, folder / "products.jsonl"
    with judgments.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("query", "docid", "rating"))
        writer.writerows(zip(judged.queries, judged.product_ids, judged.ratings.astype(int), strict=True))
    lines = [json.dumps(_chorus_document(product)) + "\n" for product in CATALOGUE]
    catalogue.write_text("".join(lines), encoding="utf-8")
    return judgments, catalogue


def _chorus_document(product: Product) -> dict[str, object]:
    attributes = {f"attr_t_{name}": value for name, value in product.attributes.items()}
    named = {"id": product.product_id, "title": product.title, "supplier": product.brand}
    return named | attributes | {"attr_t_product_type": product.category, "short_description": product.description}
