"""Sweeps in Python: defined, planned, run by a process of its own, followed, stopped; errors are the command's."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tailor
from hpc.errors import SiteError
from sweeps import Sweep, follow
from sweeps.errors import LaunchError, RunFolderError, SpecError
from sweeps.followed_run import FollowedRun
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome, Submission
from sweeps.spec.spec import load_spec
from tests import commands
from tests.sweeps.conftest import WriteEnds, created_run
from transtailor.sources import ROOT

TRIAL = {
    "network": "digits_vgg",
    "source": {"epochs": 1},
    "data": {"train_images": 64},
    "optimisation": {"epochs": 1, "head_epochs": 1},
    "method": {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.3},
}


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def small(name: str = "small", **tables: object) -> Sweep:
    return Sweep(name, trial=TRIAL, axes={"seed": [0]}, **tables)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(range(2), "range(0, 2) is a range, which"), ((0, 1), "(0, 1) is a tuple"), ([None], "None is a NoneType")],
)
def test_values_that_no_spec_has_are_named_by_their_type(seeds: object, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)) as refusal:
        Sweep("small", trial=TRIAL, axes={"seed": seeds})
    assert str(refusal.value).endswith("give text, a number, true or false, a list or a table")


@pytest.mark.long
def test_it_is_run_by_a_process_of_its_own_followed_and_its_best_model_saved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As docs/python.md does, whose test is test_python_page.py."""
    run = small().run("serial").wait()
    assert run.state == "finished" and run.counts() == {"finished": 1, "running": 0, "waiting": 0, "failed": 0}
    assert "1 of 1 trials finished" in capsys.readouterr().out
    assert "has ended; all trials are finished" in run.status() and "trial is over" in run.log()
    with run.results() as rows:
        best = rows.best().iloc[0]
    again = follow("runs/small")
    assert again.wait().state == "finished"
    model = tailor.load_model(str(again.save_model(best.trial_id, int(best.point), "saved")))
    assert sum(weights.numel() for weights in model.parameters()) == best.params
    assert f" --point {best.point} " in Path("saved/card.md").read_text()  # the command that makes this one again
    assert small().run("serial").wait().state == "finished"  # nothing is left to run


@pytest.mark.check
def test_a_launch_that_is_refused_says_what_the_command_says() -> None:
    created_run(small().plan("serial").plan, Path("runs"))
    with pytest.raises(LaunchError, match="No such option.*--bogus"):
        small().run("serial", options=["--bogus"])
    changed = Sweep("small", trial=TRIAL, axes={"seed": [0, 1]})
    with pytest.raises(LaunchError, match="--extend"):
        changed.run("serial")
    written = load_spec(Path("runs/small.toml"))
    assert (written.trial, written.axes) == (TRIAL, {"seed": [0, 1]})


@pytest.mark.check
def test_it_survives_this_process_and_is_stopped_from_another(capsys: pytest.CaptureFixture[str]) -> None:
    """A Python that ends right after `run()`; another one follows the run, stops it, and resumes it."""
    script = (
        "from sweeps import Sweep\n"
        "run = Sweep.read('demo', ['trial.source.epochs=400', 'axes.seed=[0]'], name='long').run('serial')\n"
        "import sys; print('ray' in sys.modules, run.state)"
    )
    home = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", script]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=500, env=home)
        assert done.stdout.split() == ["False", "running"], done.stderr
        assert follow("runs/long").state == "running"
    finally:
        run = follow("runs/long").stop()
    assert "was stopped" in capsys.readouterr().out
    assert run.state == "interrupted" and run.counts()["finished"] == 0


def test_a_dictionary_a_file_and_keywords_are_one_sweep() -> None:
    document = {"name": "small", "trial": TRIAL, "axes": {"seed": [0]}}
    Path("small.toml").write_text(small().spec.to_toml())
    specs = [small().spec, Sweep(**document).spec, Sweep.read("small.toml").spec]
    assert specs[0].to_toml() == specs[1].to_toml() == specs[2].to_toml()
    assert repr(small()) == "Sweep('small'): plan() shows its trials, run() runs them"
    assert document["trial"] is TRIAL and "imports" not in document  # the caller's dictionary is not changed


def test_the_plan_is_that_of_the_command(tmp_path: Path) -> None:
    Path("small.toml").write_text(small().spec.to_toml())
    plan = small().plan("serial")
    shown = commands.launch("small.toml", "--plan", "--site", "serial", "--format", "terminal", folder=tmp_path).stdout
    without_probe = shown.splitlines()[: len(str(plan).splitlines()) - 2]
    assert str(plan).splitlines()[: len(without_probe)] == without_probe
    assert "to measure one trial" in shown and "to measure one trial" not in str(plan)  # no file to name yet
    assert list(plan.trials["seed"]) == [0] and plan.trials["trial_id"][0] == plan.plan.trials[0].trial_id
    assert plan._repr_html_().startswith("<pre>")
    assert not Path("runs").exists()


def test_mistakes_are_those_of_the_command() -> None:
    with pytest.raises(SpecError, match="did you mean 'trial'"):
        Sweep("small", trail={})
    with pytest.raises(SpecError, match="cannot name a run folder; type a name of a-z"):
        Sweep("a/b")
    with pytest.raises(SpecError, match="did you mean"):
        Sweep.read("dmeo")
    with pytest.raises(SiteError, match="nowhere"):
        small().plan("nowhere")
    with pytest.raises(RunFolderError, match="nothing"):
        follow("runs/nothing")


def test_a_run_is_running_while_a_process_holds_it(tmp_path: Path) -> None:
    with RunLock(tmp_path / "launch.lock"):
        assert FollowedRun(tmp_path).state == "running"


def _launched_on_slurm_and_then_here(outcome: RunOutcome | None) -> RunFolder:
    """A run whose controller has ended with this outcome, or with none."""
    plan = small().plan("serial").plan
    run = created_run(plan, Path("runs"))
    run.cluster.mkdir(mode=0o700)
    run.submission.write_text(Submission(cache=Path("cache"), job="7").to_json())
    assert FollowedRun(run.path).state == "running"
    if outcome is not None:
        ClusterRun(run).set_outcome(outcome)
        assert FollowedRun(run.path).wait().state == "interrupted"
    time.sleep(0.05)  # files have other times
    created_run(plan, Path("runs"))
    return run


def test_a_controller_without_an_outcome_is_forgotten_when_the_run_is_launched_here(
    write_ends: WriteEnds,
) -> None:
    run = _launched_on_slurm_and_then_here(None)
    assert FollowedRun(run.path).state == "interrupted"
    write_ends(run, [trial.trial_id for trial in small().plan("serial").plan.trials])
    assert FollowedRun(run.path).wait().state == "finished"


def test_an_outcome_of_an_earlier_controller_does_not_end_the_wait_for_a_launch_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = _launched_on_slurm_and_then_here(RunOutcome(code=130, text="stopped"))
    monkeypatch.setattr("sweeps.followed_run.POLL_S", 0.05)
    holds = "import sys; from pathlib import Path; from sweeps.run.run_lock import RunLock\n"
    holds += "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read(1)"
    words = [sys.executable, "-c", holds, str(run.lock.resolve())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        holder.stdout.readline()
        followed, waited = FollowedRun(run.path), []
        thread = threading.Thread(target=lambda: waited.append(followed.wait().state))
        thread.start()
        thread.join(1.0)
        assert thread.is_alive() and followed.state == "running"
        holder.communicate(b"x")
        thread.join(30.0)
    assert waited == ["interrupted"]
