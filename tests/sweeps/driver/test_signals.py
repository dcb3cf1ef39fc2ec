"""A signal that comes while C code of a library runs, which cannot pass an exception on, still stops the sweep."""

import ctypes
import signal
import sys
from typing import Any

import pytest

from sweeps.driver.signals import Interrupted, StopSignals
from transtailor.waiting import wait_for

LIMIT_S = 60.0


def test_a_signal_inside_of_a_callback_from_c_ends_a_wait_and_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # in the place of pytest's
    askers: list[str] = []
    callback: Any = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))
    with StopSignals(None, askers.append) as stop:
        with pytest.raises(Interrupted, match="SIGTERM"), stop.interruptible():
            callback()  # ctypes prints what is raised in it, and goes on
            wait_for(lambda: None, "the signal", LIMIT_S)
        assert stop.received == "SIGTERM"
    assert askers == ["SIGTERM"]
    assert capfd.readouterr().err == ""
    assert sys.unraisablehook is sys.__unraisablehook__
