"""What messages say to type is pasted into a shell: bash takes it apart, and the program understands its words."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.requirements import Requirement

from results.export.target import library
from sweeps.commands.control import retry
from sweeps.commands.launch import _say_how_to_resume
from sweeps.planning.plan import make_plan
from sweeps.planning.this_machine import usable_cores
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.slurm.cluster_run import ClusterRun
from sweeps.spec.spec import load_spec
from tailor.deploy.export import _onnx_written
from tailor.networks.timm_builders import first_record
from tests.commands import parsed, transtailor_command
from tests.hpc.fakes.commands import FakeSlurm
from tests.sweeps.conftest import SMALL_SPEC, ends_written
from tests.tailor.prepare.pictures import class_folders
from transtailor.errors import UserError
from transtailor.private_names import LibraryError, PrivateNames

RECORDER = '#!/bin/sh\nprintf "%s\\0" "$(basename "$0")" "$@" > "$RECORD"\n'
PROGRAMS = ("transtailor", "python", "tensorboard")
SITE = "cpus_per_node = 2\nwalltime_min = 60\n"
TRIAL = 'network = "digits_vgg"\nmethod.name = "head_only"\n'
IMAGES = f'{TRIAL}data = {{ name = "birds", root = "my sets" }}\n'
WEIGHTS = '{}source = {{ weights = "my weights.pt", weights_sha256 = "{}" }}\n'
BY_NAME = """network = "resnet18"
method.name = "head_only"
data = { name = "cows", root = "my sets", train_images = 6 }
source.weights = "ResNet18_Weights.IMAGENET1K_V1"
"""


@dataclass(frozen=True)
class Case:
    """A message, and what becomes of its suggestion.

    Attributes:
        place: the function that makes the message.
        typed: words behind `transtailor`; {} is where a mistake is, or the suggestion goes.
        found: a pattern; its group is a command, or the words in the place of the mistake.
        wrong: that mistake.
        then: "done" (it ends with 0), "planned" (a launch whose plan is made), "parsed" (it would take long).
        words: placeholders in it, and what a user has in their place.
    """

    place: str
    typed: str | Callable[[Path], str]
    found: str
    wrong: str = ""
    then: str = "done"
    words: Mapping[str, str] = field(default_factory=dict)


def held(folder: Path) -> str:
    with RunLock(folder / "my runs" / "waiting" / "launch.lock"):
        return said(folder, "run waiting.toml --runs 'my runs' --site serial")


def tried_again(_: Path) -> str:
    return next(retry(RunFolder(Path("my runs") / "waiting")))  # before it becomes that command


def prepared_twice(folder: Path) -> str:
    typed = "data prepare dogs --image-px 16 --from 'my photographs' --to 'my sets'"
    return said(folder, typed) and said(folder, typed)


def without_weights(folder: Path) -> str:
    said(folder, "data prepare cows --image-px 32 --from 'my photographs' --to 'my sets'")
    return said(folder, "trial run by_name.toml")


CASES = [
    Case(
        "sweeps/spec/spec.py:_literal", "plan axes.toml {}",
        r"type (--set .*)", wrong="--set axes.network=[digits_resnet]",
    ),
    Case(
        "sweeps/spec/axes.py:check_axes", "plan axes.toml {}",
        r"type (--set .*)", wrong="--set axes.network=digits_resnet",
    ),
    Case("sweeps/spec/spec.py:_assign", "plan trained.toml {}", r"did you mean (--set .*)\?", wrong="--set seed=3"),
    Case(
        "sweeps/spec/changes.py:Changes.check_assignments", "plan axes.toml {}", r"type (--set .*)",
        wrong="--set trial.seed=3",
    ),
    Case(
        "sweeps/planning/this_machine.py:check_resources", "plan trained.toml {}",
        r"type (--set \S+),", wrong=f"--set resources.ranks={usable_cores() + 1}",
    ),
    Case(
        "sweeps/planning/this_machine.py:check_resources", "plan trained.toml {}",
        r"type (--set \S+ --set \S+),", wrong=f"--set resources.threads_per_rank={usable_cores() + 1}",
    ),
    Case(
        "sweeps/planning/this_machine.py:check_resources", "plan trained.toml --set resources.gpus_per_rank=1 {}",
        r"type (--set \S+),",
    ),
    Case(
        "sweeps/run/relaunch.py:check_may_resume", "run axes.toml --set 'axes.seed=[0,1,2]' --runs 'my runs' {}",
        r"type (--extend) to",
    ),
    Case(
        "sweeps/run/relaunch.py:check_may_resume", "run axes.toml --set trial.source.seed=3 --runs 'my runs' {}",
        r"type (--name NAME) for", words={"NAME": "other"}, then="planned",
    ),
    Case(
        "sweeps/commands/preview.py:_probe", "plan trained.toml --runs 'no runs' --cache 'no cache'",
        r"^ +(\S.* --name trained_probe)$", then="planned",
    ),
    Case(
        "sweeps/commands/launch.py:_finish", "run trained.toml --runs 'my runs' --site serial",
        r"^  (transtailor .*)$",
    ),
    Case("sweeps/commands/status.py:_headline", "status 'my runs/waiting'", r"type in .*?: (.*)", then="planned"),
    Case("sweeps/commands/control.py:retry", tried_again, r"in .*?: (.*)", then="planned"),
    Case("sweeps/run/run_lock.py:_wait_for", held, r"type: (.*)"),
    Case("sweeps/commands/control.py:cancel", "cancel 'my runs/waiting'", r"type: (.*)"),
    Case("sweeps/commands/control.py:logs", "logs 'my runs/waiting' zz", r"type: (.*)"),
    Case("sweeps/commands/clean.py:_waste_of_cache", "clean cache --dry-run {}", r"such as (--runs runs),"),
    Case("results/__main__.py:_compact", "compact 'my runs/unmerged'", r"type: (.*)"),
    Case("results/analysis/best.py:_lines", "best 'my runs/trained'", r"(transtailor reproduce .*)"),
    Case(
        "results/analysis/best.py:Limit.parse", "best 'my runs/trained' --under {}",
        r"such as (macs=\S+)", wrong="macs",
    ),
    Case("results/analysis/effects.py:effects_of", "effects 'my runs/trained' --at 0.9", r"with: (.*)"),
    Case(
        "results/analysis/pareto.py:fronts_of", "front 'my runs/trained' --cost latency_ms",
        r"type: (.*)", then="parsed",
    ),
    Case("results/store/completeness.py:refuse_gaps", "compare 'my runs/torn' --against head_only", r"type: (.*)"),
    Case("results/__main__.py:_diff", "diff 'no 1' 'no 2'", r"type: (.*)", then="parsed"),
    Case(
        "results/__main__.py:_report", "report 'my runs/trained' {}",
        r"such as (--watch .*)", wrong="--watch 0", then="parsed",
    ),
    Case(
        "results/store/reader.py:Run._translate_errors", "query 'my runs/trained' {}",
        r"such as (.*)", wrong="'SELECT 1; SELECT 2'",
    ),
    Case(
        "results/cli/output.py:write", "query 'my runs/trained' 'FROM trials' {}",
        r"such as (--limit .*)", wrong="--limit 0",
    ),
    Case("results/export/command.py:", "export 'my runs/trained' --to tensorboard", r"type: (.*)", then="recorded"),
    Case("tailor/commands/check_gpu.py:run", "check-gpu", r"checks: (\S+ check-gpu .*)", then="parsed"),
    Case("hpc/__main__.py:_sites", "sites", r"\((\S+ init) writes", then="parsed"),
    Case("hpc/__main__.py:_script", "script ./site.toml", r"such as: (.*)"),
    Case("hpc/sites/site.py:find_site", "run demo --site nowhere", r"node: (\S+ init)", then="parsed"),
    Case("tailor/__main__.py:_read", "trial run axes.toml", r"type: (.*)", then="planned"),
    Case("tailor/__main__.py:_read", "trial plan demo", r"run by: (.*)", then="planned"),
    Case("sweeps/spec/spec.py:_refuse_single_trial", "plan trial.toml", r"type: (.*) \(in a", then="parsed"),
    Case(
        "tailor/catalogue/manifest.py:read", "trial plan images.toml",
        r"type: (.*)", words={"FOLDER_OR_ARCHIVE": "'my photographs'"},
    ),
    Case(
        "tailor/commands/data.py:_prepare", "data prepare cats --image-px 16 --from 'my photographs' --to 'my sets'",
        r"type: (.*)",
    ),
    Case("tailor/prepare/workspace.py:workspace", prepared_twice, r"type: (.*)\. To"),
    Case(
        "tailor/catalogue/datasets.py:info", "plan axes.toml --set trial.data.name=birds",
        r"after: (.*)", then="parsed",
    ),
    Case("tailor/catalogue/weights.py:check_pin", "trial plan pinned.toml", r"type: (.*)\)"),
    Case("tailor/execution/weights_check.py:_how_to_get", without_weights, r"type: (.*)", then="parsed"),
    Case("tailor/model/state.py:load_state", "model time 'my runs'", r"type: (.*)", then="parsed"),
    Case("transtailor/ownership.py:refuse_shared", "stop 'my runs/shared'", r"type: (.*)"),
]  # fmt: skip


def said(folder: Path, typed: str) -> str:
    """All that a command says."""
    done = transtailor_command(*shlex.split(typed), folder=folder)
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is known by its name, as in an environment that is activated."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def scene(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody who gives folders names with spaces: runs, specs, photographs."""
    folder = tmp_path_factory.mktemp("scene") / "it's $HOME"
    shutil.copytree(trained_once, folder)
    shutil.copytree(folder / "runs", folder / "my runs")
    for name in ("small", "waiting"):
        text = SMALL_SPEC.replace('"small"', f'"{name}"')
        (folder / f"{'axes' if name == 'small' else name}.toml").write_text(text)
    run, waiting = (created(folder, f"{name}.toml") for name in ("axes", "waiting"))
    ids = [trial.trial_id for trial in make_plan(load_spec(folder / "axes.toml", ["axes.seed=[0,1,2]"])).trials]
    for ended in (ids[:1], ids[1:]):  # two parts, which no launch has merged
        ends_written(run, ended)
    shutil.copytree(run.path, folder / "my runs" / "unmerged")
    record = json.loads(waiting.provenance.read_text())
    typed = ["/x/bin/transtailor", "run", "waiting.toml", "--runs", "my runs", "--site", "serial"]
    record["history"][-1] |= {"argv": typed, "folder": str(folder)}
    waiting.provenance.write_text(json.dumps(record))
    shutil.copytree(waiting.path, folder / "my runs" / "shared")
    (folder / "my runs" / "shared" / "plan.json").chmod(0o660)
    shutil.copytree(folder / "my runs" / "trained", folder / "my runs" / "torn")
    for lost in ("tables/operating_points", "merged"):
        shutil.rmtree(folder / "my runs" / "torn" / lost)
    class_folders(folder / "my photographs")
    (folder / "trial.toml").write_text(TRIAL)
    (folder / "images.toml").write_text(IMAGES)
    (folder / "my weights.pt").write_bytes(b"weights")
    (folder / "pinned.toml").write_text(WEIGHTS.format(TRIAL, "abc"))
    (folder / "by_name.toml").write_text(BY_NAME)
    (folder / "site.toml").write_text(SITE)
    return folder


