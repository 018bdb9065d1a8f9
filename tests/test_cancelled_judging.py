"""A call that nobody waits for any more costs the engine nothing, not even while its tokens are being made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest
from engines import EchoEngine
from patience import TIMEOUT

from labelstream.actors import labeller as module
from labelstream.actors.engine_thread import EngineThread
from labelstream.actors.label_engine import LabelEngine
from labelstream.actors.labeller import Labeller
from labelstream.schemas.prompt_encoder import EncodedPrompt
from labelstream.schemas.scale import LabelScale
from labelstream.schemas.settings import Settings

UNWANTED, WANTED = 1, 2


class GatedEncoder:
    """Makes one token of a query that is a number; of an unwanted one only when its gate opens."""

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()

    def encode(self, queries: Sequence[str], products: Sequence[str]) -> list[EncodedPrompt]:
        if str(UNWANTED) in queries:
            self.begun.set()
            assert self.gate.wait(TIMEOUT)
        return [
            EncodedPrompt([int(query) if query.isdigit() else 0, 0], False)
            for query, _ in zip(queries, products, strict=True)
        ]


class EchoingLabelEngine(LabelEngine):
    """The real path of a batch, between an encoder and an engine that are none."""

    encoder, engine = GatedEncoder(), EchoEngine()

    def __init__(self, settings: Settings, *, on_failure: Callable[[Exception], None] | None = None) -> None:
        del settings
        type(self).encoder, type(self).engine = GatedEncoder(), EchoEngine()
        self._scale, self._temperature = LabelScale(levels=("bad", "good")), 1.0
        self._encoder = self.encoder
        self._thread = EngineThread(lambda: self.engine, levels=2, limit=4, on_failure=on_failure)


async def cancelled_while_its_tokens_are_made(labeller: Labeller, encoder: GatedEncoder) -> None:
    call = asyncio.create_task(labeller.judge([str(UNWANTED)] * 3, ["sofa"] * 3))
    assert await asyncio.to_thread(encoder.begun.wait, TIMEOUT)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    encoder.gate.set()


def test_a_call_cancelled_while_its_tokens_are_made_never_reaches_the_engine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LabelEngine", EchoingLabelEngine)
    labeller = Labeller(Settings())
    asyncio.run(cancelled_while_its_tokens_are_made(labeller, EchoingLabelEngine.encoder))  # joins its threads
    asyncio.run(labeller.judge([str(WANTED)], ["sofa"]))
    labeller._engine.close()
    asked = [token for _, token, _ in EchoingLabelEngine.engine.seen[module.WARM_UP_PAIRS :]]
    assert asked == [WANTED]
