"""Run folders: made whole or not at all, found damaged, locked by one launch at a time, gone on with, extended."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow.parquet as pq
import pytest

from results.store.reader import load
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan, make_plan
from sweeps.run.abandoned import remove_abandoned
from sweeps.run.relaunch import start
from sweeps.run.run_folder import FORMAT, RunFolder, create_run, open_run, save_code
from sweeps.run.run_lock import RunLock, holder_of
from sweeps.spec.spec import load_spec
from tailor.config.trial import settings_read
from tests.sweeps.conftest import Command, WriteSpec, created_run
from transtailor.sources import code_digest, sources

# Started in a process of its own: makes the run and kills itself at the n-th file operation below the folder of runs.
KILLED_CREATION = """
import os, signal, sys
from pathlib import Path
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.spec.spec import load_spec
import results.store.writer

spec, runs, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
plan = make_plan(load_spec(Path(spec)))
seen = 0

def watch(event, arguments):
    global seen
    if event in ("open", "os.mkdir", "os.rename") and runs in str(arguments[0]):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
start(plan, Path(runs), extend=False, update_code=False)
print(seen)
"""


def go_on(
    plan: Plan, run: RunFolder, *, extend: bool = False, update_code: bool = False, site: str | None = None
) -> str:
    """Launch `plan` on the runs that `run` is in; what was done."""
    _, lock, what = start(plan, run.path.parent, extend=extend, update_code=update_code, options={"site": site})
    lock.release()
    return what


def planned_ids(run: RunFolder) -> set[str]:
    """Ids in the table `planned`."""
    with load(run.path) as rows:
        return {row["trial_id"] for row in rows.rows("SELECT trial_id FROM planned")}


def files_of(run: RunFolder) -> dict[str, bytes]:
    """Content of every file of a run, but for the lock."""
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path != run.lock}


def test_a_new_run_holds_all_that_it_was_made_of(run: RunFolder, plan: Plan) -> None:
    record = open_run(run)
    assert list(record.trials) == [trial.trial_id for trial in plan.trials]
    assert [trial.settings for trial in record.trials.values()] == [trial.settings for trial in plan.trials]
    assert planned_ids(run) == set(record.trials)
    assert make_plan(load_spec(run.spec)).trials == plan.trials
    files = sources()
    assert record.code_digest == code_digest(files)
    with ZipFile(run.code_copy(record.code_digest)) as copy:
        assert {Path(name): copy.read(name) for name in copy.namelist()} == files
    created = record.provenance["created"]
    assert created["packages"]["pyarrow"] == __import__("pyarrow").__version__
    assert created["command"].endswith(shlex.join(sys.argv))
    assert created["code_digest"] == record.code_digest
    assert [entry["what"] for entry in record.provenance["history"]] == ["created with 6 trials"]
    assert [path.name for path in run.path.parent.iterdir()] == ["small"]


def test_planned_rows_say_what_the_plan_says(run: RunFolder, plan: Plan) -> None:
    with load(run.path) as rows:
        found = {row["trial_id"]: row for row in rows.rows("SELECT * FROM planned")}
    for trial in plan.trials:
        row = found[trial.trial_id]
        assert (row["sweep"], row["method"]) == ("small", trial.settings.method)
        assert (row["label"], row["arm"]) == (trial.label, trial.arm)
        assert (row["network"], row["dataset"], row["seed"]) == ("digits_vgg", "digits", trial.settings.seed)
        assert (row["ranks"], row["points_planned"]) == (1, 1)
        assert row["stage_keys"] == [stage.key for stage in trial.stages]
        settings = settings_read(trial.settings.values, trial.unread)
        assert json.loads(row["config_json"]) == settings | {"method": settings["method"] | dict(trial.resolved)}


@pytest.mark.check
def test_killed_while_it_is_made_leaves_no_half_run(write_spec: WriteSpec, plan: Plan, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    whole = _killed_creation(write_spec(), tmp_path / "elsewhere", 0)
    assert whole.returncode == 0
    operations = int(whole.stdout)
    for kill_at in (2, operations // 2, operations - 8, operations - 1, operations):
        assert _killed_creation(write_spec(), runs, kill_at).returncode == -9
        if RunFolder(runs / "small").path.exists():
            assert set(open_run(RunFolder(runs / "small")).trials) == {trial.trial_id for trial in plan.trials}
        assert len(list(runs.glob(".*.creating"))) <= 1  # each creation removes what the one before left
    assert list(runs.glob(".*.creating")) or (runs / "small").exists()
    run = created_run(plan, runs)
    assert planned_ids(run) == {trial.trial_id for trial in plan.trials}
    remove_abandoned(runs)
    assert [path.name for path in runs.iterdir()] == ["small"]


def test_an_interrupt_right_after_it_has_its_name_leaves_a_whole_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, synced = tmp_path / "runs", os.fsync

    def interrupted(handle: int) -> None:  # found by benchmarks/faults.py: life 392 of seed 0
        if (runs / "small").exists():
            raise KeyboardInterrupt
        synced(handle)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", interrupted)
        start(plan, runs, extend=False, update_code=False)
    _, lock, what = start(plan, runs, extend=False, update_code=False)
    lock.release()
    assert what == "resumed"


@pytest.mark.check
def test_of_launches_at_the_same_moment_one_makes_the_run(write_spec: WriteSpec, tmp_path: Path) -> None:
    script = KILLED_CREATION.replace("start(plan", "print(start(plan").replace(
        "update_code=False)", "update_code=False)[2])"
    )
    command = [sys.executable, "-c", script, str(write_spec()), str(tmp_path / "runs"), "0"]
    pipe = subprocess.PIPE
    launches = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    said = [launch.communicate() for launch in launches]
    assert [out.splitlines()[0] for out, _ in said if out.startswith("created")] == ["created"]
    assert all(out.startswith(("created", "resumed")) or "is being run already" in err for out, err in said)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]


def _killed_creation(spec: Path, runs: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED_CREATION, str(spec), str(runs), str(kill_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_only_our_own_dead_creations_are_removed(tmp_path: Path) -> None:
    host = os.uname().nodename
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        "dead": f".small@{host}@{dead.pid}@0123abcd.creating",
        "alive": f".small@{host}@{os.getpid()}@0123abcd.creating",
        "another host": f".small@not-{host}@{dead.pid}@0123abcd.creating",
        "somebody else's": ".something.creating",
        "locked": f".small@{host}@{dead.pid}@ffffffff.creating",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
    with RunLock(RunFolder(tmp_path / names["locked"]).lock):
        remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names.values()) - {names["dead"]}


def test_a_creation_that_fails_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "small").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        create_run(plan, runs, {"code_digest": "0" * 64, "packages": {}}, sources())
    assert [path.name for path in runs.iterdir()] == ["small"]
    assert list((runs / "small").iterdir()) == []


def _newer(run: RunFolder) -> None:
    run.plan.write_text(run.plan.read_text().replace(f'"format": {FORMAT}', '"format": 99'))


def _older(run: RunFolder) -> None:
    run.plan.write_text(run.plan.read_text().replace(f'"format": {FORMAT}', '"format": 1'))


def _torn_rows(run: RunFolder) -> None:
    part = next((run.tables / "planned").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])


DAMAGES = {
    "no plan": (lambda run: run.plan.unlink(), "has no plan.json"),
    "half a plan": (lambda run: os.truncate(run.plan, 1000), "plan.json cannot be read"),
    "plan of another program": (
        lambda run: run.plan.write_text(f'{{"format": {FORMAT}, "steps": []}}'),
        "lacks an entry",
    ),
    "plan without format": (lambda run: run.plan.write_text("{}"), "no format number"),
    "newer plan": (_newer, "another version"),
    "older plan": (_older, "another version"),
    "binary provenance": (lambda run: run.provenance.write_bytes(b"\xff\xfe"), "provenance.json cannot be read"),
    "no provenance": (lambda run: run.provenance.unlink(), "has no provenance.json"),
    "provenance without history": (lambda run: run.provenance.write_text(f'{{"format": {FORMAT}}}'), "lacks an entry"),
    "no spec": (lambda run: run.spec.unlink(), "has no spec.toml"),
    "torn rows": (_torn_rows, "is torn"),
    "no rows": (lambda run: shutil.rmtree(run.tables / "planned"), "has no planned"),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_run_is_refused_and_left_alone(
    run: RunFolder, plan: Plan, damage: Callable[[RunFolder], Any], expected: str
) -> None:
    damage(run)
    before = files_of(run)
    with pytest.raises(RunFolderError, match=expected) as refusal:
        go_on(plan, run)
    assert str(run.path) in str(refusal.value)
    assert files_of(run) == before


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_a_folder_that_is_no_run_is_refused_and_left_alone(plan: Plan, tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    if content:
        (folder / content).write_text("mine")
    with pytest.raises(RunFolderError, match="is not the folder of a run: it has no plan.json; type one"):
        go_on(plan, RunFolder(folder))
    assert [path.name for path in folder.iterdir()] == ([content] if content else [])


def test_a_file_in_place_of_the_run_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "small").write_text("mine")
    with pytest.raises(RunFolderError, match="is a file"):
        go_on(plan, RunFolder(tmp_path / "small"))


def test_the_same_spec_goes_on(run: RunFolder, plan: Plan) -> None:
    before = files_of(run)
    assert go_on(plan, run) == "resumed"
    after = files_of(run)
    assert {path for path in after if after[path] != before.get(path)} == {str(run.provenance)}
    history = open_run(run).provenance["history"]
    assert [entry["what"] for entry in history] == ["created with 6 trials", "resumed"]
    assert history[1]["other_packages"] == {}


def test_other_resources_are_no_other_spec(run: RunFolder, write_spec: WriteSpec) -> None:
    assert go_on(make_plan(load_spec(write_spec(), ["resources.ranks=2"])), run) == "resumed, with other resources"
    assert make_plan(load_spec(run.spec)).resources.ranks == 2  # a controller plans from this file


def test_more_trials_need_extend_and_keep_the_old(run: RunFolder, plan: Plan, write_spec: WriteSpec) -> None:
    grown = make_plan(load_spec(write_spec(), ["axes.seed=[0,1,2]"]))
    before = files_of(run)
    with pytest.raises(RunFolderError, match=r"3 trials added, 0 removed(.|\n)*seed: 0, 1 -> 0, 1, 2(.|\n)*--extend"):
        go_on(grown, run)
    assert files_of(run) == before
    assert go_on(grown, run, extend=True) == "extended by 3 trials"
    assert planned_ids(run) == set(open_run(run).trials) == {trial.trial_id for trial in grown.trials}
    (file,) = (run.tables / "planned").iterdir()
    assert pq.read_metadata(file).num_rows == 9
    assert go_on(grown, run) == "resumed"
    with pytest.raises(RunFolderError, match="3 removed") as refusal:
        go_on(plan, run, extend=True)
    assert str(refusal.value).endswith(f"transtailor run {run.path} --retry")  # what was typed may have been edited


def test_cut_off_while_it_is_extended_it_can_be_extended_again(run: RunFolder, write_spec: WriteSpec) -> None:
    old_plan = run.plan.read_bytes()
    grown = make_plan(load_spec(write_spec(), ["axes.seed=[0,1,2]"]))
    go_on(grown, run, extend=True)
    run.plan.write_bytes(old_plan)  # the last thing that an extension writes
    assert go_on(grown, run, extend=True) == "extended by 3 trials"
    assert planned_ids(run) == set(open_run(run).trials) == {trial.trial_id for trial in grown.trials}


@pytest.mark.parametrize("extend", [False, True])
def test_changed_trials_are_shown_and_refused(run: RunFolder, write_spec: WriteSpec, extend: bool) -> None:
    changed = make_plan(load_spec(write_spec(), ["trial.optimisation.epochs=3", "axes.seed=[0,5]"]))
    before = files_of(run)
    with pytest.raises(RunFolderError) as refusal:
        go_on(changed, run, extend=extend)
    message = str(refusal.value)
    for part in ("6 trials added, 6 removed", "optimisation.epochs: 25 -> 3", "seed: 0, 1 -> 0, 5", "--name"):
        assert part in message
    assert "--extend keeps all old trials, under their labels: to add values to an axis, list the old ones" in message
    assert files_of(run) == before


def test_a_renamed_arm_is_a_change(run: RunFolder, write_spec: WriteSpec) -> None:
    text = write_spec().read_text().replace('method.name = "head_only"', 'method.name = "head_only"\nlabel = "head"')
    with pytest.raises(RunFolderError, match=r"0 trials added, 0 removed, 2 renamed\n.*label: .*head_only.* -> .*head"):
        go_on(make_plan(load_spec(write_spec(text))), run, extend=True)


def test_changed_code_is_refused_unless_it_is_wanted(run: RunFolder, plan: Plan) -> None:
    _made_with_other_code(run)
    before = files_of(run)
    with pytest.raises(RunFolderError, match=r"other code(.|\n)*--update-code"):
        go_on(plan, run)
    assert files_of(run) == before
    now = code_digest(sources())
    assert go_on(plan, run, update_code=True) == f"resumed, with new code {now[:12]}"
    record = open_run(run)
    assert record.code_digest == now
    assert [entry["code_digest"] for entry in record.provenance["history"]] == ["f" * 64, now]
    assert sorted(path.name for path in run.code.iterdir()) == sorted([f"{'f' * 12}.zip", f"{now[:12]}.zip"])
    assert go_on(plan, run) == "resumed"


def _made_with_other_code(run: RunFolder) -> None:
    """Let the run say that it was made with code of another digest."""
    digest = open_run(run).code_digest
    run.provenance.write_text(run.provenance.read_text().replace(digest, "f" * 64))
    run.code_copy(digest).rename(run.code_copy("f" * 64))


def test_what_is_to_be_typed_shows_how_the_code_has_changed(run: RunFolder, plan: Plan, tmp_path: Path) -> None:
    digest = "f" * 64
    run.provenance.write_text(run.provenance.read_text().replace(open_run(run).code_digest, digest))
    for for_jobs in (False, True):
        save_code(run, digest, {Path("sweeps/launch.py"): b"before"}, for_jobs=for_jobs)
        with pytest.raises(RunFolderError) as refusal:
            go_on(plan, run)
        (typed,) = re.findall("to compare: (.*)\\); type", str(refusal.value))
        done = subprocess.run(typed, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602
        differing = [line for line in done.stdout.splitlines() if not line.startswith("Only in")]
        assert "< before" in differing and all("launch.py" in line for line in differing if line.startswith("diff"))


@pytest.mark.parametrize("for_jobs", [False, True])
def test_a_copy_of_the_code_is_made_once(run: RunFolder, for_jobs: bool) -> None:
    for content in (b"first", b"second"):
        save_code(run, "a" * 64, {Path("tailor/x.py"): content}, for_jobs=for_jobs)
    if for_jobs:
        assert (run.code_of("a" * 64) / "tailor/x.py").read_bytes() == b"first"
    else:
        assert ZipFile(run.code_copy("a" * 64)).read("tailor/x.py") == b"first"


def test_jobs_get_a_folder_of_the_code_also_in_a_run_that_had_none(run: RunFolder, plan: Plan) -> None:
    folder = run.code_of(open_run(run).code_digest)
    assert not folder.exists()
    for _ in range(2):
        _, lock, what = start(plan, run.path.parent, extend=False, update_code=False, for_jobs=True)
        lock.release()
        assert what == "resumed"
        assert sources(folder) == sources()


def test_on_a_disk_that_is_full_while_the_code_is_copied_nothing_is_made_and_the_same_goes_on(
    launch: Command, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def no_space(handle: int) -> None:
        if ".zip." in os.readlink(f"/proc/self/fd/{handle}"):  # noqa: PTH115
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        refused = launch("spec.toml", "--site", "serial")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "No space left" in refused.stderr and "Traceback" not in refused.stderr
    assert list((tmp_path / "runs").iterdir()) == []
    _, lock, what = start(plan, tmp_path / "runs", extend=False, update_code=False)
    lock.release()
    assert what == "created"


def test_two_launches_on_one_run_are_refused_and_a_dead_one_is_not(run: RunFolder, plan: Plan) -> None:
    script = "import sys; from pathlib import Path; from sweeps.run.run_lock import RunLock\n"
    script += "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(run.lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert (holder_of(run.lock) or {})["pid"] == other.pid
        before = files_of(run)
        with pytest.raises(RunFolderError, match=rf"process {other.pid} on {os.uname().nodename} since 20"):
            go_on(plan, run)
        assert files_of(run) == before
        other.kill()
    assert holder_of(run.lock) is None
    assert go_on(plan, run) == "resumed"


def test_the_lock_does_not_pass_to_programs_that_the_launch_starts(run: RunFolder, plan: Plan) -> None:
    _, lock, _ = start(plan, run.path.parent, extend=False, update_code=False)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        assert go_on(plan, run) == "resumed"
        child.kill()


def test_a_refused_launch_lets_go_of_the_lock(run: RunFolder, write_spec: WriteSpec) -> None:
    with pytest.raises(RunFolderError):
        go_on(make_plan(load_spec(write_spec(), ["axes.seed=[9]"])), run)
    assert holder_of(run.lock) is None


def test_with_and_without_sharing_do_not_mix(run: RunFolder, plan: Plan) -> None:
    with pytest.raises(RunFolderError, match="with sharing, this launch is one without sharing"):
        go_on(replace(plan, private_cache=True), run)
