"""Searches that cannot be: refused with what to type, before anything runs and without a run folder."""

import sys
from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.run.run_folder import RunFolder
from sweeps.search.checks import refuse_impossible
from sweeps.search.run_search import RunSearch
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import Command, WriteSpec

SPEC = """
name = "s"
[trial]
method.name = "prune"
[axes]
optimisation.epochs = [8, 4, 6]
"""
VARIANTS = '[[variants]]\nmethod.name = "fine_tune"\n[[variants]]\nmethod.name = "head_only"\n'


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (VARIANTS + "axes.seed = [0, 1]\n[search]\n", r"\[\[variants\]\] 2 seed: a search runs each setting with"),
        (VARIANTS + "seed = 3\n[search]\n", r"\[\[variants\]\] 2 seed: .*for all variants, as in \[axes\] seed = "),
        (VARIANTS + 'data.name = "blobs"\n[search]\n', r"\[\[variants\]\] 2 data.name: scores on different data sets"),
        ('data.name = ["digits", "friedman1"]\n[search]\n', r"\[axes\] data.name: .*search on one data set"),
        (VARIANTS + "optimisation.epochs = 5\n[search]\n", r"\[\[variants\]\] 2 optimisation.epochs: \[axes\] sets it"),
        (VARIANTS + "[search]\n[confirm]\ntop = 7\n", r"\[confirm\] top = 7: of 6 settings 6 reach .*; type top = 6$"),
        ("[search]\ntrials = 2\n[confirm]\n", r"\[confirm\] top = 3: of 2 settings 2 reach their end; type top = 2$"),
        ("[search]\nhalving.epochs = [2, 4]\n", r"halving: a rung at 4 epochs: the fine-tuning has 4"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused(tables: str, message: str, write_spec: WriteSpec) -> None:
    with pytest.raises(SpecError, match=message):
        refuse_impossible(load_spec(write_spec(SPEC + tables)))


@pytest.mark.parametrize(
    "tables",
    [
        VARIANTS + "[search]\n[confirm]\ntop = 6\n",
        "seed = [0, 1]\n[search]\ntrials = 2\n[confirm]\ntop = 2\n",
        "[search]\nhalving.epochs = [2, 3]\n[confirm]\ntop = 1\n",
    ],
)
def test_what_can_just_be_is_not_refused(tables: str, write_spec: WriteSpec) -> None:
    refuse_impossible(load_spec(write_spec(SPEC + tables)))


ARMS = """
name = "s"
[trial]
optimisation.epochs = 8
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "l2"]
[axes]
seed = [0, 1]
optimisation.learning_rate = [0.01, 0.1]
"""
MANY = f"optimisation.head_epochs = {[*range(1, 1000)]}\n"
WITHOUT_EFFECT: dict[str, tuple[str, tuple[str, ...], str]] = {
    "setting": ("optimisation.epoch = 8\n", (), "[[exclude]] 1: no trial has a setting 'optimisation.epoch'; did you"),
    "value": ("optimisation.learning_rate = 1\n", (), "[[exclude]] 1 optimisation.learning_rate: matches no trial; "),
    "value of none": ("optimisation.epochs = 9\n", (), "[[exclude]] 1 optimisation.epochs: matches no trial; given 9"),
    "label": ('label = "prune l3"\n', (), '[[exclude]] 1 label: matches no trial; given "prune l3"; did you mean'),
    "seed": ("seed = 2\n", (), "[[exclude]] 1 seed: matches no trial; given 2"),
    "axis": ("", ("trial.optimisation.learning_rate=0.5",), "type --set 'axes.optimisation.learning_rate=[0.5]'"),
    "seeds": ("", ("trial.seed=7",), "has no effect, because [axes] of spec.toml sets seed itself; type --set "),
    "several": ("", ("trial.seed=[0,1]",), "sets seed itself; type --set 'axes.seed=[0, 1]'"),
    "one variant": ("", ("trial.method.name=prune",), "every variant of spec.toml sets method.name itself; change the"),
    "variant": ("", ("trial.method.name=head_only",), "every variant of spec.toml sets method.name itself; change the"),
    "replaced": (
        "",
        ("trial.method.steps=2", "trial.method.name=transtailor"),
        "sets method.steps or method.name itself",
    ),
    "axis of tables": (
        "",
        ("trial.optimisation.class_weights.9=2", 'axes.optimisation.class_weights=[{5=1,6=1,7=1,8=1,9=1},"balanced"]'),
        "because [axes] of spec.toml sets optimisation.class_weights.9 itself; change the tables of",
    ),
    "last": ("", ("trial.optimisation.epochs=9", "trial.seed=7"), "--set trial.seed=7: has no effect, because [axes]"),
}


@pytest.mark.check
@pytest.mark.parametrize("fault", WITHOUT_EFFECT)
def test_what_changes_no_setting_is_refused_as_in_a_grid(
    fault: str, launch: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    exclude, assignments, message = WITHOUT_EFFECT[fault]
    options = [word for one in assignments for word in ("--set", one)]
    said = {}
    for space in ("", MANY):
        for search in ("", "[search]\n"):
            write_spec(f"{ARMS}{space}{exclude and '[[exclude]]'}\n{exclude}{search}")
            if search or not space:  # a grid of 6,000 settings would take long
                done = launch("spec.toml", *options)
                assert (done.returncode, done.stdout) == (2, ""), done.stderr
                said[space, search] = done.stderr
    assert message in said["", ""]
    assert said["", ""] == said["", "[search]\n"]
    assert message in said[MANY, "[search]\n"]
    assert not (tmp_path / "runs").exists()


def test_an_exclusion_of_no_combination_is_refused_unless_the_space_is_large(write_spec: WriteSpec) -> None:
    exclude = '[[exclude]]\nlabel = "fine_tune"\nmethod.criterion = "l1"\n[search]\n'
    with pytest.raises(SpecError, match=r"\[\[exclude\]\] 1: matches no trial, though each of its settings does"):
        refuse_impossible(load_spec(write_spec(ARMS + exclude)))
    refuse_impossible(load_spec(write_spec(ARMS + MANY + exclude)))


@pytest.mark.parametrize("space", ["", MANY])
def test_what_changes_a_setting_is_not_refused(space: str, write_spec: WriteSpec) -> None:
    exclude = '[[exclude]]\nseed = 1\nlabel = "prune l2"\n[[exclude]]\noptimisation.learning_rate = 0.1\nseed = 0\n'
    path = write_spec(f"{ARMS}{space}{exclude}[search]\n")
    refuse_impossible(load_spec(path, ["trial.optimisation.epochs=9", "trial.optimisation.batch_size=16"]))


@pytest.mark.parametrize("search", ["", "[search]\n"])
def test_an_exclusion_of_values_that_a_set_leaves_out_is_not_refused(
    search: str, launch: Command, write_spec: WriteSpec
) -> None:
    exclude = '[[exclude]]\nseed = 1\nlabel = "prune l2"\n[[exclude]]\noptimisation.learning_rate = 0.1\n'
    write_spec(ARMS + exclude + search)
    done = launch("spec.toml", "--plan", "--set", "axes.seed=[0]")
    assert (done.returncode, done.stderr) == (0, "")
    done = launch("spec.toml", "--plan", "--set", "axes.seed=[0]", "--set", "axes.optimisation.learning_rate=[0.01]")
    assert (done.returncode, done.stderr) == (0, "")
    done = launch("spec.toml", "--plan", "--set", "trial.optimisation.epochs=9", "--set", "axes.seed=[0, 2]")
    assert (done.returncode, done.stderr) == (0, "")
    done = launch("spec.toml", "--plan", "--set", "axes.optimisation.learning_rate=[0.1]")
    assert done.returncode == 2 and "[[exclude]]" in done.stderr, "nothing is left"
    write_spec(ARMS + '[[exclude]]\nlabel = "prune l3"\n' + search)
    done = launch("spec.toml", "--plan", "--set", "axes.seed=[0]")
    assert (done.returncode, 'label: matches no trial; given "prune l3"' in done.stderr) == (2, True)


def test_a_value_that_no_setting_can_have_is_the_reason_of_a_refusal(launch: Command, write_spec: WriteSpec) -> None:
    write_spec(ARMS + "[[exclude]]\nseed = 2\n[search]\n")
    done = launch("spec.toml", "--set", "trial.optimisation.epochs=few")
    assert (done.returncode, done.stdout) == (2, "")
    assert "every setting is refused, the first because: --set trial.optimisation.epochs=few: " in done.stderr


@pytest.mark.parametrize("option", [("--only", "0123456789abcdef"), ("--again", "0123456789abcdef"), ("--no-sharing",)])
@pytest.mark.parametrize("mode", [(), ("--plan",)])
def test_options_that_choose_trials_are_refused(
    option: tuple[str, ...], mode: tuple[str, ...], launch: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    write_spec(SPEC + "[search]\n")
    done = launch("spec.toml", *option, *mode)
    assert (done.returncode, done.stdout) == (2, "")
    refusal = f"spec.toml [search] chooses the trials, so {option[0]} cannot be used; leave one out"
    assert done.stderr == f"error: {refusal}\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("[search]\nhalving.epochs = [5]\n", "a rung at 5 epochs: the fine-tuning has 4"),
        ("[search]\nhalving.points = [7]\n", "spec.toml [search] halving: "),
        ("[confirm]\n", "[confirm]: there is no search to confirm; add [search] with"),
        ("[search]\nsampler = 'tune:zoopt'\ntrials = 2\n", "input should be 'grid', 'random' or 'tpe'"),
        ("[search]\nsampler = 'nsga2'\ntrials = 2\n", "'random' or 'tpe'"),
    ],
)
def test_wrong_input_ends_with_2_and_in_words(
    tables: str, message: str, launch: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    write_spec(SPEC + tables)
    for mode in ((), ("--plan",)):
        done = launch("spec.toml", *mode)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_without_optuna_a_search_says_what_to_install(
    launch: Command, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # as Python has it while a module cannot be imported
    write_spec(SPEC + '[search]\nsampler = "random"\ntrials = 2\n')
    done = launch("spec.toml", "--plan")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs Optuna, which is not installed; type: " in done.stderr
    assert "pip install 'transtailor-sweeps[search]'" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("search", "is_too_much"), [("", True), ("trials = 200_000", True), ("trials = 3", False)])
def test_a_search_has_no_more_trials_than_other_sweeps(
    search: str, is_too_much: bool, write_spec: WriteSpec, tmp_path: Path
) -> None:
    thousand = [*range(1, 1001)]
    axes = f"optimisation.head_epochs = {thousand}\noptimisation.epochs = {thousand}\n"
    spec = load_spec(write_spec(f'name = "s"\ntrial.method = "prune"\n[axes]\n{axes}[search]\n{search}\n'))
    run = RunFolder(tmp_path / "runs" / "s")
    if not is_too_much:
        assert len(RunSearch(spec, run).plan.trials) == 3
        return
    with pytest.raises(SpecError, match="trials, .* 100,000.*optimisation.epochs has 1,000"):
        RunSearch(spec, run)
