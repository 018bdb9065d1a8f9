from __future__ import annotations

import threading

from labelstream.streaming.wake_up import WakeUp

FOR_EVER = 3600


def test_a_call_before_the_wait_ends_it_and_is_used_up():
    wake_up = WakeUp()
    wake_up()
    assert wake_up.wait(FOR_EVER)
    assert not wake_up.wait(0)


def test_another_thread_ends_the_wait():
    wake_up = WakeUp()
    threading.Timer(0.05, wake_up).start()
    assert wake_up.wait(FOR_EVER)
