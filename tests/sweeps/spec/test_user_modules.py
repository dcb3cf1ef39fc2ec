"""Sweeps with a user's own module: planned, copied into the run, imported by every rank, refused in clear words.

What a module registers is there for good, so each command has a process of its own.
"""

import subprocess
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.run.run_folder import RunFolder, open_run
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


@pytest.mark.parametrize("value", ['"mine.py"', "[1]"])
def test_imports_are_a_list_of_paths(launch: Command, write_spec: WriteSpec, value: str) -> None:
    done = launch(write_spec(SPEC.replace('["modules/mine.py"]', value)), "--plan")
    assert done.returncode == 2
    assert 'type a list, as in imports = ["my_method.py"]' in done.stderr


@pytest.mark.check
def test_ranks_find_the_neighbours_of_a_module(launch_process: Command, write_spec: WriteSpec, module: Path) -> None:
    module.write_text(MODULE.replace("def widest(scoring):", "import signs\n\n\ndef widest(scoring):"))
    (module.parent / "signs.py").write_text("from tailor.extend import Method\n")
    spec = SPEC.replace('[[variants]]\nmethod = { name = "prune", criterion = "l1" }\n', "")
    done = launch_process(write_spec(spec), "--site", "serial", "--set", "resources.ranks=2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    again = launch_process("runs/own/spec.toml", "--site", "serial")
    assert "all 2 trials are finished" in again.stdout, again.stderr


@pytest.mark.check
def test_ranks_import_the_copy_and_later_edits_do_not_matter(
    launch_process: Command, sweeps_process: Command, write_spec: WriteSpec, module: Path, tmp_path: Path
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
    first, second = rows["prune inverse_l1"]["trial_id"], rows["prune l1"]["trial_id"]
    explained = sweeps_process("diff", first, second, "--imports")
    assert "train_source, fit_head" in explained.stdout, explained.stdout + explained.stderr
    again = launch_process("runs/own/spec.toml", "--site", "serial")  # its imports are the copies
    assert again.returncode == 0, again.stderr
    assert "all 3 trials are finished" in again.stdout
