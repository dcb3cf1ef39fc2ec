"""The ledger gives each start and each end to be written once, and its counts are right."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import finished_trial_ids, load
from sweeps.driver.ledger import Counts, Ledger, TrialState
from sweeps.worker.messages import StageReport
from tests.sweeps.at_once import AtOnce

DIGEST = "0" * 64


def ledger(run: Path, *, states: dict[str, TrialState] | None = None, before: dict[str, int] | None = None) -> Ledger:
    return Ledger(
        AtOnce(run / "tables"),
        ["A", "B", "C"],
        states=states or {},
        attempts_before=before or {},
        code_digest=DIGEST,
        driver="driver-1",
    )


def rows(run: Path, sql: str) -> list[dict[str, Any]]:
    with load(run) as tables:
        return tables.rows(sql)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    return tmp_path


def test_a_trial_that_died_once_and_then_finished(run: Path) -> None:
    book = ledger(run, before={"A": 4})
    book.note_start("A")
    assert rows(run, "SELECT attempt, status, ended_at FROM attempts") == [
        {"attempt": 5, "status": "running", "ended_at": None}
    ]
    book.note_end("A", "died", "rank 1 of 2 was ended by SIGKILL", "last words", over=False)
    assert book.counts() == Counts(finished=0, failed=0, running=0, waiting=3)
    book.note_start("A")
    assert book.attempts_made("A") == 2
    book.note_end("A", "finished", over=True)
    assert rows(run, "SELECT attempt, status, cause, log_tail, driver FROM attempts ORDER BY attempt") == [
        {
            "attempt": 5,
            "status": "died",
            "cause": "rank 1 of 2 was ended by SIGKILL",
            "log_tail": "last words",
            "driver": "driver-1",
        },
        {"attempt": 6, "status": "finished", "cause": None, "log_tail": None, "driver": "driver-1"},
    ]
    (trial,) = rows(run, "SELECT * FROM trials")
    assert (trial["status"], trial["attempts"], trial["error"]) == ("finished", 6, None)
    (first,) = rows(run, "SELECT min(started_at) AS started_at FROM attempts")
    assert trial["started_at"] == first["started_at"]
    assert trial["seconds"] == pytest.approx((trial["ended_at"] - trial["started_at"]).total_seconds())
    assert finished_trial_ids(run) == {"A"}


def test_failed_and_interrupted(run: Path) -> None:
    book = ledger(run, states={"C": "finished"})
    book.note_start("A")
    book.note_start("B")
    assert book.counts() == Counts(finished=1, failed=0, running=2, waiting=0)
    book.note_end("A", "failed", "ValueError: no", "Traceback", over=True)
    book.note_end("B", "interrupted", "SIGINT", over=False)
    assert book.counts() == Counts(finished=1, failed=1, running=0, waiting=1)
    assert rows(run, "SELECT trial_id, status, error FROM trials") == [
        {"trial_id": "A", "status": "failed", "error": "ValueError: no"}
    ]
    assert rows(run, "SELECT trial_id, status FROM attempts ORDER BY trial_id") == [
        {"trial_id": "A", "status": "failed"},
        {"trial_id": "B", "status": "interrupted"},
    ]


def test_what_cannot_be_is_refused(run: Path) -> None:
    book = ledger(run, states={"C": "finished"})
    book.note_start("A")
    with pytest.raises(ValueError, match="trial A cannot start"):
        book.note_start("A")
    with pytest.raises(ValueError, match="trial C cannot start"):
        book.note_start("C")
    with pytest.raises(ValueError, match="trial B does not run"):
        book.stage_done("B", StageReport(stage_key="x", order=0, cached=False, seconds=1.0))


def test_attempts_that_a_killed_launch_left_running_are_ended(run: Path) -> None:
    ledger(run).note_start("A")
    abandoned = rows(run, "SELECT * FROM attempts WHERE status = 'running'")
    assert len(abandoned) == 1
    last = abandoned[0]["started_at"] + timedelta(minutes=3)
    ledger(run).close_abandoned([row | {"ended_at": last} for row in abandoned])
    (attempt,) = rows(run, "SELECT * FROM attempts")
    assert (attempt["status"], attempt["driver"], attempt["ended_at"]) == ("interrupted", "driver-1", last)
    assert "without a message" in attempt["cause"]


def test_a_trial_rests_is_stopped_and_may_be_continued(run: Path) -> None:
    book = ledger(run, states={"C": "resting"}, before={"C": 1})
    for trial_id in ("A", "B"):
        book.note_start(trial_id)
        book.note_end(trial_id, "rested", over=True)
    assert rows(run, "SELECT * FROM trials") == [] and book.attempts_made("A") == 0
    assert book.counts() == Counts(finished=0, failed=0, running=0, waiting=0, resting=3)
    assert book.resting_trials(["A", "C", "D"]) == ["A", "C"]
    book.stop(["A", "C"])
    assert book.resting_trials(["A", "C"]) == []
    book.add(["B"])
    assert book.counts() == Counts(finished=0, failed=0, running=0, waiting=1, stopped=2)
    for trial_id in ("A", "B"):  # a longer ladder continues also a stopped one
        book.note_start(trial_id)
        book.note_end(trial_id, "finished", over=True)
    assert book.counts() == Counts(finished=2, failed=0, running=0, waiting=0, stopped=1)
    assert rows(run, "SELECT trial_id, status, attempts FROM trials ORDER BY ALL") == [
        {"trial_id": "A", "status": "finished", "attempts": 2},
        {"trial_id": "B", "status": "finished", "attempts": 2},
        {"trial_id": "C", "status": "stopped", "attempts": 1},
    ]


def test_a_trial_whose_rows_cannot_be_made_waits_again_and_its_attempt_does_not_count(run: Path) -> None:
    book = ledger(run, states={"C": "finished"})
    book.note_start("A")
    book.note_end("A", "finished", over=True)
    assert book.counts() == Counts(finished=2, failed=0, running=0, waiting=1)
    book.reopen("A")
    assert book.counts() == Counts(finished=1, failed=0, running=0, waiting=2) and book.attempts_made("A") == 0
    book.note_start("A")
    assert book.counts() == Counts(finished=1, failed=0, running=1, waiting=1) and book.attempts_made("A") == 1
