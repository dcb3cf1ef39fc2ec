"""`transtailor clean`: what nobody needs goes, everything else stays, and looking changes nothing."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from results.store.reader import finished_trial_ids, load
from results.store.writer import Writer
from sweeps.operations.clean import clean
from sweeps.planning.plan import Plan
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import RunLock
from tailor.execution.cache import Cache
from tests.faults.whole_files import description
from tests.sweeps.conftest import Command, WriteEnds

STRAY = ["0" * 63 + digit for digit in "123"]
OF_OLD_CODE = "a" * 64


@pytest.fixture
def cache(plan: Plan, run: RunFolder, tmp_path: Path) -> Cache:
    """A cache with all planned stages but the last trial's own, one that old code made, three strays, and leftovers."""
    made = Cache(tmp_path / "cache")
    planned = {stage.key for trial in plan.trials[:-1] for stage in trial.stages}
    for key in [*sorted(planned), OF_OLD_CODE, *STRAY]:
        made.write(key, replace(description({}), kind="stray" if key in STRAY else "known"), b"x" * 100)
    row = {
        "trial_id": plan.trials[0].trial_id, "stage_key": OF_OLD_CODE, "kind": "known", "kind_version": 0, "order": 0,
        "parents": [], "cached": False, "compute_s": 1.0, "device": "cpu", "ranks": 1, "torch_version": "2",
        "stored_bytes": 1, "tensors_sha256": "0" * 64, "code_digest": "0" * 64,
    }  # fmt: skip
    Writer(run.tables).write("stages", [row])
    for name in ("00/.0000.1.ab", "00/.damaged-0000-ab", "checkpoints"):
        (made.folder / name).mkdir(parents=True)
        (made.folder / name / "stage.json").write_text("{}")
    return made


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(run: RunFolder) -> list[str]:
    with load(run.path) as tables:
        return [str(row) for name in ("planned", "trials") for row in tables.rows(f"FROM {name} ORDER BY ALL")]


@pytest.fixture
def ended(run: RunFolder, plan: Plan, write_ends: WriteEnds) -> RunFolder:
    """The run with four finished trials, one that failed and one that has not ended; three have checkpoints."""
    ids = [trial.trial_id for trial in plan.trials]
    write_ends(run, [*ids[:3], ids[4]])
    write_ends(run, [ids[3]], "failed", "x")
    for trial_id in (ids[0], ids[3], ids[5]):
        (run.trial(trial_id) / "checkpoint").mkdir(parents=True)
        (run.trial(trial_id) / "checkpoint" / "x.safetensors").write_bytes(b"x" * 1000)
        run.begin_log(trial_id).write_text("{}\n")
    return run


