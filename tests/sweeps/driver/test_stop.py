"""A stop while a stage does not answer: it is cut off with its Ray, and nothing else begins."""

import threading
from pathlib import Path

import pytest

from results.store.reader import load
from tests.sweeps.fake_plan import Recorder, computed, make_run, plan_of, sweep_of_fakes, trial
from transtailor.waiting import wait_for

LIMIT_S = 300.0


@pytest.mark.check
def test_a_stop_cuts_off_a_stage_that_does_not_answer(tmp_path: Path) -> None:
    stop, begun, cache = tmp_path / "stop", tmp_path / "begun", tmp_path / "cache"
    plan = plan_of([trial("t", [{"name": "s", "seconds": 3600.0, "tells": str(begun)}, "after"]), trial("u", ["v"])])
    run = make_run(plan, tmp_path)

    def stop_it() -> None:
        wait_for(begun.exists, "the stage to begin", LIMIT_S)
        stop.touch()

    thread = threading.Thread(target=stop_it)
    thread.start()
    outcome = sweep_of_fakes(plan, run, cache, display=Recorder(), site="local", stop_file=stop)
    thread.join(LIMIT_S)
    assert (outcome.interrupted, outcome.finished) == (True, 0)
    assert computed(cache) == []
    with load(run.path) as tables:
        events = tables.rows("SELECT kind FROM events ORDER BY number")
        attempts = tables.rows("SELECT trial_id, status, cause FROM attempts")
    assert [row["kind"] for row in events] == ["stopping", "stopped"]
    cause = "the launch was stopped by transtailor stop"
    assert attempts == [{"trial_id": "t", "status": "interrupted", "cause": cause}]  # and none at the other trial
    rank = Path("/proc", begun.read_text(), "status")
    wait_for(lambda: not rank.exists() or "State:\tZ" in rank.read_text(), "the end of the rank", LIMIT_S)
