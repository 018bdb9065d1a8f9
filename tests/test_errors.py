from __future__ import annotations

import pickle

import pytest

from labelstream.schemas import errors
from labelstream.schemas.errors import BadRecord, LabelstreamError, MissingDependency, TerminalError, TransientError

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LabelstreamError)]
EXAMPLES = [
    MissingDependency("vllm", "cpu")
    if kind is MissingDependency
    else BadRecord("title: empty", field="title")
    if kind is BadRecord
    else kind("what is wrong")
    for kind in CLASSES
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_border_whole(error: Exception):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_tree_names_every_class(kind: type[Exception]):
    assert f" {kind.__name__} " in f"{errors.__doc__}".replace("\n", " ")


@pytest.mark.parametrize("kind", CLASSES[1:], ids=lambda kind: kind.__name__)
def test_every_error_is_either_transient_or_terminal(kind: type[Exception]):
    assert issubclass(kind, TransientError) != issubclass(kind, TerminalError)


def test_a_missing_dependency_says_what_to_type():
    assert "pip install 'labelstream[gpu]'" in str(MissingDependency("vllm", "gpu"))
