"""The labeller with an encoder classifier; what it shares with the generative one is in test_label_engine.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import assert_a_request_overtakes, assert_order_is_kept
from models import BERT_TOKENS, byte_level_tokenizer, shop_texts, tiny_classifier
from patience import TIMEOUT

from labelstream.actors import pair_scorer
from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.pair_scorer import PairScorer
from labelstream.actors.vllm_classifier import VllmClassifier
from labelstream.schemas.errors import BadRecord, ModelUnusable, SettingsError
from labelstream.schemas.model_settings import EncoderSettings
from labelstream.schemas.pair_encoder import PairEncoder
from labelstream.schemas.prompt_encoder import EncodedPrompt
from labelstream.schemas.scale import LabelScale, label_distribution
from labelstream.schemas.settings import Settings

pytestmark = [
    pytest.mark.engine,
    # vLLM looks at every name of torch.distributed, some of which torch calls deprecated.
    pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning"),
]

Pairs = tuple[list[str], list[str]]

MAX_TOKENS = 256
QUERIES = ["red sofa", "oak table", "a lamp of glass", "pink velvet chair"]


def settings_of(model: Path, **sections: Any) -> Settings:
    labeller = {"model": str(model), "dtype": "float32", "max_sequences": 16, "max_batched_tokens": 512}
    labeller |= sections.pop("labeller", {})
    return Settings.load(labeller=labeller, **{"prompt": {"max_tokens": MAX_TOKENS}, **sections})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[Settings], LabelEngine]]:
    """Load engines; they are closed together, because vLLM gives up what all engines of a process share."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(closing(LabelEngine(settings)))


@pytest.fixture(scope="module")
def engine(model: Path, load: Callable[[Settings], LabelEngine]) -> LabelEngine:
    return load(settings_of(model))


@pytest.fixture
def pairs() -> Pairs:
    """64 pairs of many lengths, the last of which does not fit."""
    products = [text + "velvet " * (3 * i) for i, text in enumerate(shop_texts()[::10])]
    products[-1] += "oak " * MAX_TOKENS
    return [QUERIES[i * 7 % len(QUERIES)] for i in range(len(products))], products


