"""Every mistake in what was typed: exit code 2, one clear message with file, key and nearest name, nothing created."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.planning.this_machine import usable_gpus
from sweeps.run.run_folder import RunFolder
from tests.sweeps.conftest import Command, WriteSpec
from transtailor.__main__ import main
from transtailor.machine import usable_cores
from transtailor.shell import command

HEAD = 'name = "bad"\n'
TRIAL = HEAD + '[trial]\nmethod.name = "head_only"\n'
ONE_SHOT = HEAD + '[trial]\nmethod.name = "prune"\n'

BAD_SPECS = {
    "not TOML": ("name = \n[trial]\n", ["spec.toml", "not valid TOML", "line 1"]),
    "no name": ("[trial]\n", ["spec.toml", 'name = "..."']),
    "name of another type": ("name = 3\n[trial]\nmethod.name = 'head_only'\n", ["spec.toml name", "3", "string"]),
    "name that leaves the folder": ('name = "../up"\n[trial]\nmethod.name="head_only"', ["spec.toml name", "'../up'"]),
    "unknown table": (TRIAL + "[axis]\nseed = [0]\n", ["spec.toml", "'axis'", "did you mean 'axes'"]),
    "setting outside of its table": ("seed = 3\n" + TRIAL, ["'seed'", "under [trial]"]),
    "axis outside of its table, in the plural": ("seeds = [0, 1]\n" + TRIAL, ["did you mean seed?", "under [axes]"]),
    "a key of the spec in a table": (
        TRIAL + 'tied_to_seed = ["data.split_seed"]\n',
        ["spec.toml [trial]: no such key: 'tied_to_seed'", "write it above the first line that begins with ["],
    ),
    "a table without one of its keys": (TRIAL + "[settle]\nagainst = 'x'\n", ["spec.toml [settle]: has no matters"]),
    "a number in quotes": (TRIAL + "[axes]\nseed = ['0']\n", ["type 0, without quotes"]),
    "axis outside of its table": ("seed = [0, 1]\n" + TRIAL, ["'seed'", "trial: write it under [axes]"]),
    "blank behind a label": (
        TRIAL + '[[variants]]\nlabel = "l1 "\n',
        ["[[variants]] 1 label", "'l1 '", "one line: 'l1'"],
    ),
    "misspelt setting": (TRIAL + "seeed = 1\n", ["spec.toml [trial]", "'seeed'", "did you mean 'seed'"]),
    "misspelt nested setting": (
        TRIAL + "optimisation.epoch = 1\n",
        ["spec.toml [trial]", "optimisation.epoch", "did you mean 'epochs'"],
    ),
    "wrong type": (TRIAL + 'optimisation.epochs = "many"\n', ["spec.toml [trial]", "optimisation.epochs", "'many'"]),
    "truth value for a number": (TRIAL + "seed = true\n", ["spec.toml [trial]", "seed", "True"]),
    "date": (TRIAL + "seed = 2020-01-01\n", ["spec.toml trial seed", "2020-01-01"]),
    "table for a value": (TRIAL + "seed.value = 1\n", ["spec.toml [trial]", "seed"]),
    "value for a table": (HEAD + "trial = 1\n", ["spec.toml trial", "[trial]"]),
    "budget above 1": (
        ONE_SHOT + "method.asked_removed_macs_fraction = 1.5\n",
        ["method.asked_removed_macs_fraction", "1.5"],
    ),
    "negative budget": (
        ONE_SHOT + "method.asked_removed_macs_fraction = -0.1\n",
        ["method.asked_removed_macs_fraction", "-0.1"],
    ),
    "path that removes all": (
        HEAD + '[trial]\nmethod = { name = "transtailor", steps = 10 }\n',
        ["steps", "fewer steps"],
    ),
    "no method": (HEAD + "[trial]\nseed = 1\n", ["spec.toml [trial]", "method"]),
    "no such method": (
        HEAD + '[trial]\nmethod.name = "transtailer"\n',
        ["'transtailer'", "did you mean 'transtailor'"],
    ),
    "a setting of the base": (
        TRIAL + 'network = "digits_vvg"\n[axes]\nseed = [0, 1]\n[[variants]]\nlabel = "a"\n',
        ["spec.toml [trial], line 4: network", "did you mean 'digits_vgg'"],
    ),
    "a line of [trial] before a variant with axes": (
        TRIAL + 'network = "digits_vg"\n[[variants]]\naxes.seed = [0]\n',
        ["spec.toml [trial], line 4: network"],
    ),
    "a setting of the second variant": (
        TRIAL + '[[variants]]\nlabel = "a"\n[[variants]]\noptimisation.epochs = "x"\n',
        ["spec.toml [[variants]] 2, line 7: optimisation.epochs"],
    ),
    "per cent": (
        HEAD + '[trial]\nmethod = { name = "prune", criterion = "l1", asked_removed_macs_fraction = 20 }\n',
        ["spec.toml [trial], line 3: method.asked_removed_macs_fraction", "for 20% type 0.2"],
    ),
    "power of ten as text": (TRIAL + 'optimisation.learning_rate = "1e-3"\n', ["type 0.001"]),
    "per cent as text": (TRIAL + 'optimisation.learning_rate = "5%"\n', ["optimisation.learning_rate", "type 0.05"]),
    "other capitals": (TRIAL + 'network = "ResNet18"\n', ["did you mean 'resnet18'", " in all"]),
    "an open quote": (TRIAL + 'network = "x\n', ["line 4", 'network = "x', "a quote is opened there and not closed"]),
    "a single trial's settings": ('method.name = "head_only"\n', ["single trial", "trial run", "spec.toml"]),
    "no such network": (TRIAL + 'network = "digits_vvg"\n', ["network", "digits_vvg", "did you mean 'digits_vgg'"]),
    "a network of timm without its prefix": (
        TRIAL + 'network = "mobilenetv2_100"\n',
        ["timm/NAME", "imports = [FILE]"],
    ),
    "neither of two kinds of value": (
        TRIAL + "pruning.width_multiple = 0\n",
        ["pruning.width_multiple: Input should be greater than or equal to 1"],
    ),
    "no such data set": (TRIAL + 'data.name = "digit"\n', ["data", "'digit'", "did you mean 'digits'"]),
    "0 ranks": (TRIAL + "[resources]\nranks = 0\n", ["spec.toml [resources] ranks", "0"]),
    "half a rank": (TRIAL + "[resources]\nranks = 1.5\n", ["spec.toml [resources] ranks", "1.5"]),
    "ranks that share a GPU": (
        TRIAL + "[resources]\nranks = 2\ngpus_per_rank = 0.5\n",
        ["spec.toml [resources]", "choose ranks = 1, so that several trials share it, or gpus_per_rank = 1"],
    ),
    "two GPUs for a rank": (
        TRIAL + "[resources]\ngpus_per_rank = 2\n",
        ["spec.toml [resources] gpus_per_rank", "given 2", "for more GPUs give more ranks"],
    ),
    "more GPUs than there are": (
        TRIAL + f"[resources]\nranks = {usable_gpus() + 1}\ngpus_per_rank = 1\n",
        ["spec.toml [resources] ranks = ", "with gpus_per_rank = 1: a trial needs", "type --set resources."],
    ),
    "misspelt resource": (TRIAL + "[resources]\nrank = 1\n", ["[resources]", "'rank'", "did you mean 'ranks'"]),
    "more ranks than cores": (
        TRIAL + f"[resources]\nranks = {usable_cores() + 1}\n",
        ["spec.toml [resources] ranks", f"--set resources.ranks={usable_cores()}"],
    ),
    "axis that is no list": (TRIAL + "[axes]\nseed = 3\n", ["spec.toml [axes] seed", "seed = [3]"]),
    "axis that is a range in words": (TRIAL + '[axes]\nseed = "0-4"\n', ["'0-4'", "seed = { from = 0, to = 4 }"]),
    "axis that is a list in words": (TRIAL + '[axes]\nseed = "0, 1"\n', ["'0, 1'", "seed = [0, 1]"]),
    "setting by its usual short name": (
        TRIAL + "optimisation.lr = 0.1\n",
        ["optimisation.lr", "did you mean 'learning_rate'"],
    ),
    "setting outside of its table, by a short name": (
        TRIAL + "lr = 0.1\n",
        ["spec.toml [trial]", "'lr'", "did you mean 'optimisation.learning_rate'"],
    ),
    "budget by another name": (
        ONE_SHOT + "method.pruning_ratio = 0.5\n",
        ["did you mean 'asked_removed_macs_fraction'"],
    ),
    "optimiser in capitals": (TRIAL + 'optimisation.optimiser = "Adam"\n', ["'Adam'", "did you mean 'adam'"]),
    "variants without a second bracket": (TRIAL + "[variants]\nlabel = 'a'\n[variants]\n", ["line 6", "[[variants]]"]),
    "variants of which one lacks a bracket": (
        TRIAL + "[variants]\nlabel = 'a'\n[[variants]]\nlabel = 'b'\n",
        ["line 6", "or a table of a list lacks a bracket: it begins as in [[variants]]"],
    ),
    "variant without a second bracket": (TRIAL + "[variants]\nlabel = 'a'\n", ["spec.toml variants", "[[variants]]"]),
    "data set of the catalogue in a folder": (
        TRIAL + 'data = { name = "digits", root = "here" }\n',
        ["'digits'", "leave data.root out"],
    ),
    "axis without values": (TRIAL + "[axes]\nseed = []\n", ["spec.toml [axes] seed", "empty"]),
    "axis with a value twice": (
        TRIAL + "[axes]\nseed = [1, 2, 1]\n",
        ["spec.toml [axes] seed", "1 is there twice"],
    ),
    "axis with the same number twice": (TRIAL + "[axes]\noptimisation.weight_decay = [1, 1.0]\n", ["one id"]),
    "axis of no setting": (TRIAL + "[axes]\nsead = [1]\n", ["spec.toml [axes]", "'sead'", "did you mean 'seed'"]),
    "axis of no nested setting": (
        TRIAL + "[axes]\noptimisation.epoch = [1]\n",
        ["optimisation.epoch = 1", "did you mean 'epochs'"],
    ),
    "axis of a setting and of its table": (
        TRIAL + '[axes]\noptimisation = [{ epochs = 1 }]\n"optimisation.epochs" = [1]\n',
        ["[axes] optimisation.epochs", "leave one out"],
    ),
    "axis in two places": (
        HEAD + "[axes]\nseed = [0]\n[[variants]]\nmethod.name='head_only'\naxes.seed = [1]\n",
        ["[[variants]] 1: [axes] seed and its axes seed set one", "[axes] seed"],
    ),
    "variant that an axis overrides": (
        HEAD + "[axes]\nseed = [0]\n[[variants]]\nmethod.name='head_only'\nseed = 1\n",
        ["[[variants]] 1 seed", "no effect"],
    ),
    "variants that are no tables": (HEAD + "variants = [1]\n", ["spec.toml variants", "[[variants]]"]),
    "misspelt label": (
        HEAD + "[[variants]]\nlable = 'x'\nmethod.name = 'head_only'\n",
        ["[[variants]] 1", "'lable'", "did you mean 'label'"],
    ),
    "empty label": (HEAD + "[[variants]]\nlabel = ''\nmethod.name = 'head_only'\n", ["[[variants]] 1 label"]),
    "two trials with one id": (
        HEAD + "[[variants]]\nmethod.name = 'head_only'\n[[variants]]\nmethod.name = 'head_only'\n",
        ["two trials with one id", "[[variants]] 1", "[[variants]] 2"],
    ),
    "everything excluded": (TRIAL + "[[exclude]]\nseed = 0\n", ["spec.toml [[exclude]]", "every trial is excluded"]),
    "exclusion of no setting": (TRIAL + "[[exclude]]\nsead = 0\n", ["[[exclude]] 1", "'sead'", "did you mean 'seed'"]),
    "exclusion of no nested setting": (
        TRIAL + "[[exclude]]\noptimisation.epoch = 1\n",
        ["[[exclude]] 1", "'optimisation.epoch'", "did you mean 'optimisation.epochs'"],
    ),
    "exclusion that matches nothing": (
        TRIAL + "[[exclude]]\nnetwork = 'digits_vg'\n",
        ["[[exclude]] 1 network", "matches no trial", "digits_vgg"],
    ),
    "exclusion of a method that no trial has": (
        ONE_SHOT + "[[exclude]]\nmethod = 'gbn'\n",
        ["[[exclude]] 1 method: matches no trial", 'given "gbn"', "prune"],
    ),
    "methods as a list": (
        TRIAL.replace("head_only", "x").replace('method.name = "x"', "method = ['prune']"),
        ["method: Input should be a table of settings", "several values are an axis of a spec: axes.method"],
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
    "axes.network=[digits_vgg, x]": [
        "a list has commas between its values, and quotes around words, which the shell removes",
        """type --set 'axes.network=["digits_vgg", "x"]'""",
    ],
    "axes.seed=[0 1]": ["a list has commas between its values", "type --set 'axes.seed=[0, 1]'"],
    "axes.network=[digits_vgg x]": ["""type --set 'axes.network=["digits_vgg", "x"]'"""],
    'axes.network=["digits_vgg" "x"]': ["""type --set 'axes.network=["digits_vgg", "x"]'"""],
    "trial.data=digits": ["data: Input should be a table of settings, such as data.name (given: 'digits')"],
    "trial.pruning.multiple_from_filters=4": ["give a width_multiple such as 8, or leave it out\n"],
    "trial.metric=top1": ["did you mean 'accuracy'?"],
    "axes.seed=[0..3]": ["type --set 'axes.seed={ from = 0, to = 3 }'"],
    "axes.seed={from:0,to:3}": ["{ } has keys, = and values"],
    "axes.seed={min=0,max=3}": ["a range is written as { from = 5, to = 25, step = 5 }"],
    "axes.optimisation.learning_rate=1e-3,0.01": ["type --set 'axes.optimisation.learning_rate=[0.001, 0.01]'"],
    "lr=0.1,0.01": ["did you mean --set 'axes.optimisation.learning_rate=[0.1, 0.01]'?"],
    "axes.optimisation={epochs=[]}": ["optimisation.epochs: the list is empty"],
    'trial.network="x': ["a quote is opened there and not closed"],
    "axes.seed=[0, 1": ["--set axes.seed=[0, 1", "[ and ] do not match"],
    'trial.data={ name = "digits"': ["{ and } do not match"],
    "trial.network=": ["--set trial.network=", "has no value"],
    "axes.seed=null": ["TOML has no such value; type another one, or leave this --set out"],
    "trial.seed=None": ["TOML has no such value"],
    "axes.seed=0-4": ["--set 'axes.seed={ from = 0, to = 4 }'"],
    "lr=0.1": ["--set lr=0.1", "--set trial.optimisation.learning_rate=0.1"],
    "steps=3": ["--set trial.method.steps=3"],
    "head_lr=0.1": ["--set trial.optimisation.head_learning_rate=0.1"],
    "trial.data.images=60": ["did you mean 'train_images'"],
    "augment=none": ["--set trial.data.augmentation=none"],
    "optimisation.epochs=3": ["--set trial.optimisation.epochs=3"],
    "trial.lr=0.1": ["did you mean 'optimisation.learning_rate'"],
    "trial.seed": ["--set trial.seed", "key=value"],
    "=3": ["--set =3", "key=value"],
    "seed=3": ["--set seed=3", "--set trial.seed=3"],
    "seeds=0,1": ["did you mean --set 'axes.seed=[0, 1]'?"],
    "lr=0,001": ["did you mean --set trial.optimisation.learning_rate=0,001?"],
    "seed=[0,1]": ["did you mean --set 'axes.seed=[0,1]'?"],
    "optimisation.lr=0.1": ["did you mean --set trial.optimisation.learning_rate=0.1?"],
    "pixel_mean=[0.5]": ["did you mean --set 'trial.source.pixel_mean=[0.5]'?"],
    "trial.optimisation.epochs=[1,2]": ["several values are an axis of a spec: axes.optimisation.epochs = ..."],
    "trail.seed=3": ["--set trail.seed=3", "did you mean 'trial'"],
    "trial.sead=3": ["--set trial.sead=3", "did you mean 'seed'"],
    "trial.optimisation.epoch=3": ["optimisation.epoch", "did you mean 'epochs'", "--set trial.optimisation.epoch=3"],
    "trial.optimisation.epochs=few": ["optimisation.epochs", "'few'", "--set trial.optimisation.epochs=few"],
    "trial.seed=3": ["--set trial.seed=3", "no effect", "--set 'axes.seed=[3]'"],
    "trial.method.asked_removed_macs_fraction=2": ["asked_removed_macs_fraction"],
    "axes.seed=3": ["--set axes.seed=3", "--set 'axes.seed=[3]'"],
    "axes.sead=[3]": ["--set axes.sead=[3]", "did you mean 'seed'"],
    "resources.ranks=0": ["[resources] ranks", "0"],
    "resources.rank=1": ["'rank'", "did you mean 'ranks'"],
    "trial.network=vgg11": ["reads inputs of shape (3, 224, 224)", "choose another network, see docs/networks.md"],
    "name=other": ["--set name=other", "trial., axes., tuning. or resources.", "--name other?"],
    "settle.matters=1": ["'settle.matters' cannot be set", "resources.; change it in the spec"],
    'name="other one"': ["--name 'other one'?"],
    "trial.pruning.criterion=l2": ["did you mean 'method.criterion'?"],
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


def test_several_assignments_of_a_refused_table_are_all_named(
    write_spec: WriteSpec, refused: Callable[..., str]
) -> None:
    sets = ["--set", "trial.data.train_images=20", "--set", "trial.data.crop_px=200"]
    assert refused(write_spec(), *sets).startswith(f"error: {' '.join(sets)}: data: crop_px = 200")


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
    assert f"is the folder of a run; to resume it, type: {command('retry', run.path)}" in refused(run.path)


TWICE = """
from tailor.extend import NETWORKS, NetworkInfo

