"""Rows come from the files of stages: once, after all that they speak of, and also of what was not reported."""

import errno
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from results.store.writer import TakenOverError, Writer, take_number
from sweeps.driver import commits as module
from sweeps.driver import committing
from sweeps.driver.commits import Commits, EndedAttempt, FinishedStage, units_begun, units_written
from sweeps.driver.committing import commit_meanwhile
from sweeps.driver.events import EventLog
from sweeps.planning.plan import PlannedTrial
from sweeps.run.run_folder import RunFolder
from tailor.execution.cache import Cache, MadeBy, StageDescription
from tests.sweeps.fake_plan import key_of, make_run, plan_of, trial
from transtailor.waiting import wait_for

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ("root", "middle", "end")
NOTHING: Mapping[str, Any] = {}


class Sweep:
    """A run of one trial of three stages, whose reports a test makes up."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.trial = trial("t", STAGES)
        self.plan = plan_of([self.trial], **options)
        self.cache = Cache(folder / "cache")
        path = folder / "runs" / self.plan.name
        self.run = RunFolder(path) if path.exists() else make_run(self.plan, folder)
        self.writer = Writer(self.run.tables)
        with load(self.run.path) as tables:
            self.commits = Commits(
                self.writer, self.plan, self.run, self.cache.folder, run_id="ours", code_digest="c",
                written=units_written(tables), begun=units_begun(tables), events=EventLog(self.writer, "d", "c", print),
            )  # fmt: skip

    def store(self, name: str, tensors: bytes = b"", run: str = "ours", info: Mapping[str, Any] = NOTHING) -> None:
        """Put a finished stage into the cache."""
        made_by = MadeBy(
            compute_s=1.0, device="cpu", ranks=1, threads=1, torch_version="2", trial_id="t", run=run
        )  # fmt: skip
        description = StageDescription(
            kind="fake", version=1, settings={}, parents=(), info=dict(info), made_by=made_by
        )
        self.cache.write(key_of(name), description, tensors)

    def report(self, *names: str) -> None:
        for name in names:
            self.commits.stage("t", FinishedStage(key=key_of(name), order=STAGES.index(name), point=None))

    def end(self, status: str) -> None:
        row = {"trial_id": "t", "started_at": MOMENT, "ended_at": MOMENT, "code_digest": "c"}
        attempt = row | {"attempt": 1, "driver": "d", "status": status, "host": "h"}
        finished = status == "finished"
        ended = row | {"status": "finished", "attempts": 1, "seconds": 0.0}
        needs_all = status in ("finished", "rested")
        trial_row = ended if finished else None
        self.commits.end("t", EndedAttempt(attempt=attempt, trial=trial_row, needs_all=needs_all, is_last=finished))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with load(self.run.path) as tables:
            return tables.rows(sql)

    @property
    def stages(self) -> list[str]:
        known = {key_of(name): name for name in STAGES}
        return [known[row["stage_key"]] for row in self.rows('SELECT stage_key FROM stages ORDER BY "order"')]

    @property
    def trials(self) -> list[str]:
        return [row["status"] for row in self.rows("SELECT status FROM trials")]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    made = Sweep(tmp_path)
    made.commits.begin(made.trial)
    return made


def test_a_finished_trial_has_its_rows_once_also_if_it_is_told_again(sweep: Sweep, tmp_path: Path) -> None:
    for name in STAGES:
        sweep.store(name)
    sweep.report("root", "middle")
    sweep.commits.commit()
    assert (sweep.stages, sweep.trials) == (["root", "middle"], [])
    again = Sweep(tmp_path)  # the launch was killed: the next one runs the trial from the cache
    again.commits.begin(again.trial)
    again.report(*STAGES)
    again.end("finished")
    again.commits.commit()
    assert (again.stages, again.trials) == (list(STAGES), ["finished"])
    assert not again.commits.is_waiting


def test_who_computed_a_stage_is_read_in_its_file(sweep: Sweep) -> None:
    sweep.store("root", run="another")
    sweep.store("middle")
    sweep.report("root", "middle")
    sweep.commits.commit()
    assert [row["cached"] for row in sweep.rows('SELECT cached FROM stages ORDER BY "order"')] == [True, False]


def test_of_an_attempt_that_died_the_stages_in_the_cache_count_up_to_the_first_that_is_not(sweep: Sweep) -> None:
    sweep.store("root")
    sweep.store("end")  # of another trial
    sweep.end("died")
    sweep.commits.commit()
    assert sweep.stages == ["root"]
    assert sweep.rows("SELECT status FROM attempts") == [{"status": "died"}]


def test_attempts_that_follow_each_other_before_a_commit_have_their_rows(sweep: Sweep) -> None:
    sweep.store("root")
    sweep.report("root")
    sweep.end("died")
    sweep.commits.begin(sweep.trial)
    sweep.store("middle")
    sweep.store("end")
    sweep.report(*STAGES)
    sweep.end("finished")
    sweep.commits.commit()
    assert (sweep.stages, sweep.trials) == (list(STAGES), ["finished"])


def test_a_stage_that_is_seen_late_is_waited_for(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    sweep.store("root")
    sweep.report(*STAGES)
    sweep.end("finished")
    sweep.commits.commit()
    assert (sweep.stages, sweep.trials) == (["root"], [])
    sweep.store("middle")
    sweep.store("end")
    sweep.commits.finish()
    assert (sweep.stages, sweep.trials) == (list(STAGES), ["finished"])
    assert sweep.commits.take_lost() == []


def test_a_trial_whose_stage_stays_away_or_is_damaged_runs_again(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOUND_LIMIT_S", 0.0)
    sweep.store("root")
    sweep.store("middle")
    path = sweep.cache.path(key_of("middle"))
    path.write_bytes(path.read_bytes().replace(b'"fake"', b'"fame"'))
    sweep.report(*STAGES)
    sweep.end("finished")
    sweep.commits.finish()
    (lost,) = sweep.commits.take_lost()
    assert lost.trial_id == "t" and "its SHA-256 is not the one in it" in lost.cause
    assert (sweep.stages, sweep.trials) == (["root"], [])
    assert sweep.rows("SELECT status FROM attempts") == [{"status": "interrupted"}]
    path.unlink()
    sweep.commits.begin(sweep.trial)
    sweep.report(*STAGES)
    sweep.end("finished")
    sweep.commits.finish()
    assert "is not there" in sweep.commits.take_lost()[0].cause


def test_a_stage_computed_again_with_another_result_keeps_its_first_rows_and_is_told(sweep: Sweep) -> None:
    sweep.store("root", b"first")
    sweep.report("root")
    sweep.commits.commit()
    sweep.cache.path(key_of("root")).unlink()
    sweep.store("root", b"second")
    sweep.report("root")
    sweep.commits.commit()
    assert sweep.stages == ["root"]
    (event,) = sweep.rows("SELECT kind, detail FROM events")
    assert event["kind"] == "stage_changed" and key_of("root") in event["detail"]


def refuses(monkeypatch: pytest.MonkeyPatch, name: str, after: int = 0) -> None:
    """Let the disk refuse files of this table, after so many of them."""
    real = os.replace
    written = Counter[str]()

    def replace_unless(source: Any, target: Any, **words: Any) -> None:
        table = Path(target).parent.name
        if table == name and written[table] == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written[table] += 1
        real(source, target, **words)

    monkeypatch.setattr(os, "replace", replace_unless)
    monkeypatch.setattr(Path, "replace", replace_unless)


def test_states_of_a_trial_go_when_its_row_is_durable_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stages may be in a cache of its own: until then, the rows can be made from it again."""
    sweep = Sweep(tmp_path, private_cache=True)
    sweep.cache = Cache(sweep.run.private_cache("t"))
    sweep.commits.begin(sweep.trial)
    for name in STAGES:
        sweep.store(name)
    sweep.run.checkpoint("t").mkdir(parents=True)
    sweep.report(*STAGES)
    sweep.end("finished")
    with monkeypatch.context() as context:
        refuses(context, "trials")
        with pytest.raises(OSError, match="No space left"):
            sweep.commits.commit()
        assert "No space left" in (sweep.commits.why_failing or "")
    assert (sweep.stages, sweep.trials) == (list(STAGES), [])
    assert sweep.run.checkpoint("t").exists() and sweep.cache.folder.exists()
    sweep.commits.commit()
    assert (sweep.stages, sweep.trials, sweep.commits.why_failing) == (list(STAGES), ["finished"], None)
    assert not sweep.run.checkpoint("t").exists() and not sweep.cache.folder.exists()


