"""A slot says with a trial's last stage that the trial is over."""

import os
from pathlib import Path
from typing import Any

import pytest

from hpc.process_ranks import ProcessRanks
from sweeps.slot import Report, Slot


def test_the_last_stage_and_the_end_are_one_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # ranks have installed code alone
    stages: list[dict[str, Any]] = [{"key": key, "kind": "fake"} for key in ("first", "last")]
    slot = Slot(lambda: ProcessRanks("fake_rank:FakeRank", 1))
    slot.take({"trial_id": "a", "cache": str(tmp_path), "config": {"fake": {"stages": stages}}}, attempts=1)
    try:
        steps = [slot.step(), slot.step()]
    finally:
        slot.kill()
    assert [(step.kind, step.over, step.stage and step.stage["stage_key"]) for step in steps] == [
        ("stage", False, "first"),
        ("finished", True, "last"),
    ]
    assert [Report.from_json(step.to_json()) for step in steps] == steps
