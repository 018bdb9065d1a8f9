"""Every part that there is has to answer."""

from __future__ import annotations

import dataclasses

import pytest

from labelstream.actors.application import Progress
from labelstream.actors.busy_meter import WorkReport
from labelstream.actors.readiness import models_answer, pool_names, stream_answers
from labelstream.actors.writer import LakeStatus
from labelstream.schemas.settings import Settings
from labelstream.streaming.ingest import IngestReport

SETTINGS = Settings.load(stream={"replicas": 2}, encoder={"replicas": 2})
WELL = Progress(LakeStatus(1, {}, {}), [IngestReport(0), IngestReport(1)])


def test_a_stream_answers_when_its_writer_and_every_ingest_do():
    assert stream_answers(SETTINGS, WELL)


@pytest.mark.parametrize(
    "progress",
    [None, Progress(), dataclasses.replace(WELL, lake=None), dataclasses.replace(WELL, reports=WELL.reports[:1])],
)
def test_a_stream_that_does_not(progress: Progress | None):
    assert not stream_answers(SETTINGS, progress)


def test_models_answer_when_each_has_reported_and_none_hangs():
    well, hanging = WorkReport(1, 2, 0, 0.5), WorkReport(1, 2, 0, 0.5, answers=False)
    assert models_answer(["a", "b"], {"a": well, "b": well, "c": hanging})
    assert not models_answer(["a", "b"], {"a": well})
    assert not models_answer(["a", "b"], {"a": well, "b": hanging})


def test_the_models_are_those_that_take_work():
    both = ["cross-encoder-0", "cross-encoder-1"]
    assert pool_names(SETTINGS, [0, 2]) == ["labeller-0", "labeller-2", *both]


def test_a_cross_encoder_that_is_switched_off_is_not_asked_for():
    assert pool_names(Settings.load(encoder={"enabled": False}), [0]) == ["labeller-0"]