def twice(num_classes):
    from torch import nn

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, num_classes)

        def forward(self, images):
            return self.head(self.first(self.second(self.first(images.flatten(1)))))

    return Twice()

NETWORKS.add("twice", NetworkInfo(description="d", builder=twice, head="head", input_shape=(1, 8, 8)))
"""


@pytest.mark.check
def test_layers_without_an_order_have_no_decay(tmp_path: Path, launch_process: Command) -> None:
    """As a user's own process, because a network stays registered."""
    (tmp_path / "twice.py").write_text(TWICE)
    text = 'name = "s"\nimports = ["twice.py"]\n[trial]\nmethod.name = "fine_tune"\nnetwork = "twice"\n'
    (tmp_path / "s.toml").write_text(f"{text}optimisation.layer_decay = 0.75\n")
    done = launch_process(tmp_path / "s.toml", "--plan")
    assert done.returncode == 2
    assert "first runs again after second; leave layer_decay out" in done.stderr
    (tmp_path / "s.toml").write_text(text)
    assert launch_process(tmp_path / "s.toml", "--plan").returncode == 0


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


def test_the_real_command_line(launch_process: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    path = write_spec(TRIAL + "seeed = 1\n")
    done = launch_process(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "spec.toml [trial]" in done.stderr
    assert "did you mean 'seed'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


def test_a_whole_table_cannot_be_set(write_spec: WriteSpec, refused: Callable[..., str]) -> None:
    assert "did you mean" not in refused(write_spec(), "--set", "axes={}")


@pytest.mark.parametrize(("site", "is_unknown"), [("mine", True), ("./broken.toml", False), ("./gone.toml", False)])
def test_only_a_site_that_may_be_mistyped_is_told_of_this_machine(
    write_spec: WriteSpec, refused: Callable[..., str], tmp_path: Path, site: str, is_unknown: bool
) -> None:
    (tmp_path / "broken.toml").write_text('partition = "x"\n')
    said = refused(write_spec(), "--site", site)
    assert ("local and serial are this machine" in said) == is_unknown


@pytest.mark.parametrize("option", [["--site", "locla"], ["--plam"], ["--ext"], ["--max-disk-gb", "-1"]])
def test_bad_options(launch: Command, write_spec: WriteSpec, tmp_path: Path, option: list[str]) -> None:
    done = launch(write_spec(), *option)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]
