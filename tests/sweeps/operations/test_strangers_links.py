"""A run whose names and links lead out of its folder: nothing is removed, replaced or written where they lead."""

import json
import os
import shutil
from pathlib import Path

import pytest

from results.errors import ResultsError
from results.store.writer import Writer
from sweeps.planning.plan import Plan
from sweeps.run.run_folder import RunFolder, open_run
from tests.commands import transtailor_command
from tests.sweeps.conftest import Command, WriteEnds, created_run

pytestmark = pytest.mark.check


@pytest.fixture
def run(plan: Plan, write_ends: WriteEnds, tmp_path: Path) -> RunFolder:
    """A run with replaced files, two trials that have finished, and a third one's checkpoint."""
    folder = created_run(plan, tmp_path / "runs")
    first, second, third, *_ = open_run(folder).trials
    for trial_id in (first, second):
        write_ends(folder, [trial_id])
    (folder.trial(third) / "checkpoint").mkdir(parents=True)
    return folder


def victim(tmp_path: Path) -> Path:
    """Somebody's folder beside the run, with names that commands know."""
    folder = tmp_path / "mine"
    for name in ("checkpoint", "private_cache"):
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.tex").write_text("years")
    (folder / ".half.tmp").write_text("x")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["absolute", "../../../mine", "link"])
def test_clean_removes_no_folder_to_which_a_finished_trial_leads(
    how: str, run: RunFolder, write_ends: WriteEnds, tmp_path: Path, sweeps_command: Command
) -> None:
    mine = victim(tmp_path)
    before = tree(mine)
    if how == "link":
        run.trial(next(iter(open_run(run).trials))).symlink_to(mine)
    else:
        write_ends(run, [str(mine) if how == "absolute" else how])
    done = sweeps_command("clean", "runs/small")
    assert tree(mine) == before
    assert (done.returncode, "leads out of runs/small" in done.stderr) == (2, True), done.stdout + done.stderr
    assert list(run.path.glob(".writing/*/*.replaced"))  # what was to go, too


def test_a_plan_with_trials_elsewhere_is_no_run(run: RunFolder, sweeps_command: Command) -> None:
    said = json.loads(run.plan.read_text())
    said["trials"]["../../mine"] = next(iter(said["trials"].values()))
    run.plan.write_text(json.dumps(said))
    for words in (("status", "runs/small"), ("logs", "runs/small", "..")):
        done = sweeps_command(*words)
        assert done.returncode == 2
        assert "plan.json names a trial '../../mine'" in done.stderr


@pytest.mark.parametrize("place", ["tables/trials", "tables", ".writing", ".writing/9"])
def test_no_row_is_written_where_links_lead(place: str, run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "runs" / "stranger")
    stranger = tmp_path / "runs" / "stranger"
    for folder in (run.path, stranger):
        (folder / place).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stranger / place)
    (stranger / place).symlink_to(run.path / place)
    before = tree(run.path)
    with pytest.raises(ResultsError, match="leads out of"):
        Writer(stranger / "tables")
    assert tree(run.path) == before


@pytest.mark.parametrize("link", ["export", "export/tensorboard"])
def test_an_export_writes_to_no_folder_to_which_a_link_leads(link: str, run: RunFolder, tmp_path: Path) -> None:
    mine = victim(tmp_path)
    (mine / "tensorboard").mkdir()
    (mine / "trials.csv").write_text("years")
    (mine / "tensorboard" / "trials.csv").write_text("years")
    (run.path / link).parent.mkdir(exist_ok=True)
    (run.path / link).symlink_to(mine)
    before = tree(mine)
    done = transtailor_command("export", "runs/small", "--to", "tensorboard", folder=tmp_path)
    assert tree(mine) == before
    assert (done.returncode, "leads out of" in done.stderr) == (2, True)
    out = tmp_path / "out"
    out.symlink_to(mine / "tensorboard")  # named by the user
    named = transtailor_command("export", "runs/small", "--to", "tensorboard", "--out", "out", folder=tmp_path)
    assert "leads out of" not in named.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", ["plan.json", "provenance.json"])
def test_what_is_no_file_is_not_waited_for(place: str, run: RunFolder, sweeps_command: Command) -> None:
    """An archive can hold a pipe, whose reader waits for ever for somebody who writes, and a link to /dev/zero."""
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run.path / place).unlink(missing_ok=True)
        make(run.path / place)
        done = sweeps_command("status", "runs/small")
        assert (done.returncode, Path(place).name in done.stderr) == (2, True)


@pytest.mark.timeout(120)
def test_a_log_or_part_that_is_no_file_is_not_waited_for(run: RunFolder, sweeps_command: Command) -> None:
    trial = next(iter(open_run(run).trials))
    run.trial(trial).mkdir(parents=True)
    os.mkfifo(run.trial(trial) / "log-0001.jsonl")
    os.mkfifo(run.tables / "trials" / "copy.parquet")
    for words in (("logs", "runs/small", trial), ("logs", "runs/small"), ("status", "runs/small")):
        done = sweeps_command(*words)
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
