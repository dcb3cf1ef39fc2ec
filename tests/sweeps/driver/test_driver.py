"""Whole sweeps of made-up trials: each trial ends once, no stage is computed twice, failures and deaths are told."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from results.store.reader import finished_trial_ids, load
from results.store.writer import Writer
from sweeps.driver import quota, sweep_state
from sweeps.driver.driver import SweepOutcome, most_slots_on
from sweeps.planning.plan import Plan
from sweeps.run.run_folder import RunFolder
from sweeps.spec.resources import Resources
from tailor.execution.cache import Cache
from tests.sweeps.fake_plan import Recorder, computed, families, key_of, make_run, plan_of, sweep_of_fakes, trial
from transtailor.waiting import wait_for

ROOT = Path(__file__).parents[3]
LIMIT_S = 500.0  # on a busy machine; all that is waited for takes seconds


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def sweep(plan: Plan, folder: Path, display: Recorder, **options: Any) -> SweepOutcome:
    """A launch on the site "serial", unless the options of `sweep_with_ranks` say something else."""
    run = folder / "runs" / plan.name
    if not run.exists():
        make_run(plan, folder)
    return sweep_of_fakes(plan, RunFolder(run), folder / "cache", display=display, **options)


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    with load(folder / "runs" / "fake") as tables:
        return tables.rows(sql)


FAMILIES = families(3, 6, seconds=0.02)
TROUBLE = [
    trial("raises", ["a", {"name": "b", "raises": "the loss is not finite"}]),
    trial("dies-once", ["c", {"name": "d", "deaths": 1}, "e"]),
    trial("dies-always", [{"name": "f", "deaths": 99}]),
    trial("good", [{"name": "g", "accuracy": 0.75}, {"name": "h", "accuracy": 0.5}], label="arm"),
]
SIBLINGS = [
    trial("A", [{"name": "root", "seconds": 0.5}, {"name": "own-a", "seconds": 500.0, "until": key_of("own-b")}]),
    trial("B", [{"name": "root", "seconds": 0.5}, {"name": "own-b", "seconds": 0.1}]),
]
"""B cannot begin before A has computed the root; were it held back until A has ended, A would take its 500 s."""
TRIALS = {"serial": [*FAMILIES, *TROUBLE], "local": [*SIBLINGS, *FAMILIES, *TROUBLE]}
SLOTS = {"serial": 1, "local": 2}
FAILED, DEATHS = 2, 4  # of the trials in trouble


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended."""

    site: str
    folder: Path
    recorder: Recorder
    outcome: SweepOutcome

    @property
    def untroubled(self) -> list[str]:
        """Ids of the trials that nothing happens to."""
        return sorted({each.trial_id for each in TRIALS[self.site]} - {each.trial_id for each in TROUBLE})


@pytest.fixture(scope="module", params=["serial", "local"])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """All trials of a site in one sweep: one after the other, or on Ray in two slots."""
    site, folder, recorder = request.param, tmp_path_factory.mktemp(request.param), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0")  # Ray's monitor of memory would take every machine for full
        outcome = sweep(plan_of(TRIALS[site]), folder, recorder, site=site, slots=SLOTS[site])
    return Swept(site, folder, recorder, outcome)


def test_every_trial_ends_once_and_no_stage_is_computed_twice(swept: Swept) -> None:
    finished = len(swept.untroubled) + len(TROUBLE) - FAILED
    distinct = {stage.key for each in TRIALS[swept.site] for stage in each.stages} - {key_of("b"), key_of("f")}
    assert swept.outcome == SweepOutcome(
        finished=finished, failed=FAILED, interrupted=False, stages_computed=len(distinct)
    )
    assert sorted(entry["key"] for entry in computed(swept.folder / "cache")) == sorted(distinct)
    ended = rows(swept.folder, "SELECT trial_id, status, attempts FROM trials ORDER BY trial_id")
    assert [row for row in ended if row["trial_id"] in swept.untroubled] == [
        {"trial_id": name, "status": "finished", "attempts": 1} for name in swept.untroubled
    ]
    assert len(rows(swept.folder, "SELECT * FROM attempts WHERE status = 'finished'")) == finished
    assert max(state.counts.running for state in swept.recorder.states) == SLOTS[swept.site]
    assert swept.recorder.states[-1].work_left == pytest.approx(0)


