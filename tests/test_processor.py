from __future__ import annotations

import pytest
import torch

from labelstream.actors.threads import compute_threads, processor_dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx2": True, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_bfloat16_is_for_processors_that_multiply_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: str
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert processor_dtype() == dtype


def test_threads_are_those_asked_for_else_all():
    assert compute_threads(3) == 3
    assert compute_threads(0) >= 1
