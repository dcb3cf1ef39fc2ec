"""Processes forked from one that has imported torch and started no thread: a start of Python takes seconds for that.

It is the standard library's fork server, which starts once in a process of tests and computes nothing itself. The
product has such children too (`sweeps.operations.timed_models`): whoever comes first says what it imports.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(Path(__file__).parents[2])}
"""Of processes that compute with one thread and can import the tests."""
_IMPORTED = ["tailor.execution.runner", "torch._dynamo", "torchvision", "tests.tailor.added_constants"]


def forked(work: Callable[..., None], *given: Any) -> ForkServerProcess:
    """A process that does the work: a function of a module, with what it is called with."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    process = context.Process(target=work, args=given, daemon=True)
    process.start()
    return process


def end_of(work: Callable[..., None], *given: Any) -> int | None:
    """How a process ends that does the work: 0, 1 where it raised, or the signal's negative number."""
    process = forked(work, *given)
    process.join()
    return process.exitcode
