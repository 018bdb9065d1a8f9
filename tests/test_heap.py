from __future__ import annotations

import ctypes

import pytest

from labelstream.actors.heap import HeapTrimmer

needs_glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")


@needs_glibc
def test_the_heap_is_trimmed_once_in_a_while():
    now = [0.0]
    trim = HeapTrimmer(10.0, lambda: now[0])
    done = []
    for now[0] in (1.0, 9.9, 10.0, 11.0, 25.0):
        done.append(trim())
    assert done == [False, False, True, False, True]


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert HeapTrimmer(0.0)() is False
