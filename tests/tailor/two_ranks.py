"""Trials on two ranks, real DistributedDataParallel over gloo, beside the same trials in this process."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import join

PROGRAM = """
import sys
from pathlib import Path
import torch
from tailor.execution.cache import Cache
from tailor.config.trial import TrialConfig
from tailor.parallel.process_group import join, leave
from tailor.execution.runner import run_trial
from tests.tailor.two_ranks import leave_no_thread

torch.set_num_threads(1)
ranks = join("cpu")
assert ranks.count == 2
for text in sys.argv[2:]:
    for _ in run_trial(TrialConfig.model_validate_json(text), cache=Cache(Path(sys.argv[1])), ranks=ranks):
        pass
leave()
leave_no_thread()
"""


def leave_no_thread(limit_s: float = 20.0) -> None:
    """Raise AssertionError unless gloo's threads in this process end: one that is left may abort it at its end."""
    end_s = time.monotonic() + limit_s
    while left := _threads_of_the_group():  # one that was joined is listed for a moment more
        assert time.monotonic() < end_s, left
        time.sleep(0.01)


def _threads_of_the_group() -> list[str]:
    names = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            names.append((thread / "comm").read_text().strip())
    return [name for name in names if "gloo" in name]


def on_two_ranks(*words: str) -> "subprocess.CompletedProcess[str]":
    """What `torchrun` made of these words on two ranks of one thread each, which can import the tests."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    here = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": here}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def on_one_and_two_ranks(configs: list[TrialConfig], folder: Path) -> list[tuple[list[StageEvent], list[StageEvent]]]:
    """The events of each trial on one rank and on two; both start from the same source network."""
    one, two, program = Cache(folder / "one"), Cache(folder / "two"), folder / "program.py"
    alone = [list(run_trial(config, cache=one, ranks=join("cpu"))) for config in configs]
    for key in {events[0].result.key for events in alone}:
        shutil.copytree(one.path(key), two.path(key))
    program.write_text(PROGRAM)
    finished = on_two_ranks(str(program), str(folder / "two"), *(config.model_dump_json() for config in configs))
    assert finished.returncode == 0, finished.stderr
    together = [list(run_trial(config, cache=two, ranks=join("cpu"))) for config in configs]
    assert all(event.result.cached for events in together for event in events)
    return list(zip(alone, together, strict=True))


def assert_same(alone: list[StageEvent], together: list[StageEvent]) -> None:
    """Equal stages, equal up to the order in which ranks add up float32 numbers.

    Some 1e-7 of a sum, up to 1e-4 of it after a few steps of training; a mistake (a sample twice, a mean of means, a
    gradient of one rank) is 1e-2 and more.
    """
    assert [event.result.key for event in alone] == [event.result.key for event in together]
    for one, two in zip(alone, together, strict=True):
        computed_by = two.result.description["made_by"]["ranks"]
        assert computed_by == (1 if one.result.stage.of is None else 2)
        others = two.result.read_tensors()
        for name, tensor in one.result.read_tensors().items():
            where = f"{one.result.stage.kind} {name}"
            if tensor.is_floating_point():
                torch.testing.assert_close(
                    others[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda m, w=where: f"{w}: {m}"
                )
            else:
                assert torch.equal(others[name], tensor), where
