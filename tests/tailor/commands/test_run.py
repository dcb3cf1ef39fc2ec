"""`trial run` alone: how many threads it computes with, and what it shows of the running stage."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tailor import trial_run
from tailor.common import heartbeat
from tests.commands import Said
from transtailor.waiting import wait_for

Command = Callable[..., Said]
TRIAL = """
network = "friedman_mlp"
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 2, head_epochs = 1 }
method.name = "fine_tune"
"""
LIMIT_S = 300.0


def computed_by(cache: Path) -> dict[str, int]:
    """The threads that each stage was computed with, by its key."""
    stages = [json.loads(path.read_bytes().splitlines()[0]) for path in cache.rglob("*.stage")]
    return {stage["key"]: stage["description"]["made_by"]["threads"] for stage in stages}


def test_one_thread_unless_another_number_is_typed_and_it_is_recorded(tmp_path: Path, command: Command) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    torch.set_num_threads(3)  # as on a machine with three cores
    one = command("trial", "run", "trial.toml", "--cache", "one", "--device", "cpu", folder=tmp_path)
    assert one.returncode == 0, one.stderr
    two = command("trial", "run", "trial.toml", "--cache", "two", "--device", "cpu", "--threads", "2", folder=tmp_path)
    assert two.returncode == 0, two.stderr
    by_one, by_two = computed_by(tmp_path / "one"), computed_by(tmp_path / "two")
    assert set(by_one.values()) == {1}
    assert set(by_two.values()) == {2}
    assert by_one.keys() == by_two.keys()  # it is no part of what is computed


def test_no_thread_is_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    refused = command("trial", "run", "trial.toml", "--threads", "0", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'--threads': 0 is not in the range x>=1" in refused.stderr
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "trial.toml").write_text(TRIAL)
    (tmp_path / "cache").write_text("")
    refused = command("trial", "run", "trial.toml", "--cache", "cache", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: --cache cache: ") and "Not a directory" in refused.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_how_far_the_running_stage_is_shows(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(trial_run, "LINE_PERIOD_S", 0.01)
    monkeypatch.setattr(trial_run, "LIVE_PERIOD_S", 0.01)
    heartbeat.report_progress_by(lambda: (0.5, "epoch 7 of 25, loss 0.4121"))
    shown = out if out.isatty() else err
    try:
        with trial_run._progress_shown(["train_source", "fine_tune"]) as passed:
            wait_for(lambda: "train_source 1/2  epoch 7 of 25, loss 0.4121" in shown.getvalue(), "a word", LIMIT_S)
            passed.append("key")
            wait_for(lambda: "fine_tune 2/2  epoch 7 of 25, loss 0.4121" in shown.getvalue(), "the next", LIMIT_S)
    finally:
        heartbeat.report_progress_by(heartbeat.unknown_progress)
    assert out.isatty() or out.getvalue() == ""  # a pipe gets the result alone
