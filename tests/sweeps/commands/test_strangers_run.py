"""A run whose files somebody else has written: what it says is shown and not acted on, and none of it is executed."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import load_spec

Command = Callable[..., subprocess.CompletedProcess[str]]
WriteSpec = Callable[..., Path]

EVIL = "\x1b]0;x\x07\x1b[2J[/x] \u202e[bold]"
SHOWN = "\\x1b]0;x\\x07\\x1b[2J[/x] \\u202e[bold]"


@pytest.fixture
def run(write_spec: WriteSpec, tmp_path: Path) -> RunFolder:
    """A run that was never launched."""
    folder, lock, _ = start(make_plan(load_spec(write_spec())), tmp_path / "runs", extend=False, update_code=False)
    lock.release()
    return folder


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits a file of JSON."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def relabel(plan: dict[str, Any]) -> None:
    for number, trial in enumerate(plan["trials"].values()):
        trial["label"] = f"{EVIL}{number}"


def test_labels_that_would_act_on_the_terminal_are_shown(run: RunFolder, sweeps_command: Command) -> None:
    change(run.plan, relabel)
    first, second, *_ = json.loads(run.plan.read_text())["trials"]
    said = sweeps_command("explain", first, second).stdout
    assert SHOWN in said
    assert "\x1b" not in said


def test_errors_and_paths_that_would_act_on_the_terminal_are_shown(tmp_path: Path, sweeps_command: Command) -> None:
    done = sweeps_command("status", tmp_path / EVIL.replace("/", ""))
    assert done.returncode == 2
    assert SHOWN.replace("/", "") in done.stderr
    assert "\x1b" not in done.stderr


def test_a_label_is_printable(write_spec: WriteSpec, launch: Command) -> None:
    spec = write_spec(f'name = "x"\n[[variants]]\nlabel = {json.dumps(EVIL)}\nmethod.name = "head_only"\n')
    done = launch(spec, "--plan")
    assert (done.returncode, done.stdout) == (2, "")
    assert "[[variants]] 1 label: given '\\x1b]0;x" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", ["plan.json", "provenance.json"])
def test_a_run_that_is_nested_without_end_is_refused(run: RunFolder, name: str, sweeps_command: Command) -> None:
    (run.path / name).write_text('{"a":' * 5000)
    done = sweeps_command("status", run.path)
    assert done.returncode == 2
    assert f"{name} cannot be read: is nested more than 64 levels deep" in done.stderr


@pytest.mark.parametrize("deep", ["x = " + "[" * 5000, "x = " + "{x = " * 5000, "x." * 5000 + "x = 1"])
def test_a_spec_that_is_nested_without_end_is_refused(deep: str, write_spec: WriteSpec, launch: Command) -> None:
    done = launch(write_spec(f'name = "deep"\n[trial]\nmethod.name = "head_only"\n{deep}\n'), "--plan")
    assert done.returncode == 2
    assert "is nested more than 64 levels deep" in done.stderr
    typed = launch("--plan", "--set", f"trial.{'x.' * 5000}x=1")
    assert typed.returncode == 2
    assert "is not key=value" in typed.stderr


def test_a_torn_line_of_a_log_is_shown_as_it_is(run: RunFolder, sweeps_command: Command) -> None:
    trial = next(iter(json.loads(run.plan.read_text())["trials"]))
    run.log(trial).parent.mkdir()
    whole = '{"at": "now", "level": "INFO", "text": "\\u001b[2J begins"}'
    run.log(trial).write_text(f'{whole}\n[1]\n{{"at": "n\n{"[" * 5000}\n')
    done = sweeps_command("logs", run.path, trial)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f'now INFO \\x1b[2J begins\n[1]\n{{"at": "n\n{"[" * 5000}\n'
