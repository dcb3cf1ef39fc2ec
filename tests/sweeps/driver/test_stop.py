"""A stop while a stage does not answer: it is cut off with its Ray, and nothing else begins."""

import os
import sys
import threading
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.driver.driver import SweepSite, run_sweep
from transtailor.waiting import wait_for

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE))  # tests are imported by path; the ranks' processes get the same folder

from fake_plan import computed, make_run, plan_of, trial  # noqa: E402

LIMIT_S = 300.0


@pytest.mark.check
def test_a_stop_cuts_off_a_stage_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    stop, begun, cache = tmp_path / "stop", tmp_path / "begun", tmp_path / "cache"
    plan = plan_of([trial("t", [{"name": "s", "seconds": 3600.0, "tells": str(begun)}, "after"]), trial("u", ["v"])])
    run = make_run(plan, tmp_path)

    def stop_it() -> None:
        wait_for(begun.exists, "the stage to begin", LIMIT_S)
        stop.touch()

    thread = threading.Thread(target=stop_it)
    thread.start()
    outcome = run_sweep(plan, run, cache, SweepSite("local", 1, "fake_rank:FakeRank"), stop_file=stop)
    thread.join(LIMIT_S)
    assert (outcome.interrupted, outcome.finished) == (True, 0)
    assert computed(cache) == []
    with load(run.path) as tables:
        events = tables.rows("SELECT kind FROM events ORDER BY number")
        attempts = tables.rows("SELECT trial_id, status, cause FROM attempts")
    assert [row["kind"] for row in events] == ["controller_started", "stopping", "stopped"]
    cause = "the launch was stopped by the file stop"
    assert attempts == [{"trial_id": "t", "status": "interrupted", "cause": cause}]  # and none at the other trial
    rank = Path("/proc", begun.read_text(), "status")
    wait_for(lambda: not rank.exists() or "State:\tZ" in rank.read_text(), "the end of the rank", LIMIT_S)
