"""Two ranks, real DistributedDataParallel over gloo, and trials on them beside the same trials in this process.

A start of `torchrun` takes longer than most trials here, so ranks are forked and get what `torchrun` sets;
`execution/test_two_ranks.py` has both.
"""

import contextlib
import os
import random
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import join, leave
from tests.tailor.forking import ENVIRONMENT, forked


def copy_stage(key: str, source: Cache, target: Cache) -> None:
    """Puts a finished stage into another cache."""
    target.path(key).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.path(key), target.path(key))


def on_two_ranks(work: Callable[..., None], *given: Any, folder: Path) -> list[str]:
    """What each of two ranks of one thread printed while it did the work, which joins the group and leaves it.

    Args:
        work: a function of a module.
        given: what it is called with.
        folder: where the ranks' outputs go.
    """
    said = [folder / f"rank {rank}.txt" for rank in (0, 1)]
    port = _free_port()
    ranks = [forked(_as_rank, rank, port, said[rank], work, given) for rank in (0, 1)]
    try:
        left = list(ranks)
        while left and not any(rank.exitcode for rank in ranks):  # the other one would wait for a rank that failed
            wait([rank.sentinel for rank in left])
            left = [rank for rank in left if rank.exitcode is None]
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    outputs = [path.read_text() for path in said]
    assert [rank.exitcode for rank in ranks] == [0, 0], "\n".join(outputs)
    return outputs


def _free_port() -> int:
    """None that the system gives to whoever asks for any port: such a one may be gone before a rank listens on it."""
    while True:
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
            return port


def _as_rank(rank: int, port: int, said: Path, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    """Does the work with the variables of a rank; where it fails the process ends with 1."""
    with said.open("w", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = output
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(ENVIRONMENT | address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        torch.set_num_threads(1)
        try:
            work(*given)
            leave_no_thread()
        except BaseException:
            traceback.print_exc()
            raise


def leave_no_thread(limit_s: float = 300.0) -> None:
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


def run_trials(cache: Path, texts: list[str]) -> None:
    """Runs trials one after the other, in a rank."""
    ranks = join("cpu")
    assert ranks.world_size == 2
    for text in texts:
        for _ in run_trial(TrialConfig.model_validate_json(text), cache=Cache(cache), ranks=ranks):
            pass
    leave()


def on_one_and_two_ranks(configs: list[TrialConfig], folder: Path) -> list[tuple[list[StageEvent], list[StageEvent]]]:
    """The events of each trial on one rank and on two; both start from the same source network."""
    one, two = Cache(folder / "one"), Cache(folder / "two")
    alone = [list(run_trial(config, cache=one, ranks=join("cpu"))) for config in configs]
    for key in {events[0].result.key for events in alone}:
        copy_stage(key, one, two)
    on_two_ranks(run_trials, folder / "two", [config.model_dump_json() for config in configs], folder=folder)
    together = [list(run_trial(config, cache=two, ranks=join("cpu"))) for config in configs]
    assert all(event.result.cached for events in together for event in events)
    return list(zip(alone, together, strict=True))


def assert_same(alone: list[StageEvent], together: list[StageEvent], trial: str = "") -> None:
    """Equal stages, equal up to the order in which ranks add up float32 numbers.

    Some 1e-7 of a sum, up to 1e-4 of it after a few steps of training; a mistake (a sample twice, a mean of means, a
    norm over one rank's share, a gradient of one rank) is 1e-2 and more.
    """
    assert [event.result.key for event in alone] == [event.result.key for event in together]
    for one, two in zip(alone, together, strict=True):
        stage = f"{trial} {one.result.stage.kind}"
        computed_by = two.result.description.made_by.ranks
        assert computed_by == (1 if one.result.stage.of is None else 2), stage
        for left, right in zip(one.result.info.get("epochs", []), two.result.info.get("epochs", []), strict=True):
            assert right["images"] == left["images"], stage  # each sample counted once
            assert abs(right["train_loss"] - left["train_loss"]) < 1e-3 * abs(left["train_loss"]), stage
        for name, value in one.result.info.items():  # an operating point's scores on the validation split
            if name.startswith("validation_") and value is not None:  # None: five classes have no top-5
                assert two.result.info[name] == pytest.approx(value, rel=2e-3, abs=2e-4), f"{stage} {name}"
        others = two.result.read_tensors()
        for name, tensor in one.result.read_tensors().items():
            where = f"{stage} {name}"
            if tensor.is_floating_point():
                torch.testing.assert_close(
                    others[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda m, w=where: f"{w}: {m}"
                )
            else:
                assert torch.equal(others[name], tensor), where  # the same filters go, the same predictions come
