"""A rank's answers: one for each stage whose length is not known or is long, one for several short ones together."""

import mmap
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.run.run_folder import RunFolder
from sweeps.spec.json_settings import JsonSettings
from sweeps.worker import trial
from sweeps.worker.messages import TrialReport, TrialTask
from sweeps.worker.trial import TrialRank
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import dry_run

KINDS = ["train_source", "fit_head", "operating_point"]
NEVER_SHORT, ALWAYS_SHORT = 0.0, 1e9


def task_of(folder: Path, seed: int) -> TrialTask:
    """A trial of one epoch each; all share the source training."""
    settings = {
        "source": {"epochs": 1}, "optimisation": {"epochs": 1, "head_epochs": 1}, "data": {"train_images": 64},
        "method": {"name": "head_only"}, "seed": seed,
    }  # fmt: skip
    run = RunFolder(folder / "run")
    return TrialTask(
        trial_id=f"trial{seed}", settings=JsonSettings(parse_trial(settings, "test").model_dump(mode="json")),
        run=run.path, run_id="r", cache=folder / "cache", private_cache=False, device="cpu", imports=(),
    )  # fmt: skip


def answers(rank: TrialRank, task: TrialTask) -> list[TrialReport]:
    """All of a trial, to its end or its pause."""
    rank.begin(task.to_json())
    found = [TrialReport.from_json(rank.advance())]
    while not found[-1].ends_attempt:
        found.append(TrialReport.from_json(rank.advance()))
    return found


def kinds(task: TrialTask, *found: TrialReport) -> list[list[str]]:
    planned = {stage.key: stage.kind for stage in dry_run(parse_trial(task.settings.values, "test")).stages}
    return [[planned[stage.stage_key] for stage in answer.stages] for answer in found]


def test_stages_known_to_be_short_are_answered_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rank = TrialRank()
    monkeypatch.setattr(trial, "TOGETHER_S", ALWAYS_SHORT)
    first, second, third = (task_of(tmp_path, seed) for seed in range(3))
    assert kinds(first, *answers(rank, first)) == [[kind] for kind in KINDS], "no kind is measured yet"
    (both,) = answers(rank, second)
    assert both.kind == "finished" and kinds(second, both) == [KINDS]
    assert [stage.cached for stage in both.stages] == [True, False, False]
    monkeypatch.setattr(trial, "TOGETHER_S", NEVER_SHORT)
    alone = answers(rank, third)
    assert kinds(third, *alone) == [[kind] for kind in KINDS]
    assert [answer.kind for answer in alone] == ["stage", "stage", "finished"]
    rank.close()


@pytest.mark.check
def test_another_network_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TOGETHER_S", ALWAYS_SHORT)
    rank, task = TrialRank(), task_of(tmp_path, 0)
    answers(rank, task)
    other = replace(task, settings=JsonSettings(task.settings.values | {"network": "digits_resnet"}))
    assert kinds(other, *answers(rank, other)) == [[kind] for kind in KINDS]
    rank.close()


def test_a_pause_names_the_stages_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TOGETHER_S", ALWAYS_SHORT)
    rank, task = TrialRank(), task_of(tmp_path, 1)
    answers(rank, task_of(tmp_path, 0))
    rank.begin(task.to_json())
    rank.pause()
    answer = TrialReport.from_json(rank.advance())
    assert answer.kind == "moved"
    assert kinds(task, answer) == [KINDS[:1]], "the source is cached, the head is not"
    resumed = [kind for found in kinds(task, *answers(rank, task)) for kind in found]
    assert resumed == KINDS
    rank.close()


def pages_of(addresses: list[int]) -> int:
    """How many of these addresses have a page, which the system has not taken back or not given yet."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pages:  # eight bytes of each; the last bit: it is there
        return sum(os.pread(pages.fileno(), 8, address // mmap.PAGESIZE * 8)[7] >> 7 for address in addresses)


def test_what_a_step_frees_is_kept_until_the_next_trial_begins(tmp_path: Path) -> None:
    """Most of the pages that were freed are there before that, and most are gone after; some may be in use again."""
    rank = TrialRank()
    rank.begin(task_of(tmp_path, 0).to_json())
    tensors = [b"x" * 2**20 for _ in range(200)]
    addresses = [id(tensor) + 2**19 for tensor in tensors]
    in_use = pages_of(addresses)
    del tensors
    freed = pages_of(addresses)
    rank.begin(task_of(tmp_path, 1).to_json())
    left = pages_of(addresses)
    assert freed > in_use / 2 > left, (in_use, freed, left)
    rank.close()