def created(folder: Path, spec: str) -> RunFolder:
    run, lock, _ = start(make_plan(load_spec(folder / spec)), folder / "my runs", extend=False, update_code=False)
    lock.release()
    return run


def pasted(line: str, folder: Path, records: Path) -> list[str]:
    """The words that bash gives to the first of our programs in a line; none where it has run other programs alone."""
    programs, record = records / "programs", records / "record"
    programs.mkdir(exist_ok=True)
    record.unlink(missing_ok=True)
    for name in PROGRAMS:
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "RECORD": str(record)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return record.read_text().split("\0")[:-1] if record.exists() else []


def assert_understood(words: Sequence[str], folder: Path, then: str) -> None:
    """The program takes these words, of which the first is its name."""
    if not words:
        return  # another program was suggested, and bash has run it
    rest = words[1:]
    if then == "recorded":
        assert [word for word in rest if Path(word).is_dir()], words
    elif then == "parsed":
        parsed(rest)
    else:
        done = transtailor_command(*rest, *(["--plan"] if then == "planned" else []), folder=folder)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


@pytest.mark.check
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.place)
def test_a_suggestion_is_understood(case: Case, scene: Path, tmp_path: Path) -> None:
    if callable(case.typed):
        with chdir(scene):
            text = case.typed(scene)
    else:
        text = said(scene, case.typed.format(case.wrong))
    found = re.findall(case.found, text, flags=re.MULTILINE)
    assert found, text
    for suggestion in found:
        for placeholder, own in case.words.items():
            suggestion = suggestion.replace(placeholder, own)
        is_command = not isinstance(case.typed, str) or "{}" not in case.typed
        line = suggestion if is_command else f"transtailor {case.typed.format(suggestion)}"
        assert_understood(pasted(line, scene, tmp_path), scene, case.then)