def test_what_raises_fails_and_what_dies_is_tried_again(swept: Swept) -> None:
    """And resumed, not begun anew: the stages of the test above are computed once."""
    ended = {row["trial_id"]: row for row in rows(swept.folder, "SELECT * FROM trials")}
    assert {each.trial_id: (ended[each.trial_id]["status"], ended[each.trial_id]["attempts"]) for each in TROUBLE} == {
        "raises": ("failed", 1),
        "dies-once": ("finished", 2),
        "dies-always": ("failed", 3),
        "good": ("finished", 1),
    }
    assert finished_trial_ids(swept.folder / "runs" / "fake") == {*swept.untroubled, "dies-once", "good"}
    assert re.fullmatch(r"ValueError: the loss is not finite \(.*fake_rank.py, line \d+\)", ended["raises"]["error"])
    (failed,) = rows(swept.folder, "SELECT * FROM attempts WHERE status = 'failed'")
    assert "in _compute" in failed["log_tail"]
    died = rows(swept.folder, "SELECT trial_id, attempt, cause FROM attempts WHERE status = 'died' ORDER BY ALL")
    tries = [("dies-always", 1), ("dies-always", 2), ("dies-always", 3), ("dies-once", 1)]
    assert [(row["trial_id"], row["attempt"]) for row in died] == tries
    assert all("rank 0" in row["cause"] for row in died)
    assert len(swept.recorder.notes) == DEATHS + 1


def test_ranks_stay_warm_from_trial_to_trial(swept: Swept) -> None:
    """One process for each slot, and a new one for each that died."""
    assert len({entry["process"] for entry in computed(swept.folder / "cache")}) <= SLOTS[swept.site] + DEATHS


@pytest.mark.parametrize("swept", ["local"], indirect=True)
def test_a_sibling_starts_as_soon_as_the_shared_stage_is_there(swept: Swept) -> None:
    """A holds the second slot's trial back during the root only, not during its own long end."""
    spans = {entry["key"]: entry for entry in computed(swept.folder / "cache")}
    root, own_a, own_b = (spans[key_of(name)] for name in ("root", "own-a", "own-b"))
    assert root["trial"] == "A"
    assert root["end"] <= own_b["begin"] and own_b["end"] < own_a["end"]


@pytest.mark.parametrize("swept", ["serial"], indirect=True)
def test_a_launch_of_a_sweep_that_has_ended_tries_only_what_failed(swept: Swept, tmp_path: Path) -> None:
    shutil.copytree(swept.folder, tmp_path, dirs_exist_ok=True)
    outcome = sweep(plan_of(TRIALS["serial"]), tmp_path, Recorder())
    finished = swept.outcome.finished
    assert outcome == SweepOutcome(finished=finished, failed=FAILED, interrupted=False, stages_computed=0)
    assert computed(tmp_path / "cache") == computed(swept.folder / "cache")


