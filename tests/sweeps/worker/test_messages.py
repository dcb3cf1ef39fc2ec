"""What driver, slots and ranks send each other: as JSON and back it is the same, and a wrong field is named."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.spec.json_settings import JsonSettings
from sweeps.worker.messages import (
    RankStart,
    SlotOrder,
    StageReport,
    StageWait,
    TrialReport,
    TrialTask,
)
from transtailor.documents import DocumentError, Record

TASK = TrialTask(
    trial_id="t", settings=JsonSettings({"seed": 3, "data": {"name": "d", "sizes": [1, 2]}, "rate": 1e-05}),
    run=Path("runs/s"), run_id="r", cache=Path("/cache"), private_cache=False, device="cpu",
    imports=(Path("a/b.py"), Path("c/d.py")),
)  # fmt: skip
START = RankStart(target="module:Class", ranks=2, threads_per_rank=1, gpus_per_rank=0.5, hang_limit_s=None)
STAGE = StageReport(stage_key="k", order=2, cached=True, seconds=0.1, point=0, validation_score=0.1 + 0.2)


@pytest.mark.parametrize(
    "message",
    [
        TASK,
        TrialReport(kind="moved", cause="a node of its ranks will end"),
        TrialReport(kind="finished", stages=(STAGE, STAGE)),
        TrialReport(kind="placed", nodes=("a", "b"), hosts=("x", "y")),
        TrialReport(kind="died", cause="rank 0 ended", log_tail="line\nline"),
        SlotOrder(
            work=TASK, start=START, report_every_s=2.0
        ),
        SlotOrder(
            work=StageWait(keys=("k",), cache=Path("c"), limit_s=1.5), start=START,
            report_every_s=2.0,
        ),
    ],
)  # fmt: skip
def test_a_message_is_the_same_after_its_way(message: Record) -> None:
    assert type(message).from_json(message.to_json()) == message


def test_a_score_that_is_no_number_stays_one() -> None:
    stage = replace(STAGE, validation_score=math.nan)
    assert math.isnan(StageReport.from_json(stage.to_json()).validation_score or 0.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values.pop("run_id"), "is no TrialTask: run_id"),
        (lambda values: values.update(colour="red"), "colour"),
        (lambda values: values.update(device="tpu"), "device"),
        (lambda values: values["settings"].pop("values"), "settings.values"),
    ],
)
def test_a_wrong_field_is_named(change: object, named: str) -> None:
    values = json.loads(TASK.to_json())
    change(values)  # type: ignore[operator]
    with pytest.raises(DocumentError, match=named):
        TrialTask.from_json(json.dumps(values))