@pytest.mark.parametrize("refused", ["epochs", "stages", "attempts", "trials"])
def test_rows_that_a_commit_left_which_was_cut_off_are_not_made_again(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path)
    epoch = {"epoch": 0, "train_loss": 1.0, "learning_rate": 0.1, "head_learning_rate": 0.1, "images": 1}
    with monkeypatch.context() as context:
        refuses(context, refused)
        sweep.commits.begin(sweep.trial)
        for name in STAGES:
            sweep.store(name, info={"epochs": [epoch | {"seconds": 1.0}], "macs": 1})
        sweep.report(*STAGES)
        sweep.end("finished")
        with pytest.raises(OSError, match="No space left"):
            sweep.commits.commit()
    again = Sweep(tmp_path)  # after a kill
    again.commits.begin(again.trial)
    again.report(*STAGES)
    again.end("finished")
    again.commits.commit()
    assert (again.stages, again.trials) == (list(STAGES), ["finished"])
    assert again.rows("SELECT count(*) AS n FROM epochs") == [{"n": len(STAGES)}]


def test_much_that_waits_is_written_attempt_by_attempt(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory is not filled; and an attempt that is written needs none of those behind it."""
    monkeypatch.setattr(module, "MOST_ROWS", 1)
    for name in STAGES:
        sweep.store(name)
    sweep.report("root")
    sweep.end("rested")
    sweep.commits.begin(sweep.trial)
    sweep.report("middle", "end")
    sweep.end("finished")
    with monkeypatch.context() as context:
        refuses(context, "stages", after=1)
        with pytest.raises(OSError, match="No space left"):
            sweep.commits.commit()
    assert sweep.rows("SELECT stage_key FROM stages") == [{"stage_key": key_of("root")}]
    assert [row["status"] for row in sweep.rows("SELECT status FROM attempts")] == ["rested"]
    sweep.commits.commit()
    assert (sweep.stages, sweep.trials, sweep.commits.is_waiting) == (list(STAGES), ["finished"], False)


def test_an_error_that_no_commit_can_mend_ends_the_sweep(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep.store("root", info={"epochs": [{"epoch": "none"}], "macs": 1})
    sweep.report("root")
    monkeypatch.setattr(committing, "FIRST_S", 0.0)
    with pytest.raises(ValueError, match="column epoch"), commit_meanwhile(sweep.commits, sweep.run.path, print):
        wait_for(lambda: sweep.commits.ended_by is not None, "the error", 120.0)


def test_a_driver_whose_run_was_taken_over_writes_nothing_and_is_told(sweep: Sweep) -> None:
    sweep.store("root")
    sweep.report("root")
    take_number(sweep.run.path)  # what another launch does first
    with pytest.raises(TakenOverError):
        sweep.commits.commit()
    assert isinstance(sweep.commits.ended_by, TakenOverError)
    assert sweep.stages == []


def test_rows_are_written_while_a_sweep_runs_and_at_its_end(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "FIRST_S", 0.0)
    monkeypatch.setattr(committing, "SOONEST_S", 0.01)
    notes: list[str] = []
    with commit_meanwhile(sweep.commits, sweep.run.path, notes.append):
        sweep.store("root")
        sweep.report("root")
        wait_for(lambda: sweep.stages == ["root"], "the first rows", 120.0)
        sweep.store("middle")
        sweep.store("end")
        sweep.report("middle", "end")
        sweep.end("finished")
    assert (sweep.stages, sweep.trials, notes) == (list(STAGES), ["finished"], [])
    assert (sweep.run.path / "points.parquet").exists()


def test_at_the_second_signal_a_launch_ends_at_once(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "FIRST_S", 3600.0)
    sweep.store("root")
    with pytest.raises(KeyboardInterrupt), commit_meanwhile(sweep.commits, sweep.run.path, print):
        sweep.report("root")
        raise KeyboardInterrupt
    assert sweep.stages == []


def test_the_planned_stages_are_those_of_the_attempt(sweep: Sweep) -> None:
    """At a rung a trial has fewer: of the others none is looked for."""
    other: PlannedTrial = replace(sweep.trial, trial_id="u", stages=sweep.trial.stages[:1], whole=sweep.trial.stages)
    sweep.store("root")
    sweep.store("middle")
    sweep.commits.begin(other)
    row = {"trial_id": "u", "attempt": 1, "driver": "d", "host": "h", "started_at": MOMENT, "code_digest": "c"}
    died = EndedAttempt(attempt=row | {"status": "died"}, trial=None, needs_all=False, is_last=False)
    sweep.commits.end("u", died)
    sweep.commits.commit()
    assert sweep.rows("SELECT trial_id FROM stages") == [{"trial_id": "u"}]