@pytest.mark.check
def test_where_a_run_was_cut_off_its_command_resumes_it(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["transtailor", "run", "waiting.toml", "--runs", "my runs", "--set", "axes.network=['digits_vgg']"]
    monkeypatch.setattr(sys, "argv", typed)
    _say_how_to_resume(make_plan(load_spec(scene / "waiting.toml")), scene / "my runs" / "waiting")
    resume, look = re.findall(r": (\S*transtailor .*)", capsys.readouterr().out)
    assert pasted(resume, scene, tmp_path) == typed
    assert_understood(pasted(look, scene, tmp_path), scene, "done")


@pytest.mark.check
def test_on_slurm(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.environ["PATH"]
    slurm = FakeSlurm(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{slurm.folder / 'bin'}{os.pathsep}{usual}")
    slurm.says("sbatch", "7\n")
    slurm.says("squeue", "")
    typed = "run axes.toml --name far --runs 'my runs' --site ./site.toml --detach"
    detached = said(scene, typed)
    job = ClusterRun(RunFolder(scene / "my runs" / "far")).folder.controller_name
    slurm.says("squeue", f"7|RUNNING|N/A|node1|{job}|None\n")
    refused = said(scene, f"{typed} --again {make_plan(load_spec(scene / 'axes.toml')).trials[0].trial_id}")
    found = re.findall(r": (transtailor .*)", detached + refused)
    assert [pasted(line, scene, tmp_path)[1] for line in found] == ["status", "stop", "stop"]
    for line in found:
        assert_understood(pasted(line, scene, tmp_path), scene, "parsed")


def test_what_is_to_be_installed_can_be_named_to_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "timm", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    calls: list[Callable[[], Any]] = [
        lambda: library("mlflow", "mlflow"),
        lambda: first_record("timm/resnet26"),
        lambda: _onnx_written(cast(Any, None), cast(Any, None)),
        PrivateNames(library="torch", tried="1", names={"torch.nothing_of_the_kind": "a test"}).check,
    ]
    for call in calls:
        with pytest.raises((UserError, LibraryError)) as error:
            call()
        words = pasted(str(error.value).rpartition("type: ")[2], tmp_path, tmp_path)
        assert words[:4] == ["python", "-m", "pip", "install"]
        assert [Requirement(word) for word in words[4:]]
