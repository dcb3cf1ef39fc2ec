"""Searches that cannot be: refused with what to type, before anything runs and without a run folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.search.checks import refuse_impossible
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import Command

WriteSpec = Callable[..., Path]
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
        (VARIANTS + 'axes.data.name = ["digits"]\n[search]\n', r"\[\[variants\]\] 2 data.name: .* with --set trial"),
        ('data.name = ["digits", "friedman1"]\n[search]\n', r"\[axes\] data.name: .*search on one data set"),
        (VARIANTS + "optimisation.epochs = 5\n[search]\n", r"\[\[variants\]\] 2 optimisation.epochs: is an axis too"),
        (VARIANTS + "[search]\n[confirm]\ntop = 7\n", r"\[confirm\] top = 7: of 6 settings 6 reach .*; type top = 6$"),
        ("[search]\ntrials = 2\n[confirm]\n", r"\[confirm\] top = 3: of 2 settings 2 reach their end; type top = 2$"),
        ("[search]\nhalving.epochs = [2]\n[confirm]\ntop = 2\n", r" 3 settings 1 .* top = 1, or leave out a rung"),
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


@pytest.mark.parametrize("option", [("--only", "0123456789abcdef"), ("--again", "0123456789abcdef"), ("--no-sharing",)])
@pytest.mark.parametrize("mode", [(), ("--plan",)])
def test_options_that_choose_trials_are_refused(
    option: tuple[str, ...], mode: tuple[str, ...], launch: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    write_spec(SPEC + "[search]\n")
    done = launch("spec.toml", *option, *mode)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"spec.toml [search] chooses the trials, so {option[0]} cannot be used; leave one out\n"
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
