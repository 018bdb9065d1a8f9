"""The judge: pairs in, calibrated label distributions out. No Ray in here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from labelstream.actors.engine_thread import EngineThread
from labelstream.actors.judge_kind import MODEL, judge_kind
from labelstream.actors.priorities import STREAM_PRIORITY
from labelstream.actors.vllm_engine import adapter_of, engine_environment, require_vllm
from labelstream.schemas.errors import BadRecord
from labelstream.schemas.judgements import JudgeDescription, Judgements
from labelstream.schemas.model_card import read_card
from labelstream.schemas.model_folder import fingerprint, model_folder
from labelstream.schemas.model_settings import LabellerSettings
from labelstream.schemas.prompt_encoder import EncodedPrompt
from labelstream.schemas.scale import Floats, LabelScale, label_distribution
from labelstream.schemas.settings import Settings

# Enough prompts inside the engine that a step is always full, few enough that an urgent one is soon inside.
_FILLS = 2


# A GPU works on so many prompts of usual length in the time that one takes; a processor on hardly more than one.
_PATIENT_ON_GPU, _PATIENT_ON_CPU = 16, 2


class LabelEngine:
    """A labeller model, loaded and answering.

    The architecture that ``config.json`` names says which kind of judge it is: a causal LM, which is asked for the
    token of a level, or an encoder with a classification head, which has one output a level.

    Args:
        settings: Where ``labeller``, ``prompt`` and ``scale`` matter.
        on_failure: Called once when the engine has died, after all who wait have been told.

    Raises:
        MissingDependency: vLLM is not installed.
        ModelUnusable: No such model, neither a causal LM nor a classifier, no token for a label, another number
            of outputs than of levels, tuned on another scale or prompt.
        SettingsError: A chat template that there is not.
    """

    def __init__(self, settings: Settings, *, on_failure: Callable[[Exception], None] | None = None) -> None:
        require_vllm(settings.labeller)
        os.environ.update(engine_environment(settings.labeller))  # before anything imports torch
        folder = model_folder(settings.labeller.model, setting=MODEL)
        adapter = adapter_of(settings.labeller)
        folders = [folder, adapter[1]] if adapter else [folder]
        card = read_card(*reversed(folders))  # an adapter is tuned after its model
        kind = judge_kind(settings, folder, card)

        self._scale, self._temperature, self._encoder = settings.scale, card.temperature, kind.encoder
        self._description = JudgeDescription(
            fingerprint(folders), kind.prompt_version, settings.scale.version, card.temperature
        )
        self._thread = EngineThread(
            kind.load,
            levels=len(settings.scale.levels),
            limit=_FILLS * settings.labeller.max_sequences,
            patient_limit=_patient_sequences(settings.labeller),
            patient_tokens=_FILLS * settings.labeller.max_batched_tokens,
            on_failure=on_failure,
        )

    @property
    def healthy(self) -> bool:
        """Whether the engine answers."""
        return self._thread.healthy

    @property
    def step_s(self) -> float:
        """Seconds that the step under way has taken so far; 0 between steps."""
        return self._thread.step_s

    def describe(self) -> JudgeDescription:
        """Which judge this is."""
        return self._description

    def judge(
        self, queries: Sequence[str], products: Sequence[str], priority: int = STREAM_PRIORITY
    ) -> Future[Judgements]:
        """Judge a batch of pairs; any thread may call, and many batches may be under way.

        Args:
            queries: Shape (pairs,).
            products: Rendered product texts (``product_text``); shape (pairs,).
            priority: Lower goes first.

        Returns:
            The judgements, or ``ModelUnavailable`` when the engine has died. Cancelling it saves work.

        Raises:
            ValueError: Different numbers of queries and products.
        """
        return self.submit(self.encode(queries, products), priority)

    def encode(self, queries: Sequence[str], products: Sequence[str]) -> EncodedPairs:
        """The first half of ``judge``, which takes a while: make tokens. Any thread may call.

        Raises:
            ValueError: Different numbers of queries and products.
        """
        if len(queries) != len(products):
            raise ValueError(f"{len(queries)} queries but {len(products)} products")
        return EncodedPairs(queries, self._encoder.encode(queries, products), self._scale, self._temperature)

    def submit(self, pairs: EncodedPairs, priority: int = STREAM_PRIORITY) -> Future[Judgements]:
        """The second half of ``judge``, which takes no time: hand the tokens to the engine. Any thread may call."""
        return self._thread.submit(pairs.prompts, pairs.judgements, priority=priority)

    def close(self) -> None:
        """Free the model; batches under way fail with ``ModelUnavailable``."""
        self._thread.close()


class EncodedPairs:
    """One batch on its way: in the order of the pairs outside, in the order of the queries inside."""

    def __init__(
        self,
        queries: Sequence[str],
        encoded: Sequence[EncodedPrompt | BadRecord],
        scale: LabelScale,
        temperature: float,
    ) -> None:
        self._pairs, self._levels, self._temperature = len(encoded), len(scale.levels), temperature
        self._errors = {i: entry for i, entry in enumerate(encoded) if isinstance(entry, BadRecord)}
        good = [(queries[i], i, entry) for i, entry in enumerate(encoded) if isinstance(entry, EncodedPrompt)]
        good.sort(key=lambda row: row[:2])  # one query after the other, for the prefix cache
        self._order = np.array([i for _, i, _ in good], dtype=np.intp)
        self._shortened = np.array([entry.shortened for _, _, entry in good], dtype=np.bool_)
        self.prompts = [entry.token_ids for _, _, entry in good]

    def judgements(self, log_probabilities: Floats) -> Judgements:
        """Back to the order of the pairs; ``log_probabilities`` has shape (prompts, levels)."""
        probabilities = np.full((self._pairs, self._levels), np.nan, dtype=np.float32)
        shortened = np.zeros(self._pairs, dtype=np.bool_)
        shortened[self._order] = self._shortened
        usable = np.isfinite(log_probabilities).any(axis=1) & ~np.isnan(log_probabilities).any(axis=1)
        probabilities[self._order[usable]] = label_distribution(log_probabilities[usable], self._temperature)
        errors = self._errors | {int(i): _not_a_number() for i in self._order[~usable]}
        return Judgements(probabilities, shortened, errors)


def _patient_sequences(settings: LabellerSettings) -> int:
    return settings.patient_sequences or (_PATIENT_ON_GPU if settings.gpus else _PATIENT_ON_CPU)


def _not_a_number() -> BadRecord:
    return BadRecord("the model's answer is not a number; set LABELSTREAM_LABELLER_DTYPE=float32, or use another model")
