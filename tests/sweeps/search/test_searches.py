"""Real searches by the real command: serial equals Ray, killed and launched again equals undisturbed."""

import re
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy import stats

from results.questions.search import BEST_SO_FAR
from results.store.files import changing_file
from results.store.reader import load
from sweeps.errors import RunFolderError
from sweeps.run.relaunch import check_may_resume, this_code_digest
from sweeps.run.run_folder import LaunchRecord, RunFolder, open_run
from sweeps.search.run_search import RunSearch
from sweeps.spec.spec import load_spec
from tests import commands
from tests.faults.decisions import read_otherwise
from tests.results.report_page import text_of
from transtailor.waiting import reap, wait_for

pytestmark = pytest.mark.check
SPEC = """
name = "search"
[trial]
method.name = "fine_tune"
source.epochs = 1
data.train_images = 64
optimisation.epochs = 3
[axes]
optimisation.learning_rate = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]
optimisation.head_epochs = [1, 2, 3, 4]
[search]
sampler = "tpe"
trials = 8
batch = 3
halving = { eta = 3, epochs = [1] }
[confirm]
top = 2
seeds = 2
"""
AXES = SPEC.split("[axes]\n")[1].split("\n[search]")[0]
DECISIONS = "SELECT * EXCLUDE (code_digest, written_at) FROM proposals ORDER BY number"
CONFIRMED = """
SELECT validation_score, test_score FROM measured_points WHERE trial_id IN (
    SELECT unnest(trial_ids) FROM proposals WHERE confirms = {number}
) QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
"""
POINTS = "SELECT trial_id, point, validation_score FROM operating_points ORDER BY ALL"


