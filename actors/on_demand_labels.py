"""Labels for somebody who waits: those that are known, and those that are made now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from labelstream.actors.answers import Answers
from labelstream.actors.asked_pairs import Pair, in_callers_words, resolve
from labelstream.actors.endpoint.services import AskedPair, Labelled, Request
from labelstream.actors.on_demand_pool import Pool, PoolDescription
from labelstream.actors.on_demand_scores import cross_encoder_scores
from labelstream.actors.priorities import REQUEST_PRIORITY
from labelstream.schemas.errors import BadRecord, LabelstreamError
from labelstream.schemas.judgements import Judgements
from labelstream.schemas.label import LabelRecord
from labelstream.schemas.settings import Settings
from labelstream.streaming.known_label import KnownLabel
from labelstream.streaming.label_rows import JudgedPair, LabelRows, score_of
from labelstream.streaming.local_store import LocalStore, StoreReader
from labelstream.streaming.records import Known

Keep = Callable[[list[dict[str, Any]]], Awaitable[None]]
_Labels = dict[str, KnownLabel]

_KEEP_S = 2.0

_log = logging.getLogger(__name__)


class OnDemandLabels:
    """Judges each pair once, whoever asks.

    Args:
        settings: All settings.
        description: Which models answer.
        pool: The models themselves.
        store: This machine's store, for the catalogue and for labels that were made before.
        answers: Remembers what is made now.
        keep: Takes rows of ``labels`` that shall go to the lake; None keeps nothing.
    """

    def __init__(
        self,
        settings: Settings,
        description: PoolDescription,
        pool: Pool,
        store: LocalStore,
        answers: Answers,
        *,
        keep: Keep | None,
    ) -> None:
        self._description, self._pool, self._store, self._answers = description, pool, store, answers
        self._keep = keep
        self._levels = len(settings.scale.levels)
        self._rows = LabelRows(settings, description.judge)

    async def label(
        self, asked: Sequence[AskedPair], request: Request, *, cross_encoder: bool
    ) -> list[Labelled | BadRecord]:
        """See ``Services.label``."""
        recent = self._answers.recent
        with self._store.reader() as reader:
            pairs = [resolve(pair, Known(reader, ()).product, self._description.judge.version) for pair in asked]
            distinct = _distinct(pairs)
            known = {key: label for key in distinct if (label := recent.get(key) or reader.label(key)) is not None}
            unkept = self._unkept(distinct.values(), reader)
        fresh, errors = await self._judge([distinct[key] for key in distinct if key not in known], request)
        labels = known | fresh
        if cross_encoder:
            labels = await self._score(distinct, labels, request.deadline)
        else:
            labels = labels | await self._score_to_keep(distinct, labels, unkept & labels.keys(), request)
        rows = self._records([distinct[key] for key in labels], labels)
        # What the lake has is never completed, so the score must be with it.
        whole = {key for key, row in rows.items() if self._is_scored(row["cross_encoder_version"])}
        await self._hand_over([rows[key] | {"request_id": request.id} for key in rows if key in unkept & whole])
        for key in fresh:
            rows[key]["request_id"] = request.id
        return [_answer(pair, rows, errors, known) for pair in pairs]

    def _unkept(self, pairs: Iterable[Pair], reader: StoreReader) -> set[str]:
        """Keys of labels that the lake shall have and has not, as far as this machine knows.

        Not only those that are made now: whoever made one may have ended before the lake had it.
        """
        if self._keep is None:
            return set()
        return {pair.key for pair in pairs if pair.in_catalogue and not reader.has_label(pair.key)}

    async def _hand_over(self, rows: list[dict[str, Any]]) -> None:
        """Have rows kept, if that can be done at once: nobody should miss an answer for what it leaves behind."""
        if self._keep is None or not rows:
            return
        try:
            async with asyncio.timeout(_KEEP_S):
                await self._keep(rows)
        except Exception as error:  # whatever it is, the answer is there
            _kept_later(len(rows), error)

    async def _judge(self, pairs: Sequence[Pair], request: Request) -> tuple[_Labels, dict[str, BadRecord]]:
        if not pairs:
            return {}, {}
        arguments = [pair.query for pair in pairs], [pair.product.text for pair in pairs], REQUEST_PRIORITY
        judgements: Judgements = await self._pool.labellers.call("judge", *arguments, deadline=request.deadline)
        now = datetime.now(UTC)
        labels = {
            pair.key: KnownLabel(
                pair.key, tuple(judgements.probabilities[row].tolist()), bool(judgements.shortened[row]), now
            )
            for row, pair in enumerate(pairs)
            if row not in judgements.errors
        }
        self._answers.put(labels.values())  # before anything else can fail
        return labels, {pairs[row].key: in_callers_words(error) for row, error in judgements.errors.items()}

    async def _score_to_keep(
        self, pairs: Mapping[str, Pair], labels: _Labels, keys: Iterable[str], request: Request
    ) -> _Labels:
        """Scores that nobody asked for, but the lake shall have: as far as that can be done without harm to the answer.

        Whether there is a cross-encoder is found out soon, even one that is busy; what it does may then take half of
        the time that is left.
        """
        wanted = {key: labels[key] for key in keys if not self._is_scored(labels[key].cross_encoder_version)}
        if not wanted:
            return {}
        now = time.monotonic()
        try:
            await self._pool.cross_encoders.call("ping", deadline=min(now + _KEEP_S, request.deadline))
            return await self._score(pairs, wanted, (now + request.deadline) / 2)
        except Exception as error:  # a fault of a model that nobody asked for is nobody's but the log's
            _kept_later(len(wanted), error)
            return {}

    def _is_scored(self, version: str | None) -> bool:
        """Whether that is the version of the cross-encoder that there is, if there is one."""
        return not self._pool.cross_encoders.count or version == self._description.cross_encoder_version

    async def _score(self, pairs: Mapping[str, Pair], labels: _Labels, deadline: float) -> _Labels:
        """The labels with the cross-encoder's score, where they do not have it yet."""
        version = self._description.cross_encoder_version
        missing = [key for key, label in labels.items() if not self._is_scored(label.cross_encoder_version)]
        if not missing:
            return labels
        queries, texts = [pairs[key].query for key in missing], [pairs[key].product.text for key in missing]
        scores = await cross_encoder_scores(self._pool.cross_encoders, queries, texts, deadline)
        scored = {
            key: labels[key]._replace(cross_encoder_score=score_of(score), cross_encoder_version=version)
            for key, score in zip(missing, scores, strict=True)
        }
        self._answers.put(scored.values())
        return labels | scored

    def _records(self, pairs: Sequence[Pair], labels: Mapping[str, KnownLabel]) -> dict[str, dict[str, Any]]:
        """Rows of ``labels``, by key."""
        known = [labels[pair.key] for pair in pairs]
        judgements = Judgements(
            np.array([label.probabilities for label in known], np.float32).reshape(len(known), self._levels),
            np.array([label.shortened for label in known], np.bool_),
        )
        judged = [JudgedPair(pair.key, pair.query, pair.product.product_id, pair.product.hash) for pair in pairs]
        rows = self._rows.rows(judged, judgements, cross_encoder_scores=None, cross_encoder_version=None)
        for row, label in zip(rows, known, strict=True):
            row["judged_at"] = label.judged_at
            row["cross_encoder_score"] = label.cross_encoder_score
            row["cross_encoder_version"] = label.cross_encoder_version
        return {row["label_key"]: row for row in rows}


def _kept_later(labels: int, error: Exception) -> None:
    known = isinstance(error, (LabelstreamError, TimeoutError))
    why = str(error) or "it takes too long" if known else type(error).__name__
    message = "%d labels are kept only when somebody asks for them again: %s"
    _log.warning(message, labels, why, exc_info=None if known else error)


def _distinct(pairs: Sequence[Pair | BadRecord]) -> dict[str, Pair]:
    """One pair for each label; of products that read the same, one of the catalogue."""
    good = [pair for pair in pairs if isinstance(pair, Pair)]
    return {pair.key: pair for pair in sorted(good, key=lambda pair: pair.in_catalogue)}


def _answer(
    pair: Pair | BadRecord,
    rows: Mapping[str, dict[str, Any]],
    errors: Mapping[str, BadRecord],
    known: Mapping[str, KnownLabel],
) -> Labelled | BadRecord:
    if isinstance(pair, BadRecord):
        return pair
    if pair.key in errors:
        return errors[pair.key]
    row = rows[pair.key]
    record = LabelRecord.model_construct(
        **(row | {"probabilities": tuple(row["probabilities"]), "product_id": pair.product.product_id})
    )
    return Labelled(record, cached=pair.key in known)
