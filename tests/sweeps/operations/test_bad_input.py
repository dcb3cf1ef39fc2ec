"""Every mistake in what was typed: exit code 2, one clear message with file, key and nearest name, nothing created."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.run.run_folder import RunFolder
from tests.sweeps.conftest import Command, WriteSpec
from transtailor.__main__ import main
from transtailor.shell import command

HEAD = 'name = "bad"\n'
TRIAL = HEAD + '[trial]\nmethod.name = "head_only"\n'
ONE_SHOT = HEAD + '[trial]\nmethod.name = "prune"\n'

BAD_SPECS = {
    "not TOML": ("name = \n[trial]\n", ["spec.toml", "not valid TOML", "line 1"]),
    "no name": ("[trial]\n", ["spec.toml: name is missing", "name = ..."]),
    "name of another type": ("name = 3\n[trial]\nmethod.name = 'head_only'\n", ["spec.toml: name: given 3", "string"]),
    "name that leaves the folder": ('name = "../up"\n[trial]\nmethod.name="head_only"', ["spec.toml name", "'../up'"]),
    "unknown table": (TRIAL + "[axis]\nseed = [0]\n", ["spec.toml", "'axis'", "did you mean 'axes'"]),
    "setting outside of its table": (
        "seed = 3\n" + TRIAL,
        ["spec.toml: unknown key 'seed'", "did you mean 'trial.seed'"],
    ),
    "a table without one of its keys": (TRIAL + "[settle]\nagainst = 'x'\n", ["spec.toml: settle.matters is missing"]),
    "axis outside of its table": (
        "seed = [0, 1]\n" + TRIAL,
        ["spec.toml: unknown key 'seed'", "did you mean 'trial.seed'"],
    ),
    "blank behind a label": (
        TRIAL + '[[variants]]\nlabel = "l1 "\n',
        ["variants.1.label: given 'l1 '", "one line: 'l1'"],
    ),
    "misspelt setting": (TRIAL + "seeed = 1\n", ["spec.toml: trial: unknown key 'seeed'", "did you mean 'seed'"]),
    "wrong type": (TRIAL + 'optimisation.epochs = "many"\n', ["spec.toml [trial]", "optimisation.epochs", "'many'"]),
    "truth value for a number": (TRIAL + "seed = true\n", ["spec.toml [trial]", "seed", "True"]),
    "date": (TRIAL + "seed = 2020-01-01\n", ["spec.toml trial seed", "2020-01-01"]),
    "table for a value": (TRIAL + "seed.value = 1\n", ["spec.toml [trial]", "seed"]),
    "value for a table": (HEAD + "trial = 1\n", ["spec.toml: trial: given 1", "table of settings"]),
    "budget above 1": (
        ONE_SHOT + "method.asked_removed_macs_fraction = 1.5\n",
        ["method.asked_removed_macs_fraction", "1.5"],
    ),
    "path that removes all": (
        HEAD + '[trial]\nmethod = { name = "transtailor", steps = 10 }\n',
        ["steps", "fewer steps"],
    ),
    "no method": (HEAD + "[trial]\nseed = 1\n", ["spec.toml [trial]", "method"]),
    "a setting of the base": (
        TRIAL + 'network = "digits_vvg"\n[axes]\nseed = [0, 1]\n[[variants]]\nlabel = "a"\n',
        ["spec.toml [[variants]] 1 ('a') at seed = 0: network", "did you mean 'digits_vgg'"],
    ),
    "a setting of the second variant": (
        TRIAL + '[[variants]]\nlabel = "a"\n[[variants]]\noptimisation.epochs = "x"\n',
        ["spec.toml [[variants]] 2: optimisation.epochs: given 'x'"],
    ),
    "an open quote": (TRIAL + 'network = "x\n', ["line 4", 'network = "x', "Illegal character"]),
    "a single trial's settings": ('method.name = "head_only"\n', ["single trial", "trial run", "spec.toml"]),
    "no such network": (TRIAL + 'network = "digits_vvg"\n', ["network", "digits_vvg", "did you mean 'digits_vgg'"]),
    "no such data set": (TRIAL + 'data.name = "digit"\n', ["data", "'digit'", "did you mean 'digits'"]),
    "0 ranks": (TRIAL + "[resources]\nranks = 0\n", ["spec.toml: resources.ranks: given 0"]),
    "ranks that share a GPU": (
        TRIAL + "[resources]\nranks = 2\ngpus_per_rank = 0.5\n",
        ["spec.toml: resources: ranks = 2", "choose ranks = 1, so that several trials share it, or gpus_per_rank = 1"],
    ),
    "two GPUs for a rank": (
        TRIAL + "[resources]\ngpus_per_rank = 2\n",
        ["spec.toml: resources.gpus_per_rank: given 2", "for more GPUs give more ranks"],
    ),
    "axis that is no list": (TRIAL + "[axes]\nseed = 3\n", ["spec.toml: axes.seed: given 3", "a list, in [ ]"]),
    "variant without a second bracket": (
        TRIAL + "[variants]\nlabel = 'a'\n",
        ["spec.toml: variants", "a list, in [ ]"],
    ),
    "data set of the catalogue in a folder": (
        TRIAL + 'data = { name = "digits", root = "here" }\n',
        ["'digits'", "leave data.root out"],
    ),
    "axis without values": (TRIAL + "[axes]\nseed = []\n", ["spec.toml: axes: seed: ", "empty"]),
    "axis with a value twice": (
        TRIAL + "[axes]\nseed = [1, 2, 1]\n",
        ["spec.toml: axes: seed: ", "1 is there twice"],
    ),
    "axis with the same number twice": (TRIAL + "[axes]\noptimisation.weight_decay = [1, 1.0]\n", ["one id"]),
    "axis of no setting": (
        TRIAL + "[axes]\nsead = [1]\n",
        ["spec.toml: axes: unknown key 'sead'", "did you mean 'seed'"],
    ),
    "axis of a setting and of its table": (
        TRIAL + '[axes]\noptimisation = [{ epochs = 1 }]\n"optimisation.epochs" = [1]\n',
        ["axes: optimisation.epochs", "leave one out"],
    ),
    "axis in two places": (
        HEAD + "[axes]\nseed = [0]\n[[variants]]\nmethod.name='head_only'\naxes.seed = [1]\n",
        ["[[variants]] 1: [axes] seed and its axes seed set one", "[axes] seed"],
    ),
    "variant that an axis overrides": (
        HEAD + "[axes]\nseed = [0]\n[[variants]]\nmethod.name='head_only'\nseed = 1\n",
        ["[[variants]] 1 seed", "no effect"],
    ),
    "variants that are no tables": (HEAD + "variants = [1]\n", ["spec.toml: variants.1: given 1", "table"]),
    "misspelt label": (
        HEAD + "[[variants]]\nlable = 'x'\nmethod.name = 'head_only'\n",
        ["variants.1: unknown key 'lable'", "did you mean 'label'"],
    ),
    "empty label": (HEAD + "[[variants]]\nlabel = ''\nmethod.name = 'head_only'\n", ["variants.1.label: given ''"]),
    "two trials with one id": (
        HEAD + "[[variants]]\nmethod.name = 'head_only'\n[[variants]]\nmethod.name = 'head_only'\n",
        ["two trials with one id", "[[variants]] 1", "[[variants]] 2"],
    ),
    "everything excluded": (TRIAL + "[[exclude]]\nseed = 0\n", ["spec.toml [[exclude]]", "every trial is excluded"]),
    "exclusion of no setting": (
        TRIAL + "[[exclude]]\nsead = 0\n",
        ["exclude.1: unknown key 'sead'", "did you mean 'seed'"],
    ),
    "exclusion that matches nothing": (
        TRIAL + "[[exclude]]\nnetwork = 'digits_vg'\n",
        ["[[exclude]] 1 network", "matches no trial", "digits_vgg"],
    ),
    "exclusion that matches only in part": (
        TRIAL
        + "[axes]\nseed = [0, 1]\nsource.seed = [0, 1]\n"
        + "[[exclude]]\nseed = 0\nsource.seed = 0\n[[exclude]]\nseed = [0]\nsource.seed = [2]\n",
        ["[[exclude]] 2 source.seed", "matches no trial"],
    ),
    "exclusion after one that takes the same trials": (
        TRIAL
        + "[axes]\nseed = [0, 1]\nsource.seed = [0, 1]\n"
        + "[[exclude]]\nseed = 0\n[[exclude]]\nseed = 0\nsource.seed = 1\noptimisation.epochs = 25\n"
        + "[[exclude]]\nseed = 1\nsource.seed = 0\nlabel = 'head'\n",
        ["[[exclude]] 3 label", "matches no trial", "head_only"],
    ),
    "extends what is not there": ('extends = "nothing.toml"\n' + TRIAL, ["no such spec", "nothing.toml"]),
    "extends itself": ('extends = "spec.toml"\n' + TRIAL, ["spec.toml", "extends itself"]),
    "extends a number": ("extends = 1\n" + TRIAL, ["spec.toml extends", "1"]),
}

BAD_ASSIGNMENTS = {
    "axes.seed=[0 1]": ["is no value in TOML", "type for example --set 'axes.seed=[0, 1]'"],
    "axes.optimisation={epochs=[]}": [
        "--set 'axes.optimisation={epochs=[]}': axes: optimisation.epochs: the list is empty"
    ],
    "trial.network=": ["--set trial.network=", "has no value"],
    "trial.seed=None": ["is no value in TOML"],
    "trial.seed": ["--set trial.seed", "key=value"],
    "=3": ["--set =3", "key=value"],
    "seed=3": ["--set seed=3", "did you mean 'trial.seed'"],
    "trial.optimisation.epochs=[1,2]": ["optimisation.epochs: given [1, 2]"],
    "trail.seed=3": ["--set trail.seed=3", "did you mean 'trial'"],
    "trial.sead=3": ["--set trial.sead=3: trial: unknown key 'sead'", "did you mean 'seed'"],
    "trial.optimisation.epochs=few": ["optimisation.epochs", "'few'", "--set trial.optimisation.epochs=few"],
    "trial.seed=3": ["--set trial.seed=3", "no effect", "--set 'axes.seed=[3]'"],
    "trial.method.asked_removed_macs_fraction=2": ["asked_removed_macs_fraction"],
    "axes.seed=3": ["--set axes.seed=3: axes.seed: given 3"],
    "resources.ranks=0": ["--set resources.ranks=0: resources.ranks: given 0"],
    "trial.network=vgg11": ["reads inputs of shape (3, 224, 224)", "choose another network, see docs/networks.md"],
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Launch in this process, in the test's folder: it must end with 2 and change no file; returns the message."""
    monkeypatch.chdir(tmp_path)

    def launch(*arguments: object) -> str:
        before = contents(tmp_path)
        assert main(["run", *map(str, arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.strip()
        assert "Traceback" not in printed.err
        assert contents(tmp_path) == before
        return printed.err

    return launch


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder` with what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("text", "expected"), BAD_SPECS.values(), ids=BAD_SPECS.keys())
@pytest.mark.parametrize("plan", [[], ["--plan"]], ids=["run", "plan"])
def test_bad_spec(
    write_spec: WriteSpec, refused: Callable[..., str], plan: list[str], text: str, expected: list[str]
) -> None:
    message = refused(write_spec(text), *plan)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(("assignment", "expected"), BAD_ASSIGNMENTS.items(), ids=BAD_ASSIGNMENTS.keys())
def test_bad_assignment(
    write_spec: WriteSpec, refused: Callable[..., str], assignment: str, expected: list[str]
) -> None:
    message = refused(write_spec(), "--set", assignment)
    for part in expected:
        assert part in message


@pytest.mark.parametrize("site", [(), ("--site", "serial")])
def test_a_sweep_on_this_machine_cannot_be_detached(
    write_spec: WriteSpec, refused: Callable[..., str], site: tuple[str, ...]
) -> None:
    assert "--detach needs a SLURM site" in refused(write_spec(), "--plan", "--detach", *site)


def test_no_such_spec_names_the_nearest(write_spec: WriteSpec, refused: Callable[..., str]) -> None:
    write_spec(name="paper.toml")
    assert "did you mean 'paper.toml'" in refused("papr.toml")
    assert "did you mean 'demo'" in refused("sweeps/specs/demmo.toml")
    write_spec(name="m.toml")
    assert "did you mean 'demo'" in refused("demo.toml")


def test_a_setting_that_is_set_twice_is_refused(write_spec: WriteSpec, refused: Callable[..., str]) -> None:
    sets = ["--set", "trial.optimisation.epochs=2", "--set", "trial.optimisation.epochs = 3"]
    assert "--set trial.optimisation.epochs=...: is typed 2 times" in refused(write_spec(), *sets)


def test_a_spec_is_no_pipe_and_no_run(tmp_path: Path, run: RunFolder, refused: Callable[..., str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert f"{tmp_path / 'pipe'} is a pipe; save the spec as a file" in refused(tmp_path / "pipe")
    assert f"is the folder of a run; to resume it, type: {command('run', run.path, '--retry')}" in refused(run.path)


def test_a_folder_and_a_binary_file_are_no_specs(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as a spec: Is a directory; type the path of a TOML" in refused(tmp_path / "folder.toml")
    assert "binary.toml: is not valid TOML" in refused(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    "name", ["", "été", ".hidden", "a/b", "x" * 101, "two words", "a\nb", "$(touch x)", "it's", '"', "`x`", "a;b"]
)
def test_a_name_that_cannot_name_a_folder(write_spec: WriteSpec, refused: Callable[..., str], name: str) -> None:
    assert f"--name: {name!r} cannot name a run folder; type a name of a-z, A-Z, " in refused(
        write_spec(), "--name", name
    )


@pytest.mark.parametrize("option", ["--runs", "--cache"])
def test_a_file_in_place_of_a_folder(
    tmp_path: Path, write_spec: WriteSpec, refused: Callable[..., str], option: str
) -> None:
    (tmp_path / "file").write_text("")
    assert f"{option} file/below" in refused(write_spec(), option, "file/below")


@pytest.mark.parametrize("option", ["--runs", "--cache"])
def test_a_folder_that_may_not_be_written(write_spec: WriteSpec, refused: Callable[..., str], option: str) -> None:
    # Not even root may make a file in /proc.
    assert f"{option} /proc/below: /proc cannot be written" in refused(write_spec(), option, "/proc/below")


@pytest.mark.parametrize("option", [["--site", "locla"], ["--plam"], ["--ext"], ["--max-disk-gb", "-1"]])
def test_bad_options(launch: Command, write_spec: WriteSpec, tmp_path: Path, option: list[str]) -> None:
    done = launch(write_spec(), *option)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]
