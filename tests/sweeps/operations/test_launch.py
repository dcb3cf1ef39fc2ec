"""The command line: `--plan` is instant and writes nothing, launching again goes on, exit codes and last lines."""

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.planning.cost import cost_of
from sweeps.planning.plan import Plan, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import load_spec
from tests.commands import LAUNCH
from tests.faults.invariants import count_stages
from tests.sweeps.conftest import Command, WriteEnds, WriteSpec

HEAVY = ("torch", "ray", "pandas", "scipy", "torch_pruning", "torchvision", "sklearn", "matplotlib")
LIST_IMPORTS = """
import runpy, sys
script, *commands = sys.argv[1:]
for words in commands:
    sys.argv = [script, *words.split()]
    sys.path.insert(0, "")  # runpy does not put the script's folder there, whose removal is tested elsewhere
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code
    print("HEAVY", code, *[name for name in {heavy!r} if name in sys.modules])
"""


@pytest.fixture
def finished_run(plan: Plan, run: RunFolder, write_ends: WriteEnds) -> RunFolder:
    """A run of the small sweep of which all trials are finished."""
    write_ends(run, [trial.trial_id for trial in plan.trials])
    return run


def test_plan_of_the_embedded_sweep_from_another_folder(launch: Command, tmp_path: Path) -> None:
    done = launch("--plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert "sweep     demo: 60 trials, each on 1 rank of" in done.stdout
    assert "504 asked for, 367 distinct, 0 already cached" in done.stdout
    assert "runs/demo does not exist yet" in done.stdout
    assert sum("digits_resnet" in line for line in done.stdout.splitlines()) == 60


@pytest.mark.usefixtures("finished_run")
def test_plan_and_help_import_nothing_heavy(tmp_path: Path) -> None:
    """The last one shows the run that is there."""
    typed = ["--help", "--plan", "spec.toml --plan"]
    command = [sys.executable, "-c", LIST_IMPORTS.format(heavy=HEAVY), str(LAUNCH), *typed]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    *said, rest = done.stdout.split("HEAVY 0\n")
    assert (len(said), rest) == (3, ""), done.stdout + done.stderr
    assert ["6 of 6 trials are finished" in text for text in said] == [False, False, True]


@pytest.mark.parametrize("has_environment", [True, False])
def test_a_python_without_the_program_says_which_one_has_it(tmp_path: Path, has_environment: bool) -> None:
    script = tmp_path / "sweeps" / "launch.py"
    script.parent.mkdir()
    shutil.copy(LAUNCH, script)
    own = tmp_path / ".venv" / "bin" / "python"
    if has_environment:
        own.parent.mkdir(parents=True)
        own.touch()
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(script), "my.toml", "--plan"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    typed = ".venv/bin/python sweeps/launch.py my.toml --plan" if has_environment else "make demo"
    assert done.stderr.startswith("error: this Python, ") and done.stderr.endswith(f"type: {typed}\n")


def test_a_module_beside_the_script_shadows_no_library(tmp_path: Path) -> None:
    """With a `ray.py` and a `json.py` beside it, the script still gets the libraries of these names."""
    copy = tmp_path / "sweeps"
    copy.mkdir()
    shutil.copy(LAUNCH, copy)
    for name in ("ray", "json", "pydantic", "argparse", "plan"):
        (copy / f"{name}.py").write_text("raise ImportError('shadowed')\n")
    done = subprocess.run(
        [sys.executable, str(copy / "launch.py"), "--plan"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("trained")
def test_plan_counts_cached_stages(launch: Command, tmp_path: Path) -> None:
    plan = make_plan(load_spec(tmp_path / "trained.toml"))
    keys = sorted({stage.key for trial in plan.trials for stage in trial.stages})
    for cache, cached in (("cache", len(keys)), ("none", 0)):
        done = launch("trained.toml", "--plan", "--runs", "others", "--cache", cache)
        assert f"{len(keys)} distinct, {cached} already cached" in done.stdout


def test_a_launch_notes_when_it_began_and_ended(trained: RunFolder) -> None:
    with load(trained.path) as tables:
        events = tables.rows("SELECT kind, detail FROM events ORDER BY number")
    assert [(row["kind"], row["detail"]) for row in events] == [
        ("controller_started", "on site serial"), ("stopped", None),
    ]  # fmt: skip


def test_plan_lists_every_trial_with_what_varies(launch: Command, write_spec: WriteSpec) -> None:
    plan = make_plan(load_spec(write_spec(), ["axes.source.seed=[4,5]"]))
    lines = launch(write_spec(), "--plan", "--set", "axes.source.seed=[4,5]").stdout.splitlines()
    rows = {line.split(" | ")[0]: line for line in lines if line}
    for trial in plan.trials:
        row = rows[f"| {trial.trial_id}"]
        assert f" | {trial.label} | " in row
        assert row.endswith(f" | to run | source.seed={trial.settings.values['source']['seed']} |")


def test_plan_for_programs_and_for_a_narrow_screen(
    launch: Command, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan = make_plan(load_spec(write_spec()))
    tables = json.loads(launch(write_spec(), "--plan", "--format", "json").stdout)["tables"]
    assert [(row["trial_id"], row["arm"], row["seed"]) for row in tables["trials"]] == [
        (trial.trial_id, trial.label, trial.settings.seed) for trial in plan.trials
    ]
    assert [(row["against"], row["factor"]) for row in tables["sharing"]] == [
        (baseline.name, baseline.factor) for baseline in cost_of(plan.trials, lambda _: False).baselines.leading_first()
    ]
    said = launch(write_spec(), "--plan", "--limit", "2").stdout
    assert "... 4 more rows of 6" in said and "sweep     small: 6 trials" in said
    narrow = launch(write_spec(), "--plan", "--format", "terminal").stdout.splitlines()
    assert narrow[0].split() == ["trial", "arm", "seed", "state", "stages", "points"]
    assert "not shown: network, data, settings within its arm; all columns: --wide" in narrow


def test_plan_can_be_cut_short(tmp_path: Path) -> None:
    words = [sys.executable, str(LAUNCH), "--plan", "--set", f"axes.seed={list(range(60))}"]
    command = f"{shlex.join(words)} | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stdout.startswith("| trial | ")
    assert done.stderr == ""


def test_all_finished_says_so_ends_with_the_report_and_keeps_the_command(
    launch: Command, finished_run: RunFolder, write_spec: WriteSpec
) -> None:
    with load(finished_run.path) as run:
        attempts = run.rows("FROM attempts ORDER BY ALL")
    done = launch(write_spec(), "--site", "serial")
    assert (done.returncode, done.stderr) == (0, "")
    with load(finished_run.path) as run:
        assert run.rows("FROM attempts ORDER BY ALL") == attempts  # no trial was begun again
    assert "all 6 trials are finished" in done.stdout
    assert done.stdout.splitlines()[-1] == "runs/small/report.html"
    assert finished_run.report.is_file()
    assert "transtailor status runs/small" in done.stdout
    last = json.loads(finished_run.provenance.read_text())["history"][-1]
    assert (last["options"]["site"], last["what"]) == ("serial", "resumed")
    elsewhere = launch(write_spec(), "--site", "local")
    assert "runs/small: resumed, on site local, before on serial: the speed of trials may differ\n" in elsewhere.stdout


@pytest.mark.parametrize(("option", "code"), [((), 130), (("--plan",), 0)], ids=["run", "plan"])
def test_a_sweep_that_ends_because_its_output_is_closed_is_not_finished(
    tmp_path: Path, write_spec: WriteSpec, option: tuple[str, ...], code: int
) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, str(LAUNCH), str(write_spec()), "--site", "serial", *option]
    done = subprocess.run(words, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (code, "")


QUICK = ("--site", "serial", "--set", "trial.source.epochs=1", "--set", "trial.optimisation.head_epochs=1")


@pytest.mark.check
def test_failed_trials_are_named_with_their_log_and_end_with_one(launch: Command, write_spec: WriteSpec) -> None:
    diverging = ("--set", "trial.optimisation.epochs=1", "--set", "trial.optimisation.head_learning_rate=1e38")
    done = launch(write_spec(), *QUICK, *diverging, "--set", "axes.seed=[0]")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    plan = make_plan(load_spec(write_spec(), [QUICK[3], QUICK[5], diverging[1], diverging[3], "axes.seed=[0]"]))
    lines = done.stdout.splitlines()
    for trial in plan.trials:
        assert any(line.startswith(f"failed: trial {trial.trial_id} ({trial.label}, seed 0): ") for line in lines)
        assert any(line.endswith(f" logs runs/small {trial.trial_id}") for line in lines)
        assert len(RunFolder(write_spec().parent / "runs/small").logs(trial.trial_id)) == 2  # its rank's, the driver's
    assert any(re.match(r"to try them again, type: \S*python ", line) for line in lines)
    assert lines[-1] == "runs/small/report.html"
    with load(write_spec().parent / "runs/small") as tables:
        ended = tables.rows("SELECT status, attempts, error FROM trials")
        tries = tables.rows("SELECT status, cause FROM attempts")
    assert [(row["status"], row["attempts"]) for row in ended] == [("failed", 1)] * len(plan.trials)  # not tried again
    assert [(row["status"], row["cause"]) for row in tries] == [("failed", row["error"]) for row in ended]
    text = html.unescape((write_spec().parent / lines[-1]).read_text())
    report = text[text.index('id="failures"') :]
    for row in ended:
        assert re.fullmatch(r"TrainingError: stage fit_head \([0-9a-f]{12}\): .*\bepoch 0\b.*", row["error"])
        assert row["error"] in report


@pytest.mark.check
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    launch: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    arguments = [str(write_spec()), *QUICK, "--set", "axes.seed=[0]", "--set", "trial.optimisation.epochs=10"]
    command = [sys.executable, str(LAUNCH), *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        while not count_stages(tmp_path / "cache"):
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate()
    assert (first.returncode, "Traceback" in err) == (130, False), err
    assert "of 3 trials are finished" in out
    assert re.search(rf"to resume, type: \S*python {re.escape(shlex.join(command[1:]))}\n", out)
    second = launch(*arguments)
    assert (second.returncode, second.stdout.splitlines()[0]) == (0, "runs/small: resumed"), second.stderr
    assert "3 of 3 trials finished, 0 failed" in second.stdout


def test_several_trials_may_be_chosen(write_spec: WriteSpec, launch: Command, plan: Plan) -> None:
    first, second = (trial.trial_id for trial in plan.trials[:2])
    said = launch(write_spec(), "--only", first, "--only", second, "--plan")
    chosen = [trial.trial_id for trial in plan.trials if f"| {trial.trial_id} |" in said.stdout]
    assert said.returncode == 0 and chosen == [first, second], said.stdout + said.stderr
