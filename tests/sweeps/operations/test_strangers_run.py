"""A run whose files somebody else has written: what it says is shown and not acted on, and none of it is executed."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.planning.plan import Plan, make_plan
from sweeps.run.run_folder import FORMAT, RunFolder
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import SMALL_SPEC, Command, WriteSpec, created_run
from transtailor.files import write_file

pytestmark = pytest.mark.check
EVIL = "\x1b]0;x\x07\x1b[2J[/x] \u202e[bold]"
RETRIED = {"site": "serial", "cache": "cache", "only": [], "again": [], "no_sharing": True, "max_disk_gb": 50.0}
SHOWN = "\\x1b]0;x\\x07\\x1b[2J[/x] \\u202e[bold]"


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never launched."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "spec.toml").write_text(SMALL_SPEC)
    return created_run(make_plan(load_spec(folder / "spec.toml")), folder / "runs").path


@pytest.fixture
def run(run_once: Path, write_spec: WriteSpec, tmp_path: Path) -> RunFolder:
    """A copy of it, for a test to change, beside its spec."""
    write_spec()
    shutil.copytree(run_once, tmp_path / "runs" / "small")
    return RunFolder(tmp_path / "runs" / "small")


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits a file of JSON."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("label", [EVIL, "quiet\nprogress  all trials are finished"])
def test_a_label_cannot_act_on_the_terminal_nor_add_a_line(run: RunFolder, label: str, sweeps_command: Command) -> None:
    change(run.plan, lambda plan: next(iter(plan["trials"].values())).update(label=label))
    done = sweeps_command("status", run.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "plan.json: expected a name in one line, given 'quiet" in done.stderr or SHOWN in done.stderr
    assert "\x1b" not in done.stderr
    assert "\nprogress" not in done.stderr


def test_errors_and_paths_that_would_act_on_the_terminal_are_shown(tmp_path: Path, sweeps_command: Command) -> None:
    done = sweeps_command("status", tmp_path / EVIL.replace("/", ""))
    assert done.returncode == 2
    assert SHOWN.replace("/", "") in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", ["plan.json", "provenance.json"])
def test_a_run_that_is_nested_without_end_is_refused(run: RunFolder, name: str, sweeps_command: Command) -> None:
    (run.path / name).write_text('{"a":' * 100_000)
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("provenance.json", {"format": FORMAT, "code_digest": "c", "created": {"packages": {}}, "history": []}),
        ("provenance.json", {"history": [{"command": "x"}]}),
        ("plan.json", {"format": FORMAT, "name": "x", "trials": {"a": []}, "resources": {}, "private_cache": False}),
        ("cluster/outcome.json", []),
    ],
)
def test_a_run_that_says_something_else_is_refused(
    name: str, content: object, run: RunFolder, sweeps_command: Command
) -> None:
    run.cluster.mkdir(mode=0o700)
    for part, text in (("launch.json", '{"cache": ""}'), ("name", "n")):
        (run.cluster / part).write_text(text)
    if name == "provenance.json" and isinstance(content, dict):
        content = json.loads(run.provenance.read_text()) | content
    (run.path / name).write_text(json.dumps(content))
    done = sweeps_command("status", run.path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert Path(name).name in done.stderr


def test_a_torn_line_of_a_log_is_shown_as_it_is(run: RunFolder, sweeps_command: Command) -> None:
    trial = next(iter(json.loads(run.plan.read_text())["trials"]))
    whole = '{"at": "now", "level": "INFO", "text": "\\u001b[2J begins"}'
    run.begin_log(trial).write_text(f'{whole}\n[1]\n{{"at": "n\n{"[" * 5000}\n')
    done = sweeps_command("logs", run.path, trial)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f'now INFO \\x1b[2J begins\n[1]\n{{"at": "n\n{"[" * 5000}\n'


MODULE = """
from pathlib import Path
from tailor.extend import CRITERIA, Criterion
Path({mark!r}).touch()
CRITERIA.add({name!r}, Criterion(compute=len, source="a test"))
"""


def bring(run: RunFolder, tmp_path: Path, name: str) -> Path:
    """A module of one's own in a run, as a launch copies it; it makes the file `ran` when it is executed."""
    source = MODULE.format(mark=str(tmp_path / "ran"), name=f"{name} {tmp_path.name}").encode()
    path = run.imports / hashlib.sha256(source).hexdigest() / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(source)
    change(run.plan, lambda plan: plan.update(imports=[str(path.relative_to(run.imports))]))
    return path