def launch(folder: Path, *options: str) -> str:
    (folder / "spec.toml").write_text(SPEC)
    done = commands.launch("spec.toml", *options, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    with load(folder / "runs" / "search") as run:
        return run.rows(sql)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished search, and what the command printed."""
    folder = tmp_path_factory.mktemp("serial")
    return folder, launch(folder, "--site", "serial")


def test_it_ends_with_the_confirmed_winner_and_compares_only_what_confirms(serial: tuple[Path, str]) -> None:
    folder, said = serial
    assert (
        "confirmed winner: proposal " in said
        and " over 2 new seeds: " in said
        and "7 of 12 trials finished, 0 failed, 5 stopped" in said
        and "transtailor query " in said
    )
    told = re.findall(r"proposal (\d+), test accuracy (\S+)% \[(\S+) … (\S+)\] over 2 new seeds: ", said)
    found = [rows(folder, CONFIRMED.format(number=number)) for number, *_ in told]
    assert len(found) == 2
    validation = [statistics.fmean(row["validation_score"] for row in one) for one in found]
    assert validation == sorted(validation, reverse=True)
    for (_, *figures), one in zip(told, found, strict=True):
        scores = [100 * row["test_score"] for row in one]
        mean, half = statistics.fmean(scores), stats.t.ppf(0.975, 1) * statistics.stdev(scores) / 2**0.5
        shown = [float(figure.replace(",", "")) for figure in figures]
        assert shown == pytest.approx([mean, mean - half, mean + half], abs=0.006)
    compared = rows(folder, "SELECT DISTINCT trial_id FROM compared_points")
    confirming = rows(folder, "SELECT unnest(trial_ids) AS trial_id FROM proposals WHERE purpose = 'confirm'")
    assert {row["trial_id"] for row in compared} == {row["trial_id"] for row in confirming}
    assert len(compared) == 4


def test_settings_that_are_not_among_the_best_of_a_rung_are_stopped_and_leave_no_state(
    serial: tuple[Path, str],
) -> None:
    folder, _ = serial
    status = commands.transtailor_command("status", "runs/search", folder=folder)
    assert "has ended; 7 trials are finished, 5 stopped" in status.stdout
    (best, *others) = rows(
        folder, "SELECT status FROM rungs JOIN trials USING (trial_id) ORDER BY validation_score DESC, started_at"
    )
    assert len(others) == 7 and best["status"] == "finished"
    attempts = rows(folder, "SELECT status, count(*) AS n FROM attempts GROUP BY ALL ORDER BY ALL")
    assert attempts == [{"status": "finished", "n": 7}, {"status": "rested", "n": 8}]
    assert not [*folder.glob("runs/search/trials/*/checkpoint/*")]
    twice = rows(folder, "SELECT stage_key FROM stages WHERE NOT cached GROUP BY ALL HAVING count(*) > 1")
    assert twice == [], "a stage was computed twice"


def test_the_report_shows_how_it_went(serial: tuple[Path, str]) -> None:
    """Of eight settings three reached the end: too few to see what the rung predicts, and the page says so."""
    folder = serial[0] / "runs" / "search"
    with load(folder) as run:
        best = run.rows(BEST_SO_FAR)
    scores = [row["validation_score"] for row in best]
    assert 1 <= len(scores) <= 3 and scores == sorted(scores)
    assert "too few trials were continued" in text_of((folder / "report.html").read_text())


def test_launched_again_nothing_is_left(serial: tuple[Path, str]) -> None:
    folder, _ = serial
    tables = ("attempts", "events", "proposals")
    before = {table: rows(folder, f"SELECT * FROM {table} ORDER BY ALL") for table in tables}
    said = launch(folder, "--site", "serial")
    assert " trials have ended, and no more are added" in said
    assert {table: rows(folder, f"SELECT * FROM {table} ORDER BY ALL") for table in before} == before


def test_each_decision_says_which_scores_it_read(serial: tuple[Path, str]) -> None:
    folder, said = serial
    assert list(read_otherwise(folder / "runs" / "search")) == []
    assert "rung 0 (1 epoch): too few trials were continued to see what it predicts\n" in said
    counts = rows(folder, "SELECT DISTINCT batch, purpose, len(reads) AS n FROM proposals ORDER BY batch")
    assert [(row["purpose"], row["n"]) for row in counts] == [
        ("search", 0), ("search", 3), ("search", 6), ("promote", 8), ("confirm", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "table"),
    [
        ("trials = 8", "trials = 9", "[search]"),
        ("3, 4]", "3, 5]", "[axes]"),
        ("eta = 3", "eta = 4", "[search]"),
        (AXES, "\n".join(reversed(AXES.splitlines())), "the order of [axes]"),
    ],
)
def test_a_search_that_was_changed_is_refused(serial: tuple[Path, str], old: str, new: str, table: str) -> None:
    folder, _ = serial
    (folder / "changed.toml").write_text(SPEC.replace(old, new))
    for options in ((), ("--plan",)):
        done = commands.launch("changed.toml", "--site", "serial", *options, folder=folder)
        assert done.returncode == 2 and f": {table} is not that of" in done.stderr and "--name NAME" in done.stderr


def test_a_plan_that_was_made_before_the_last_proposals_is_of_the_same_run(
    serial: tuple[Path, str], tmp_path: Path
) -> None:
    """On SLURM a controller proposes while a launch on the login node plans to attach to it."""
    run = RunFolder(serial[0] / "runs" / "search")
    record, digest = open_run(run), this_code_digest()

    def check(spec: str, record: LaunchRecord, *, to: str) -> None:
        (tmp_path / "spec.toml").write_text(spec)
        found = RunSearch(load_spec(tmp_path / "spec.toml"), RunFolder(serial[0] / "runs" / to))
        check_may_resume(run, record, found.plan, digest, extend=False, update_code=False)

    check(SPEC, record, to="none")  # the first batch only
    first = dict(list(record.trials.items())[:3])
    check(SPEC, replace(record, trials=first), to="search")  # proposed, not planned yet
    with pytest.raises(RunFolderError, match=r"run of another spec:\s+3 trials added, 12 removed"):
        check(SPEC.replace("train_images = 64", "train_images = 32"), record, to="none")


def test_with_extend_more_settings_continue(serial: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(serial[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "longer.toml").write_text(SPEC.replace("eta = 3", "eta = 2"))
    refused = commands.launch("longer.toml", "--site", "serial", folder=tmp_path)
    assert refused.returncode == 2 and "type --extend to continue more settings" in refused.stderr
    done = commands.launch("longer.toml", "--site", "serial", "--extend", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = (
        {row["trial_id"]: row["status"] for row in rows(folder, "SELECT trial_id, status FROM trials")}
        for folder in (serial[0], tmp_path)
    )
    changed = [trial_id for trial_id in before if after[trial_id] != before[trial_id]]
    assert [(before[trial_id], after[trial_id]) for trial_id in changed] == [("stopped", "finished")]


def test_a_plan_says_what_runs_first_and_what_runs_at_most(tmp_path: Path) -> None:
    said = launch(tmp_path, "--plan")
    assert "tpe: at most 8 of 40 settings, 3 at a time, then the best 2 with 2 seeds" in said
    assert "12 trials if none fails, 40 in the grid" in said
    assert not (tmp_path / "runs").exists()


def test_on_ray_it_decides_alike(serial: tuple[Path, str], tmp_path: Path) -> None:
    launch(tmp_path)
    for sql in (DECISIONS, POINTS):
        assert rows(tmp_path, sql) == rows(serial[0], sql)


@pytest.mark.long
def test_asynchronously_on_ray_a_third_continues_at_once(tmp_path: Path) -> None:
    """Which settings continue depends on the machine; that a third does, and none waits for a rung, does not."""
    (tmp_path / "spec.toml").write_text(SPEC.replace("eta = 3", "asynchronous = true, eta = 3"))
    done = commands.launch("spec.toml", folder=tmp_path)
    assert done.returncode == 0 and "confirmed winner: proposal " in done.stdout, done.stdout + done.stderr
    made = rows(tmp_path, "SELECT purpose, rung FROM proposals ORDER BY number")
    purposes = [one["purpose"] for one in made]
    assert purposes.index("promote") < len(purposes) - 1 - purposes[::-1].index("search"), purposes
    status = "SELECT status, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    ended = 4 + purposes.count("promote")
    assert ended >= 4 + 3
    assert rows(tmp_path, status) == [{"status": "finished", "n": ended}, {"status": "stopped", "n": 12 - ended}]
    assert not [*tmp_path.glob("runs/search/trials/*/checkpoint/*")]
    assert list(read_otherwise(tmp_path / "runs" / "search")) == []


def decisions(table: Path) -> int:
    """How many batches are proposed."""
    # `read_table` opens a file twice: between the two the launch may put a newer one in its place.
    return len(set(pq.ParquetFile(table).read()["batch"].to_pylist())) if table.exists() else 0


def kill_after_decision(folder: Path, number: int) -> None:
    """Launch the search and kill it as soon as this many decisions are in the table."""
    proposed = changing_file(folder / "runs" / "search" / "tables", "proposals")
    words = [sys.executable, str(commands.LAUNCH), "spec.toml", "--site", "serial"]
    with (folder / "log").open("a") as log:
        launched = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: decisions(proposed) >= number, "a decision", 300.0)
        assert launched.poll() is None, "it ended before it was killed"
    finally:
        launched.send_signal(signal.SIGKILL)
        reap(launched)


KILLED_AT_A_STATE = """
import sys
from pathlib import Path
from transtailor.__main__ import main
from tests.faults.moments import Fault, Moment, Watch

place = "runs/search/trials/*/checkpoint/*.checkpoint"
Watch(Path(), Path("../trace"), Fault("SIGKILL", Moment("remove", place), seed=0)).install()
sys.exit(main(["run", "spec.toml", "--site", "serial"]))
"""


def test_killed_it_continues_as_if_undisturbed_and_leaves_no_state(serial: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "spec.toml").write_text(SPEC)
    for parts in (1, 2):  # after the first decision, which precedes all trials, and after the second one
        kill_after_decision(folder, parts)
    killed = commands.in_own_process("-c", KILLED_AT_A_STATE, folder=folder)  # that of a trial that is not continued
    assert killed.returncode == -signal.SIGKILL, (tmp_path / "trace").read_text()
    assert [*folder.glob("runs/search/trials/*/checkpoint/*")]
    launch(folder, "--site", "serial")
    for sql in (DECISIONS, POINTS):
        assert rows(folder, sql) == rows(serial[0], sql)
    assert not [*folder.glob("runs/search/trials/*/checkpoint/*")]


def test_an_interrupt_counts_what_was_proposed_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        SPEC.replace("batch = 3", "batch = 1").replace("epochs = [1] }", "epochs = [2] }")
    )
    words = [sys.executable, str(commands.LAUNCH), "spec.toml", "--site", "serial"]
    begun = tmp_path / "runs" / "search" / "trials"
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: begun.is_dir() and len([*begun.iterdir()]) >= 3, "the third trial", 300.0, poll_s=0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode == 130
    (counted,) = re.findall(r"interrupted: \d+ of (\d+) trials are finished", said)
    assert int(counted) == len(rows(tmp_path, "SELECT DISTINCT trial_id FROM planned")) >= 3
