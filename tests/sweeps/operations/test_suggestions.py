"""What messages say to type is pasted into a shell: bash takes it apart, and the program understands its words."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.requirements import Requirement

from sweeps.operations.launch import LaunchOptions, _say_how_to_resume
from sweeps.planning.plan import make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun
from sweeps.spec.spec import load_spec
from tailor.model.programs import onnx_bytes
from tailor.networks.timm_builders import record
from tests.commands import parsed, transtailor_command
from tests.hpc.fakes.commands import FakeSlurm
from tests.sweeps.conftest import SMALL_SPEC, created_run, ends_written
from tests.tailor.prepare.pictures import class_folders
from transtailor.errors import UserError
from transtailor.machine import usable_cores
from transtailor.private_names import LibraryError, PrivateNames

pytestmark = pytest.mark.check
RECORDER = '#!/bin/sh\nprintf "%s\\0" "$(basename "$0")" "$@" > "$RECORD"\n'
IMAGES = 'network = "digits_vgg"\nmethod.name = "head_only"\ndata = { name = "birds", root = "my sets" }\n'

# Words behind `transtailor`, of which {} is a mistake; the mistake; a pattern whose group is what to type in its place.
MENDED = [
    ("plan axes.toml {}", "--set trial.seed=3", r"type (--set .*)"),
    ("plan trained.toml {}", f"--set resources.ranks={usable_cores() + 1}", r"type (--set \S+),"),
    ("plan trained.toml {}", "--set resources.gpus_per_rank=1", r"type (--set \S+),"),
    ("run axes.toml --set 'axes.seed=[0,1,2]' --runs 'my runs' {}", "", r"type (--extend) to"),
    ("clean cache --dry-run {}", "", r"such as (--runs runs),"),
    ("best 'my runs/trained' --under {}", "macs", r"such as (macs=\S+)"),
    ("query 'my runs/trained' 'FROM trials' {}", "--limit 0", r"such as (--limit .*)"),
]
# Words behind `transtailor`; a pattern whose group is a command; whether the command is run, or only planned or parsed.
COMMANDS = [
    ("plan trained.toml --runs 'no runs' --cache 'no cache'", r"^ +(\S.* --name trained_probe_.*)$", "planned"),
    ("run trained.toml --runs 'my runs' --site serial", r"^  (transtailor .*)$", "run"),
    ("status 'my runs/waiting'", r"type: (.*)", "planned"),
    ("logs 'my runs/waiting' zz", r"type: (.*)", "run"),
    ("stop 'my runs/waiting' --now", r"type: (.*)", "run"),
    ("stop 'my runs/shared'", r"type: (.*)", "run"),
    ("compare 'my runs/torn' --against head_only", r"type: (.*)", "run"),
    ("compare 'my runs/trained' --donors", r"type: (.*)", "parsed"),
    ("best 'my runs/trained'", r"(transtailor reproduce .*)", "run"),
    ("front 'my runs/trained' --cost latency_ms", r"type: (.*)", "parsed"),
    ("trial run axes.toml", r"type: (.*)", "planned"),
    ("trial run images.toml --plan", r"type: (.*)", "run"),
    ("data prepare cats --image-px 16 --from 'my photographs' --to 'my sets'", r"type: (.*)", "run"),
]


def said(folder: Path, typed: str) -> str:
    """All that a command says."""
    done = transtailor_command(*shlex.split(typed), folder=folder)
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is known by its name, as in an environment that is activated."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def scene(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody who gives folders names with spaces: runs, specs, photographs."""
    folder = tmp_path_factory.mktemp("scene") / "it's $HOME"
    shutil.copytree(trained_once, folder)
    shutil.copytree(folder / "runs", folder / "my runs")
    (folder / "axes.toml").write_text(SMALL_SPEC)
    (folder / "waiting.toml").write_text(SMALL_SPEC.replace('"small"', '"waiting"'))
    small, waiting = (
        created_run(make_plan(load_spec(folder / name)), folder / "my runs") for name in ("axes.toml", "waiting.toml")
    )
    ids = [trial.trial_id for trial in make_plan(load_spec(folder / "axes.toml", ["axes.seed=[0,1,2]"])).trials]
    ends_written(small, ids)
    record = json.loads(waiting.provenance.read_text())
    options = LaunchOptions(site="serial").recorded() | {"cache": str(folder / "cache")}
    record["history"][-1] |= {"options": options, "folder": str(folder)}
    waiting.provenance.write_text(json.dumps(record))
    shutil.copytree(waiting.path, folder / "my runs" / "shared")
    (folder / "my runs" / "shared" / "plan.json").chmod(0o660)
    shutil.copytree(folder / "my runs" / "trained", folder / "my runs" / "torn")
    shutil.rmtree(folder / "my runs" / "torn" / "tables" / "operating_points")
    class_folders(folder / "my photographs")
    (folder / "images.toml").write_text(IMAGES)
    (folder / "site.toml").write_text("cpus_per_node = 2\nwalltime_min = 60\n")
    return folder