def _elsewhere(run: RunFolder, path: Path) -> None:
    other = run.path.parent / path.name
    path.replace(other)
    change(run.plan, lambda plan: plan.update(imports=[str(other)]))


def _above(run: RunFolder, path: Path) -> None:
    change(run.plan, lambda plan: plan.update(imports=[f"{path.parent.name}/../{path.parent.name}/mine.py"]))


def _first_digits(run: RunFolder, path: Path) -> None:
    path.parent.rename(run.imports / path.parent.name[:8])
    change(run.plan, lambda plan: plan.update(imports=[f"{path.parent.name[:8]}/mine.py"]))


def _changed(_run: RunFolder, path: Path) -> None:
    path.write_text(path.read_text() + "# and more\n")


def _writable(_run: RunFolder, path: Path) -> None:
    path.chmod(0o664)


PLANTED = {
    "a path elsewhere": (_elsewhere, "expected <64 digits of its SHA-256>/NAME.py"),
    "a path with ..": (_above, "expected <64 digits of its SHA-256>/NAME.py"),
    "the first digits": (_first_digits, "expected <64 digits of its SHA-256>/NAME.py"),
    "another content": (_changed, "it was changed, and is not run"),
    "writable by others": (_writable, "others can write to"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_module_that_no_launch_copied_is_not_executed(
    case: str, run: RunFolder, tmp_path: Path, sweeps_command: Command
) -> None:
    plant, words = PLANTED[case]
    plant(run, bring(run, tmp_path, case))
    first, *_ = json.loads(run.plan.read_text())["trials"]
    for typed in (["reproduce", run.path, first], ["time", run.path]):
        done = sweeps_command(*typed)
        said = done.stdout + done.stderr
        assert words in said and "Traceback" not in said, said
        assert done.returncode == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("edit", [{"options": 3}, {"options": {}}, {"options": RETRIED | {"only": 3}}])
def test_what_is_no_launch_is_not_retried(edit: dict[str, Any], run: RunFolder, sweeps_command: Command) -> None:
    change(run.provenance, lambda said: said["history"][0].update(edit))
    done = sweeps_command("run", run.path, "--retry", "--plan")
    assert (done.returncode, "provenance.json" in done.stderr) == (2, True), done.stderr


def test_retry_begins_from_the_runs_own_spec_as_it_was_launched_wherever_the_run_is(
    run: RunFolder, tmp_path: Path, sweeps_command: Command
) -> None:
    (tmp_path / "spec.toml").unlink()
    change(run.provenance, lambda said: said["history"][0].update(options=RETRIED, folder="/elsewhere"))
    change(run.plan, lambda plan: plan.update(private_cache=True))
    moved = run.path.rename(run.path.with_name("other_no_sharing"))
    done = sweeps_command("run", moved, "--retry", "--plan")
    assert done.returncode == 0, done.stderr
    assert "other_no_sharing: " in done.stdout and "on site serial" in done.stdout


@pytest.mark.parametrize("path", ["", "code", "plan.json", "spec.toml", "provenance.json", "cluster", "cluster/token"])
def test_a_run_that_others_could_have_changed_is_not_gone_on_with(
    path: str, run: RunFolder, launch: Command, sweeps_command: Command
) -> None:
    run.cluster.mkdir(mode=0o700)
    (run.cluster / "token").touch(mode=0o600)
    shared = run.path / path
    shared.chmod(shared.stat().st_mode | 0o060)
    for done in (launch("spec.toml"), sweeps_command("run", run.path, "--retry"), sweeps_command("stop", run.path)):
        assert done.returncode == 2
        assert f"{Path('runs/small', path)} (mode" in done.stderr
        assert "type: chmod go-" in done.stderr


def test_a_run_of_another_user_is_not_gone_on_with(run: RunFolder, launch: Command) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives a folder away: run the tests as root")
    os.chown(run.spec, 12345, 12345)
    done = launch("spec.toml")
    assert done.returncode == 2
    assert "runs/small/spec.toml belongs to another user (id 12345)" in done.stderr
    assert "let its owner type this, or use a copy of yours" in done.stderr


def test_under_a_lax_umask_no_one_else_may_change_what_is_executed(plan: Plan, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        made = created_run(plan, tmp_path / "runs")
        write_file(made.report, "a report")
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (made.path, *made.path.rglob("*"))}
    assert {path: mode for path, mode in found.items() if mode & 0o022} == {}
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o775  # may be for several users
    created_run(plan, tmp_path / "runs")  # and it is not refused