def logits_one_by_one(model: Path, pairs: Pairs) -> np.ndarray:
    """What transformers says of the same token ids, all of token type 0."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    encoder = PairEncoder(AutoTokenizer.from_pretrained(model), MAX_TOKENS)
    bert = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    rows = []
    for entry in encoder.encode(*pairs):
        assert isinstance(entry, EncodedPrompt)
        ids = torch.tensor([entry.token_ids])
        with torch.no_grad():
            rows.append(bert(ids, token_type_ids=torch.zeros_like(ids)).logits[0].tolist())
    return np.array(rows)


def test_probabilities_are_those_of_transformers_on_the_same_token_ids(engine: LabelEngine, model: Path, pairs: Pairs):
    judgements = engine.judge(*pairs).result(TIMEOUT)
    expected = label_distribution(logits_one_by_one(model, pairs))
    assert judgements.probabilities.dtype == np.float32
    np.testing.assert_allclose(judgements.probabilities, expected, atol=1e-4)
    assert expected.std(axis=0).min() > 0.01, "a model that always says the same would prove nothing"
    assert not judgements.errors
    assert judgements.shortened.tolist() == [False] * 63 + [True]


def test_a_request_overtakes_prompts_that_are_inside_vllm(model: Path):
    with closing(VllmClassifier(settings_of(model, labeller={"max_sequences": 2}), model)) as engine:
        assert_a_request_overtakes(engine)


def test_half_precision_is_close(model: Path, load: Callable[[Settings], LabelEngine], pairs: Pairs):
    halved = load(settings_of(model, labeller={"dtype": "bfloat16"}))
    probabilities = halved.judge(*pairs).result(TIMEOUT).probabilities
    np.testing.assert_allclose(probabilities, label_distribution(logits_one_by_one(model, pairs)), atol=2e-2)


def test_order_is_kept_when_many_batches_are_under_way(engine: LabelEngine, pairs: Pairs):
    assert_order_is_kept(engine, pairs, callers=6, atol=1e-4)


def test_pair_that_cannot_be_judged_is_an_error_at_its_index(engine: LabelEngine):
    judgements = engine.judge(["red sofa", "sofa " * 600], shop_texts()[:2]).result(TIMEOUT)
    assert list(judgements.errors) == [1]
    assert isinstance(judgements.errors[1], BadRecord)
    assert np.isnan(judgements.probabilities[1]).all()


def test_description_says_what_an_answer_depends_on(engine: LabelEngine):
    description = engine.describe()
    assert description.prompt_version == engine._encoder.version
    assert description.prompt_version.endswith(f"-{MAX_TOKENS}")
    assert description.scale_version == LabelScale().version


def test_the_card_calibrates_labeller_and_cross_encoder_which_agree(
    tmp_path: Path,
    engine: LabelEngine,
    load: Callable[[Settings], LabelEngine],
    pairs: Pairs,
    monkeypatch: pytest.MonkeyPatch,
):
    """One and the same tuned model, once with token types 0 (vLLM), once with 0 and 1 (sentence-transformers)."""
    monkeypatch.setattr(pair_scorer, "_dtype", lambda _: "float32")
    card = {"levels": LabelScale().levels, "temperature": 2.0, "prompt_version": engine.describe().prompt_version}
    (tiny_classifier(tmp_path) / "labelstream.json").write_text(json.dumps(card))
    queries, products = pairs
    products = [f"{product}{token} \x00oak" for product, token in zip(products, BERT_TOKENS * 13, strict=False)]
    judged = load(settings_of(tmp_path)).judge(queries, products).result(TIMEOUT)
    sharp = engine.judge(queries, products).result(TIMEOUT)
    scorer = PairScorer(EncoderSettings(model=str(tmp_path), max_tokens=MAX_TOKENS), LabelScale())
    expected = label_distribution(np.log(sharp.probabilities), 2.0)
    np.testing.assert_allclose(judged.probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(scorer.probabilities(queries, products), expected, atol=1e-4)
    np.testing.assert_allclose(scorer.score(queries, products), expected @ LabelScale().values, atol=1e-4)


class TestRefusals:
    """Each is found before vLLM loads anything."""

    def refused(self, model: Path, match: str, error: type[Exception] = ModelUnusable, **sections: Any) -> None:
        with pytest.raises(error, match=match):
            LabelEngine(settings_of(model, **sections))

    @pytest.mark.parametrize("labels", [1, 2, 5])
    def test_another_number_of_outputs(self, tmp_path: Path, labels: int):
        self.refused(tiny_classifier(tmp_path, labels=labels), f"{labels} outputs.*LABELSTREAM_SCALE_LEVELS names 3")

    def test_too_few_positions(self, model: Path):
        self.refused(model, "LABELSTREAM_PROMPT_MAX_TOKENS to 512", prompt={"max_tokens": 513})

    def test_too_few_positions_of_a_roberta(self, tmp_path: Path):
        config = tiny_classifier(tmp_path) / "config.json"
        changes = {"architectures": ["RobertaForSequenceClassification"], "pad_token_id": 1}
        config.write_text(json.dumps(json.loads(config.read_text()) | changes))
        self.refused(tmp_path, "LABELSTREAM_PROMPT_MAX_TOKENS to 510", prompt={"max_tokens": 511})

    def test_tuned_on_another_scale(self, tmp_path: Path):
        (tiny_classifier(tmp_path) / "labelstream.json").write_text('{"levels": ["bad", "fair", "good"]}')
        self.refused(tmp_path, "LABELSTREAM_SCALE_LEVELS")

    def test_tuned_on_another_format(self, tmp_path: Path):
        (tiny_classifier(tmp_path) / "labelstream.json").write_text('{"prompt_version": "0123456789ab-256"}')
        self.refused(tmp_path, "tuned on prompt 0123456789ab-256")

    def test_no_separator(self, tmp_path: Path):
        byte_level_tokenizer(400, shop_texts()).save_pretrained(tiny_classifier(tmp_path))
        self.refused(tmp_path, "cls_token")

    def test_adapter(self, model: Path, tmp_path: Path):
        (tmp_path / "adapter_model.safetensors").touch()
        self.refused(model, "LABELSTREAM_LABELLER_ADAPTER", labeller={"adapter": f"shop={tmp_path}"})

    def test_chat_template(self, model: Path):
        self.refused(
            model,
            "LABELSTREAM_PROMPT_CHAT_TEMPLATE",
            SettingsError,
            prompt={"max_tokens": MAX_TOKENS, "chat_template": True},
        )