@pytest.mark.parametrize(("of_controller", "of_silent"), [(-1.0, 0.0), (1.25, 1.25)], ids=["earlier", "later"])
def test_what_a_killed_launch_left_running_ends_with_its_last_sign_of_life(
    tmp_path: Path, recorder: Recorder, of_controller: float, of_silent: float
) -> None:
    """Two attempts of a launch two days ago: one wrote its log, then a checkpoint; of one, its controller alone."""
    plan = plan_of([trial("wrote", ["a"]), trial("wrote-nothing", ["b"])])
    run, began = make_run(plan, tmp_path), datetime.now(UTC) - timedelta(hours=48)
    left = {
        "attempt": 1, "driver": "killed", "status": "running", "host": "node1", "started_at": began, "code_digest": "c",
    }  # fmt: skip
    Writer(run.tables).write("attempts", [left | {"trial_id": each.trial_id} for each in plan.trials])
    log, state = run.trial("wrote") / "log-0001.jsonl", run.checkpoint("wrote") / "state"
    for path, hours in ((log, 1.0), (state, 1.5), (run.progress, of_controller)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, times=(0, (began + timedelta(hours=hours)).timestamp()))
    assert sweep(plan, tmp_path, recorder).finished == 2
    ended = rows(tmp_path, "SELECT * FROM attempts WHERE attempt = 1 ORDER BY trial_id")
    assert [row["status"] for row in ended] == ["interrupted"] * 2
    hours = [(row["ended_at"] - row["started_at"]).total_seconds() / 3600 for row in ended]
    assert hours == pytest.approx([1.5, of_silent])


def test_two_ranks_stay_warm_from_trial_to_trial(tmp_path: Path, recorder: Recorder) -> None:
    plan = plan_of([trial(f"t{i}", [f"s{i}"]) for i in range(10)], ranks=2)
    assert sweep(plan, tmp_path, recorder).finished == 10
    assert len({entry["process"] for entry in computed(tmp_path / "cache")}) == 1


def test_trials_with_a_cache_of_their_own_share_nothing(tmp_path: Path, recorder: Recorder) -> None:
    plan = plan_of(families(1, 3), private_cache=True)
    assert sweep(plan, tmp_path, recorder).finished == 3


SWEEP_PROGRAM = """
import sys
from pathlib import Path
from tests.sweeps.fake_plan import Recorder, make_run, plan_of, sweep_of_fakes, trial
folder, site, trials, slots = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
plan = plan_of([trial(f"t{i}", [f"quick{i}", {"name": f"long{i}", "seconds": 1e9}]) for i in range(trials)])
run = make_run(plan, folder)
outcome = sweep_of_fakes(plan, run, folder / "cache", display=Recorder(), site=site, slots=slots)
print("interrupted" if outcome.interrupted else "not interrupted", flush=True)
"""


def start_sweep(folder: Path, site: str, trials: int = 3) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A process (and group) that runs a long sweep, once each slot has computed a stage, and all its descendants."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP_PROGRAM, str(folder), site, str(trials), str(SLOTS[site])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + LIMIT_S
    while len(computed(folder / "cache")) < SLOTS[site]:  # all: one that is killed early has no line of its stage
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.05)
    return process, psutil.Process(process.pid).children(recursive=True)