def test_a_dry_run_changes_nothing_and_says_what_the_real_one_removes(
    sweeps_command: Command, ended: RunFolder
) -> None:
    before = tree(ended.path)
    dry = sweeps_command("clean", "runs/small", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert tree(ended.path) == before
    replaced = list((ended.path / ".writing").glob("*/*.replaced"))
    size_bytes = 1000 + sum(path.stat().st_size for path in replaced)
    assert replaced and f"{1 + len(replaced)} would be removed, {size_bytes:,} bytes" in dry.stdout
    real = sweeps_command("clean", "runs/small")
    assert real.stdout == dry.stdout.replace("would be removed", "removed")
    assert sweeps_command("clean", "runs/small").stdout == "nothing to remove\n"


def test_of_a_run_replaced_tables_and_checkpoints_of_finished_trials_go(
    sweeps_command: Command, ended: RunFolder, plan: Plan
) -> None:
    known, finished = rows(ended), finished_trial_ids(ended.path)
    before = tree(ended.path)
    assert sweeps_command("clean", "runs/small").returncode == 0
    after = tree(ended.path)
    gone = before.keys() - after.keys()
    checkpoint = f"trials/{plan.trials[0].trial_id}/checkpoint/x.safetensors"
    assert {name for name in gone if not name.endswith(".replaced")} == {checkpoint}
    assert {name: before[name] for name in after if name != "launch.lock"} == {
        name: content for name, content in after.items() if name != "launch.lock"
    }
    assert (rows(ended), finished_trial_ids(ended.path)) == (known, finished)
    assert len(open_run(ended).trials) == 6
    assert "| 6 | 4 | 0 | 1 | 1 |" in sweeps_command("status", "runs/small").stdout


def test_of_a_search_states_of_stopped_trials_go_but_not_of_one_that_was_continued(
    sweeps_command: Command, run: RunFolder, plan: Plan, write_ends: WriteEnds
) -> None:
    stopped, continued, resting = [trial.trial_id for trial in plan.trials[:3]]
    attempt = {
        "trial_id": continued, "attempt": 2, "driver": "d", "status": "rested", "host": "h", "code_digest": "c",
    }  # fmt: skip
    write_ends(run, [stopped, continued], "stopped")
    Writer(run.tables).write("attempts", [attempt | {"started_at": datetime.now(UTC)}])
    for trial_id in (stopped, continued, resting):
        run.checkpoint(trial_id).mkdir(parents=True)
        (run.checkpoint(trial_id) / "x").write_bytes(b"x" * 1000)
    assert re.search(r"checkpoint of stopped trials +1 +1,000 bytes", sweeps_command("clean", run.path).stdout)
    assert [run.checkpoint(trial_id).exists() for trial_id in (stopped, continued, resting)] == [False, True, True]


def test_of_a_cache_only_what_no_run_reaches_goes(sweeps_command: Command, cache: Cache) -> None:
    before = tree(cache.folder)
    dry = sweeps_command("clean", "cache", "--runs", "runs", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert tree(cache.folder) == before
    size_bytes = sum(len(content) for name, content in before.items() if Path(name).stem in STRAY)
    assert f"3 would be removed, {size_bytes:,} bytes" in dry.stdout
    assert sweeps_command("clean", "cache", "--runs", "runs").returncode == 0
    assert tree(cache.folder) == {name: c for name, c in before.items() if Path(name).stem not in STRAY}
    assert not any(cache.path(key).exists() for key in STRAY)
    assert cache.has(OF_OLD_CODE)


def test_runs_are_found_at_any_depth(sweeps_command: Command, cache: Cache) -> None:
    assert cache.has(STRAY[0])
    dry = sweeps_command("clean", "cache", "--runs", ".", "--dry-run")
    assert "3 would be removed" in dry.stdout


def test_what_a_killed_clean_up_left_goes_with_the_next(sweeps_command: Command, cache: Cache) -> None:
    cache.path(STRAY[0]).rename(cache.path(STRAY[0]).with_name(".removed-0123456789abcdef"))
    assert "left by an interrupted command" in sweeps_command("clean", "cache", "--runs", "runs").stdout
    assert not (cache.folder / "00" / ".removed-0123456789abcdef").exists()


def test_what_a_killed_launch_left_half_made_goes(cache: Cache, ended: RunFolder, plan: Plan) -> None:
    trial = ended.trial(plan.trials[0].trial_id)
    halves = [folder / ".x.0a1b2c3d.tmp" for folder in (ended.path, ended.path / ".writing" / "9", trial)]
    for half in halves:
        half.parent.mkdir(exist_ok=True)
        half.write_bytes(b"PAR1")
    said = "\n".join(clean(ended.path, None, dry_run=False))
    assert re.search(r"left by an interrupted command +3 +12 bytes", said)
    assert not any(half.exists() for half in halves)
    assert ended.logs(plan.trials[0].trial_id)
    young, old = (cache.folder / "00" / name for name in (".0000.1.ab", ".1111.2.cd"))
    old.mkdir()
    os.utime(old, (0.0, 0.0))
    assert "left by an interrupted command" in "\n".join(clean(cache.folder, ended.path.parent, dry_run=False))
    assert (young.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("cache",), "type --runs FOLDER"),
        (("cache", "--runs", "nowhere"), "no run below nowhere"),
        (("runs/small", "--runs", "runs"), "is a run: leave out --runs runs"),
        (("runs",), "neither the folder of a run"),
    ],
)
def test_mistakes_remove_nothing(
    sweeps_command: Command, cache: Cache, ended: RunFolder, words: tuple[str, ...], reason: str
) -> None:
    before = tree(cache.folder) | tree(ended.path)
    done = sweeps_command("clean", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert tree(cache.folder) | tree(ended.path) == before


def test_a_cache_of_other_runs_is_not_emptied(sweeps_command: Command, run: RunFolder, tmp_path: Path) -> None:
    assert run.path.exists()
    other = Cache(tmp_path / "other")
    other.write(STRAY[0], description({}), b"")
    done = sweeps_command("clean", "other", "--runs", "runs")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is it the cache of other runs?" in done.stderr
    assert other.has(STRAY[0])


def test_what_is_being_run_is_left_alone(sweeps_command: Command, cache: Cache, ended: RunFolder) -> None:
    before = tree(cache.folder)
    with RunLock(ended.lock):
        files = tree(ended.path)
        for words in (("runs/small",), ("cache", "--runs", "runs")):
            done = sweeps_command("clean", *words)
            assert (done.returncode, done.stdout) == (2, "")
            assert "running" in done.stderr or "is being run" in done.stderr
        assert tree(ended.path) == files
    (ended.path.parent / ".x@h@1@00000000.creating").mkdir()
    assert "is being made" in sweeps_command("clean", "cache", "--runs", "runs").stderr
    assert tree(cache.folder) == before


def test_where_rows_cannot_be_read_nothing_goes(sweeps_command: Command, cache: Cache, ended: RunFolder) -> None:
    file = ended.tables / "trials" / "trials.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    before = tree(cache.folder) | {name: c for name, c in tree(ended.path).items() if not name.endswith("lock")}
    for words in (("runs/small",), ("cache", "--runs", "runs")):
        done = sweeps_command("clean", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "torn" in done.stderr
    after = tree(cache.folder) | {name: c for name, c in tree(ended.path).items() if not name.endswith("lock")}
    assert after == before
