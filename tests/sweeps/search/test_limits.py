"""Limits of time count what launches have run, over all of them, and not the time between them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from results.store.writer import Writer
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec, created_run

SPEC = """
name = "s"
[trial]
method.name = "prune"
[axes]
method.criterion = ["l1", "l2", "random"]
[search]
%s
[resources]
%s
"""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ATTEMPTS = [  # driver, trial, start, end, all in hours: the first launch was killed
    ("first", "a", 0.0, 1.0, "finished"),
    ("first", "b", 0.5, 1.5, "interrupted"),
    ("second", "b", 48.0, 49.0, "finished"),
    ("second", "c", 48.5, None, "running"),
]


@pytest.mark.parametrize(
    ("limit", "resources", "is_over"),
    [
        ("hours = 2.5", "", True),
        ("hours = 2.51", "", False),
        ("gpu_hours = 1.5", "gpus_per_rank = 0.5", True),
        ("gpu_hours = 1.51", "gpus_per_rank = 0.5", False),
        ("gpu_hours = 6.0", "ranks = 2\ngpus_per_rank = 1", True),
        ("gpu_hours = 6.01", "ranks = 2\ngpus_per_rank = 1", False),
    ],
)
def test_time_between_launches_does_not_count(
    limit: str, resources: str, is_over: bool, write_spec: WriteSpec, tmp_path: Path
) -> None:
    """1.5 h in the first launch and 1 h in the second; 3 h of trials, each on half a GPU, or on two."""
    spec = load_spec(write_spec(SPEC % (limit, resources)))
    plan = RunSearch(spec, RunFolder(tmp_path / "runs" / "s")).plan
    run = created_run(plan, tmp_path / "runs")
    rows = [
        {
            "trial_id": trial, "attempt": place, "driver": driver, "status": status, "host": "node1",
            "started_at": BEGAN + timedelta(hours=from_h), "code_digest": "c",
            "ended_at": None if to_h is None else BEGAN + timedelta(hours=to_h),
        }
        for place, (driver, trial, from_h, to_h, status) in enumerate(ATTEMPTS)
    ]  # fmt: skip
    Writer(run.tables).write("attempts", rows)
    why = RunSearch(spec, run).why_over()
    assert why == (f"{limit.replace('.0', '')} were reached" if is_over else None)
