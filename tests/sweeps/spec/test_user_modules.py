"""Sweeps with a user's own module: planned, copied into the run, imported by every rank, refused in clear words.

What a module registers is there for good, so each command has a process of its own.
"""

import os
import subprocess
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.run.run_folder import RunFolder, open_run
from tests.commands import ROOT
from tests.sweeps.conftest import Command, WriteSpec

MODULE = """
from typing import Literal

from tailor.extend import CRITERIA, Criterion
from tailor.extend import Method, Recipe, register


def widest(scoring):
    from tailor.pruning.criteria.weights import l1
    return {name: -scores for name, scores in l1(scoring).items()}


CRITERIA.add("inverse_l1", Criterion(compute=widest, source="a test"))


@register
class JustTune(Method):
    name: Literal["just_tune"] = "just_tune"

    def walk(self, config):
        recipe = Recipe(config)
        model = yield from recipe.head()
        tuned = yield recipe.fine_tune(model, 1)
        yield recipe.point(tuned)
"""
SPEC = """
name = "own"
imports = ["modules/mine.py"]
[trial]
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
data.train_images = 64
[[variants]]
method.name = "just_tune"
[[variants]]
method = { name = "prune", criterion = "inverse_l1" }
[[variants]]
method = { name = "prune", criterion = "l1" }
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "modules" / "mine.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    return path


def trial_ids(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Label -> id, from what --plan prints."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "to run" in line]
    return {row[1]: row[0] for row in rows}


def test_a_spec_names_its_modules_relative_to_itself(
    launch_process: Command, write_spec: WriteSpec, module: Path, tmp_path: Path
) -> None:
    ids = trial_ids(launch_process(write_spec(SPEC), "--plan", folder=tmp_path.parent))
    assert list(ids) == ["just_tune", "prune inverse_l1", "prune l1"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.py", "modules", "spec.toml"]
    module.write_text(MODULE + "# another comment\n")
    changed = trial_ids(launch_process(write_spec(SPEC), "--plan", folder=tmp_path.parent))
    assert {label: ids[label] == changed[label] for label in ids} == {
        "just_tune": False, "prune inverse_l1": False, "prune l1": True,
    }  # fmt: skip


def test_the_command_line_imports_too_and_twice_is_once(
    launch_process: Command, write_spec: WriteSpec, module: Path
) -> None:
    ids = trial_ids(launch_process(write_spec(SPEC), "--plan"))
    alone = write_spec(SPEC.replace('imports = ["modules/mine.py"]', ""), "alone.toml")
    assert trial_ids(launch_process(alone, "--plan", "--import", "modules/mine.py")) == ids
    assert trial_ids(launch_process(write_spec(SPEC), "--plan", "--import", module)) == ids


@pytest.mark.parametrize(
    ("text", "message", "options"),
    [
        (None, "mine.py: cannot be imported: No such file", ["--plan"]),
        ("x = 1\nraise ValueError('not today')\n", "mine.py, line 2: ValueError: not today", []),
        (MODULE.replace("inverse_l1", "l1"), "ValueError: criterion 'l1' is registered already", ["--plan"]),
    ],
    ids=["missing", "raises", "takes a name"],
)
def test_what_cannot_be_imported_is_a_mistake(
    launch_process: Command,
    write_spec: WriteSpec,
    module: Path,
    tmp_path: Path,
    text: str | None,
    message: str,
    options: list[str],
) -> None:
    module.unlink()
    if text is not None:
        module.write_text(text)
    done = launch_process(write_spec(SPEC), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_neighbour_counts_in_ids_and_a_changed_one_is_said_as_a_changed_file_is(
    launch_process: Command, write_spec: WriteSpec, module: Path, tmp_path: Path
) -> None:
    """The neighbour `queue` is no error, as no file imports it, and hides no library."""
    module.write_text(MODULE.replace("return {name: -", "import signs\n    return {name: signs.SIGN * "))
    signs = module.parent / "signs.py"
    signs.write_text("SIGN = -1\n")
    (module.parent / "queue.py").write_text("")
    tune = '[[variants]]\nmethod.name = "just_tune"\n'
    spec = write_spec(SPEC.replace(tune, ""))
    done = launch_process(spec, "--site", "serial", "--set", "resources.ranks=2")
    assert done.returncode == 0, done.stdout + done.stderr
    (copy,) = open_run(RunFolder(tmp_path / "runs" / "own")).imports
    ids = trial_ids(launch_process(spec, "--plan", "--name", "new"))
    signs.write_text("SIGN = -2\n")
    changed = trial_ids(launch_process(spec, "--plan", "--name", "new"))
    assert {label: ids[label] == changed[label] for label in ids} == {"prune inverse_l1": False, "prune l1": True}
    refused = launch_process(spec, "--site", "serial", "--set", "resources.ranks=2")
    assert refused.returncode == 2
    assert "mine.py" in refused.stderr and f"{copy.parts[0][:12]} -> " in refused.stderr
    again = launch_process("runs/own/spec.toml", "--site", "serial")  # with the copy of what ran
    assert "all 2 trials are finished" in again.stdout, again.stderr


@pytest.mark.parametrize(
    ("importer", "door", "statement"),
    [
        ("mine.py", "--plan", "import only_here"),
        ("signs.py", "--detach", "import only_here"),
        ("mine.py", "--plan", "import importlib\nimportlib.import_module('only_here')"),
        ("signs.py", "--plan", "def f():\n    from shared_space import only_here"),
    ],
)
def test_what_only_the_pythonpath_of_a_launch_gives_is_refused_for_jobs(
    importer: str, door: str, statement: str, launch_process: Command, write_spec: WriteSpec, module: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A folder of the same name there hides no library, and what the job has, too, is no fault."""
    (tmp_path / "site.toml").write_text("cpus_per_node = 2\nwalltime_min = 60\n")
    module.write_text(f"import signs\nimport numpy\n{MODULE}")
    (module.parent / "signs.py").write_text("import tailor\n")
    (tmp_path / "lib" / "numpy").mkdir(parents=True)
    (tmp_path / "lib" / "only_here.py").write_text("")
    (module.parent / "shared_space").mkdir()
    (tmp_path / "lib" / "shared_space").mkdir()
    (tmp_path / "lib" / "shared_space" / "only_here.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path / 'lib'}")
    spec = write_spec(SPEC)
    assert launch_process(spec, "--plan", "--site", "site.toml").returncode == 0
    with (module.parent / importer).open("a") as stream:
        stream.write(f"\n{statement}\n")
    refused = launch_process(spec, door, "--site", "site.toml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "only_here'" in refused.stderr and f"put it into {module.parent}, or install it" in refused.stderr
    assert not (tmp_path / "runs").exists()
    assert launch_process(spec, "--plan", "--site", "serial").returncode == 0


@pytest.mark.parametrize("value", ['"mine.py"', "[1]"])
def test_imports_are_a_list_of_paths(launch: Command, write_spec: WriteSpec, value: str) -> None:
    done = launch(write_spec(SPEC.replace('["modules/mine.py"]', value)), "--plan")
    assert done.returncode == 2
    assert 'type a list, as in imports = ["my_method.py"]' in done.stderr


@pytest.mark.check
def test_ranks_import_the_copy_and_later_edits_do_not_matter(
    launch_process: Command, write_spec: WriteSpec, module: Path, tmp_path: Path
) -> None:
    done = launch_process(write_spec(SPEC), "--site", "serial", "--set", "resources.ranks=2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    run = RunFolder(tmp_path / "runs" / "own")
    (copy,) = open_run(run).imports
    assert (run.imports / copy).read_text() == MODULE
    with load(run.path) as tables:
        rows = {row["label"]: row for row in tables.rows("SELECT * FROM operating_points")}
    assert set(rows) == {"just_tune", "prune inverse_l1", "prune l1"}
    assert rows["prune inverse_l1"]["model_key"] != rows["prune l1"]["model_key"]
    module.unlink()
    again = launch_process("runs/own/spec.toml", "--site", "serial")  # its imports are the copies
    assert again.returncode == 0, again.stderr
    assert "all 3 trials are finished" in again.stdout