def pasted(line: str, folder: Path, records: Path) -> list[str]:
    """The words that bash gives to our program in a line; none if the line has run other programs alone."""
    programs, record = records / "programs", records / "record"
    programs.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    for name in ("transtailor", "python"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "RECORD": str(record)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return record.read_text().split("\0")[:-1] if record.exists() else []


def assert_understood(words: list[str], folder: Path, then: str) -> None:
    """The program takes these words, of which the first is its name."""
    if not words:
        return  # another program was suggested, and bash has run it
    if then == "parsed":
        parsed(words[1:])
        return
    done = transtailor_command(*words[1:], *(["--plan"] if then == "planned" else []), folder=folder)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("typed", "mistake", "pattern"), MENDED)
def test_a_line_is_understood_once_it_is_mended_as_its_message_says(
    typed: str, mistake: str, pattern: str, scene: Path, tmp_path: Path
) -> None:
    message = said(scene, typed.format(mistake))
    suggestions = re.findall(pattern, message)
    assert suggestions, message
    for suggestion in suggestions:
        assert_understood(pasted(f"transtailor {typed.format(suggestion)}", scene, tmp_path), scene, "run")


@pytest.mark.parametrize(("typed", "pattern", "then"), COMMANDS)
def test_a_command_in_a_message_is_understood(typed: str, pattern: str, then: str, scene: Path, tmp_path: Path) -> None:
    message = said(scene, typed)
    commands = re.findall(pattern, message, flags=re.MULTILINE)
    assert commands, message
    for command in commands:
        command = command.replace("FOLDER_OR_ARCHIVE", "'my photographs'")
        assert_understood(pasted(command, scene, tmp_path), scene, then)


def test_the_command_of_a_run_that_is_held_or_cut_off_is_understood(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(Path("my runs") / "waiting")
    with chdir(scene), RunLock(run.lock):
        (look_at_it,) = re.findall(r"type: (.*)", said(scene, "run waiting.toml --runs 'my runs' --site serial"))
    assert_understood(pasted(look_at_it, scene, tmp_path), scene, "run")
    typed = ["transtailor", "run", "waiting.toml", "--runs", "my runs", "--set", "axes.network=['digits_vgg']"]
    monkeypatch.setattr(sys, "argv", typed)
    _say_how_to_resume(make_plan(load_spec(scene / "waiting.toml")), scene / run.path)
    resume, look = re.findall(r": (\S*transtailor .*)", capsys.readouterr().out)
    assert pasted(resume, scene, tmp_path) == typed
    assert_understood(pasted(look, scene, tmp_path), scene, "run")


def test_on_slurm(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.environ["PATH"]
    slurm = FakeSlurm(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{slurm.folder / 'bin'}{os.pathsep}{usual}")
    slurm.says("sbatch", "7\n")
    slurm.says("squeue", "")
    typed = "run axes.toml --name far --runs 'my runs' --site ./site.toml --detach"
    detached = said(scene, typed)
    job = ClusterRun(RunFolder(scene / "my runs" / "far")).folder.controller_name
    slurm.says("squeue", f"7|RUNNING|N/A|node1|None|{job}\n")
    refused = said(scene, f"{typed} --again {make_plan(load_spec(scene / 'axes.toml')).trials[0].trial_id}")
    commands = re.findall(r": (transtailor .*)", detached + refused)
    assert [pasted(line, scene, tmp_path)[1] for line in commands] == ["status", "stop", "stop"]
    for line in commands:
        assert_understood(pasted(line, scene, tmp_path), scene, "parsed")


def test_what_is_to_be_installed_can_be_named_to_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    calls: list[Callable[[], Any]] = [
        lambda: record("timm/resnet26"),
        lambda: onnx_bytes(cast(Any, None), cast(Any, None)),
        PrivateNames(library="torch", tried="1", names={"torch.nothing_of_the_kind": "a test"}).check,
    ]
    for call in calls:
        with pytest.raises((UserError, LibraryError)) as error:
            call()
        words = pasted(str(error.value).rpartition("type: ")[2], tmp_path, tmp_path)
        assert words[:4] == ["python", "-m", "pip", "install"]
        assert [Requirement(word) for word in words[4:]]