def name_of(process: psutil.Process) -> str:
    """Its name; empty once it has ended."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Ends a sweep as a user does, and waits until it and all processes of it have gone; its stages never end."""
    started = psutil.Process(process.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: the whole group gets it
    else:
        process.send_signal(number)  # as `kill` does
    output = process.communicate(timeout=LIMIT_S)[0]
    assert output.splitlines()[-1] == "interrupted", output
    assert "Traceback" not in output
    assert not psutil.wait_procs(started, LIMIT_S)[1]


@pytest.mark.parametrize(
    ("site", "number"),
    [
        ("serial", signal.SIGINT),
        pytest.param("serial", signal.SIGTERM, marks=pytest.mark.check),
        pytest.param("local", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_sweep_that_is_stopped_leaves_nothing_and_the_next_goes_on(
    tmp_path: Path, site: str, number: signal.Signals, recorder: Recorder
) -> None:
    process, _ = start_sweep(tmp_path, site)
    stop(process, number)
    ends = rows(tmp_path, "SELECT DISTINCT status, cause FROM attempts")
    assert ends == [{"status": "interrupted", "cause": f"the launch was stopped by {number.name}"}]
    assert rows(tmp_path, "SELECT * FROM trials") == []
    left = computed(tmp_path / "cache")
    plan = plan_of([trial(f"t{i}", [f"quick{i}", f"long{i}"]) for i in range(3)])
    assert sweep(plan, tmp_path, recorder).finished == 3
    assert computed(tmp_path / "cache")[: len(left)] == left
    assert len(computed(tmp_path / "cache")) == 6  # nothing was computed again


def test_a_killed_launch_leaves_no_process_and_the_next_goes_on(tmp_path: Path) -> None:
    process, _ = start_sweep(tmp_path, "serial")
    assert_killed_it_leaves_no_process_and_the_next_goes_on(process, tmp_path, trials=3)


def assert_killed_it_leaves_no_process_and_the_next_goes_on(
    process: subprocess.Popen[str], folder: Path, trials: int
) -> None:
    started = psutil.Process(process.pid).children(recursive=True)
    wait_for(lambda: rows(folder, "FROM attempts WHERE status = 'running'") != [], "the first commit", LIMIT_S)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(started, LIMIT_S)[1]
    plan = plan_of([trial(f"t{i}", [f"quick{i}", f"long{i}"]) for i in range(trials)])
    assert sweep(plan, folder, Recorder()).finished == trials
    assert len(computed(folder / "cache")) == 2 * trials
    abandoned = rows(folder, "SELECT cause FROM attempts WHERE status = 'interrupted'")
    assert abandoned
    assert {row["cause"] for row in abandoned} == {"the process that launched it ended without a message"}


@pytest.mark.check
def test_a_launch_whose_raylet_is_killed_ends_and_says_so(tmp_path: Path) -> None:
    """Tune would wait for ever."""
    process, started = start_sweep(tmp_path, "local")
    (raylet,) = [each for each in started if name_of(each) == "raylet"]
    raylet.kill()
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "Ray's raylet on this machine has ended" in said.splitlines()[-1]
    assert not psutil.wait_procs(started, LIMIT_S)[1]


@pytest.mark.check
def test_on_ray_a_trial_whose_slot_is_killed_is_tried_again_and_then_the_launch_is_killed(tmp_path: Path) -> None:
    # Two trials for two slots: a third one that waits may rightly take the place of the one that died.
    process, started = start_sweep(tmp_path, "local", trials=2)
    slots = [each for each in started if "TuneSlot" in name_of(each)]
    assert slots
    slots[0].kill()
    limit = time.monotonic() + LIMIT_S
    died, again = [], []
    while not (died and again):
        assert time.monotonic() < limit
        died = rows(tmp_path, "SELECT * FROM attempts WHERE status = 'died'")
        again = rows(tmp_path, "SELECT * FROM attempts WHERE status = 'running' AND attempt = 2")
        time.sleep(0.5)
    assert died[0]["cause"] == "the process of rank 0 ended: was it killed, or memory short?"
    assert [row["trial_id"] for row in again] == [row["trial_id"] for row in died]
    assert_killed_it_leaves_no_process_and_the_next_goes_on(process, tmp_path, trials=2)


def test_a_full_disk_is_told_again_while_it_lasts_and_then_the_sweep_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Cache(tmp_path / "cache").path(64 * "0")
    old.parent.mkdir(parents=True)
    old.write_bytes(os.urandom(3_000_000))
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(sweep_state, "PAUSE_NOTED_EVERY_S", 0.0)

    class Cleaner(Recorder):
        def note(self, text: str) -> None:
            super().note(text)
            if len(self.notes) == 2:
                old.unlink()

    display, plan = Cleaner(), plan_of([trial("t", ["s"])])
    assert sweep(plan, tmp_path, display, max_disk_gb=0.003).finished == 1
    first, again, resumed = display.notes
    assert all(note.startswith("paused: 0 bytes are left of the 3.0 MB for ") for note in (first, again))
    assert resumed.startswith("there is room again")


def test_an_unknown_site_is_refused() -> None:
    with pytest.raises(ValueError, match="'moon' is not known; type serial, local or slurm"):
        most_slots_on("moon", Resources())
