"""Specs: what is read from TOML, `extends`, `--set`, and that the resolved text says the same."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import SpecError
from sweeps.spec.axes import SPEC_KEYS
from sweeps.spec.expand import Expanded, expand
from sweeps.spec.nested import merge_tables
from sweeps.spec.spec import EMBEDDED_SPEC, SPECS, Spec, load_spec
from sweeps.spec.toml_text import toml_value
from tailor.common.errors import ConfigError
from tests.sweeps.conftest import WriteSpec


def trials_of(spec: Spec) -> list[tuple[str, str, int]]:
    """Label, network and seed of each trial, in order."""
    return [(trial.label, trial.config.network, trial.config.seed) for trial in expand(spec)]


def test_the_keys_of_a_spec_are_its_fields() -> None:
    assert set(SPEC_KEYS) == {"extends", *(name for name, field in Spec.model_fields.items() if not field.exclude)}


def test_a_crossing_by_hand(write_spec: WriteSpec) -> None:
    path = write_spec("""
name = "hand"
[trial]
optimisation.epochs = 7
[axes]
network = ["digits_vgg", "digits_resnet"]
seed = [0, 3]
[[variants]]
label = "all layers"
method.name = "fine_tune"
[[variants]]
method = { name = "prune", criterion = "taylor" }
axes.method.asked_removed_macs_fraction = [0.2, 0.4]
[[exclude]]
network = "digits_vgg"
seed = 3
[[exclude]]
label = "prune taylor"
seed = [3]
method.asked_removed_macs_fraction = 0.4
""")
    trials = list(expand(load_spec(path)))
    assert [
        (t.label, t.config.network, t.config.seed, getattr(t.config.method, "asked_removed_macs_fraction", None))
        for t in trials
    ] == [
        ("all layers", "digits_vgg", 0, None),
        ("all layers", "digits_resnet", 0, None),
        ("all layers", "digits_resnet", 3, None),
        ("prune taylor", "digits_vgg", 0, 0.2),
        ("prune taylor", "digits_vgg", 0, 0.4),
        ("prune taylor", "digits_resnet", 0, 0.2),
        ("prune taylor", "digits_resnet", 0, 0.4),
        ("prune taylor", "digits_resnet", 3, 0.2),
    ]
    assert {trial.config.optimisation.epochs for trial in trials} == {7}


def test_without_variants_the_base_alone_is_the_sweep(write_spec: WriteSpec) -> None:
    path = write_spec('name = "one"\n[trial]\nmethod.name = "head_only"\nseed = 4\n')
    assert trials_of(load_spec(path)) == [("head_only", "digits_vgg", 4)]


@pytest.mark.parametrize(
    "axes",
    [
        "[axes]\noptimisation.epochs = [1, 2]",
        "[axes.optimisation]\nepochs = [1, 2]",
        '[axes]\n"optimisation.epochs" = [1, 2]',
        "[axes]\noptimisation = [{epochs = 1}, {epochs = 2}]",
    ],
)
def test_an_axis_may_be_written_dotted_nested_quoted_or_as_tables(write_spec: WriteSpec, axes: str) -> None:
    path = write_spec(f'name = "a"\n[trial]\nmethod.name = "head_only"\noptimisation.batch_size = 8\n{axes}\n')
    settings = [trial.config.optimisation for trial in expand(load_spec(path))]
    assert [(setting.epochs, setting.batch_size) for setting in settings] == [(1, 8), (2, 8)]


def test_a_table_of_another_name_replaces_and_one_of_the_same_name_is_merged() -> None:
    base = {"method": {"name": "transtailor", "steps": 3}, "seed": 1}
    assert merge_tables(base, {"method": {"name": "head_only"}}) == {"method": {"name": "head_only"}, "seed": 1}
    assert merge_tables(base, {"method": {"name": "transtailor", "beta": "raw"}}) == {
        "method": {"name": "transtailor", "steps": 3, "beta": "raw"},
        "seed": 1,
    }
    assert base == {"method": {"name": "transtailor", "steps": 3}, "seed": 1}


@pytest.mark.parametrize("written", [
    'trial.optimisation.class_weights = { 9 = 9.0, 5 = 5.0, 6 = 6.0, 7 = 7.0, 8 = 8.0 }',
    '[axes]\noptimisation.class_weights = [{ 9 = 9.0, 5 = 5.0, 6 = 6.0, 7 = 7.0, 8 = 8.0 }]',
    'trial.optimisation.class_weights = "balanced"\n'
    '[[variants]]\noptimisation.class_weights = { 9 = 9.0, 5 = 5.0, 6 = 6.0, 7 = 7.0, 8 = 8.0 }',
    'trial.optimisation.class_weights = { 9 = 1.0, 5 = 5.0, 6 = 6.0, 7 = 7.0, 8 = 8.0 }\n'
    'axes.optimisation.class_weights.9 = [9.0]',
])  # fmt: skip
def test_weights_of_classes_are_a_table_wherever_they_are_written(write_spec: WriteSpec, written: str) -> None:
    path = write_spec(f'name = "a"\ntrial.method = "fine_tune"\n{written}\n')
    (trial,) = expand(load_spec(path))
    assert trial.config.optimisation.class_weights == {"5": 5.0, "6": 6.0, "7": 7.0, "8": 8.0, "9": 9.0}
    assert trial.settings.parse() == trial.config
    option = "trial.optimisation.class_weights={5=1,6=1,7=1,8=1,9=1}"
    if written.startswith("trial.optimisation.class_weights = { 9 = 9.0"):
        (trial,) = expand(load_spec(path, [option]))
        assert trial.config.optimisation.class_weights == dict.fromkeys("56789", 1.0)


def test_a_class_may_be_called_name() -> None:
    base = {"optimisation": {"class_weights": {"name": 1.0, "cat": 2.0}}}
    assert merge_tables(base, {"optimisation": {"class_weights": {"name": 3.0}}}) == {
        "optimisation": {"class_weights": {"name": 3.0, "cat": 2.0}}
    }
    assert merge_tables(base, {"optimisation": {"class_weights": "balanced"}}) == {
        "optimisation": {"class_weights": "balanced"}
    }


OF_TEN = """
optimisation.epochs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
optimisation.head_epochs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
optimisation.batch_size = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
data.train_images = [101, 102, 103, 104, 105, 106, 107, 108, 109, 110]
"""


@pytest.mark.parametrize(("tables", "trials", "axis"), [
    (f"[axes]\nseed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n{OF_TEN}", "110,000", "seed has 11"),
    (f"[axes]\nseed = [0, 1]\n[tuning]\n{OF_TEN}source.epochs = {[*range(1, 10)]}\n", "180,000", "epochs has 9"),
    (f"[[variants]]\n[[variants]]\n[variants.axes]\n{OF_TEN}seed = {[*range(10)]}\n", "100,001", "seed has 10"),
    ("[axes]\nseed = [0, 1]\n[search]\ntrials = 3\n[confirm]\nseeds = 100_000\n", "200,000", "lower .*confirm.seeds"),
    (f"[axes]\nseed = [0, 1]\n{OF_TEN}source.epochs = [1, 2, 3, 4, 5, 6]\n[search]\ntrials = 50_001\n", "100,002",
     "lower search.trials"),
])  # fmt: skip
def test_too_many_trials_are_refused_before_the_first(
    write_spec: WriteSpec, tables: str, trials: str, axis: str
) -> None:
    """Ten million of them were expanded for minutes, without a line."""
    path = write_spec(f'name = "a"\ntrial.method = "fine_tune"\n{tables}')
    with pytest.raises(SpecError, match=f"{trials} trials, .* 100,000.*{axis}"):
        next(expand(load_spec(path)))


def test_another_data_set_keeps_what_is_said_of_data(write_spec: WriteSpec) -> None:
    """Its folder was dropped, and the trial refused, or run on the data set of that name in the catalogue."""
    path = write_spec("""
name = "two"
[trial]
method.name = "head_only"
data = { name = "digits", train_images = 100 }
[[variants]]
label = "numbers"
data.name = "friedman1"
network = "friedman_mlp"
""")
    (trial,) = expand(load_spec(path))
    assert (trial.config.data.name, trial.config.data.train_images) == ("friedman1", 100)
    base = {"data": {"name": "a", "root": "/sets"}}
    assert merge_tables(base, {"data": {"name": "b"}}) == {"data": {"name": "b", "root": "/sets"}}


def test_extends_takes_over_what_it_does_not_say(write_spec: WriteSpec, tmp_path: Path) -> None:
    write_spec()
    (tmp_path / "below").mkdir()
    path = write_spec(
        'name = "more"\nextends = "../spec.toml"\n[axes]\nseed = [5]\n[resources]\nranks = 2', "below/more.toml"
    )
    spec = load_spec(path)
    assert (spec.name, spec.resources.ranks) == ("more", 2)
    assert trials_of(spec) == [(label, "digits_vgg", 5) for label in ("head_only", "prune l1", "prune random")]


def test_extends_takes_a_shipped_spec_by_its_name_unless_a_file_has_it(write_spec: WriteSpec) -> None:
    more = write_spec('name = "more"\nextends = "tour"', "more.toml")
    assert len(trials_of(load_spec(more))) == len(trials_of(load_spec(SPECS / "tour.toml")))
    write_spec(name="tour")
    assert len(trials_of(load_spec(more))) == 6
    with pytest.raises(SpecError, match="no such spec: .*tuor"):
        load_spec(write_spec('name = "more"\nextends = "tuor"', "more.toml"))


def test_equal_sections_of_trials_are_one_object() -> None:
    trials = list(expand(load_spec(EMBEDDED_SPEC)))
    for name in ("data", "source", "optimisation", "pruning"):
        sections = [trial.settings.values[name] for trial in trials]
        assert len({id(section) for section in sections}) == len({repr(section) for section in sections})


def test_the_embedded_sweep_is_what_the_readme_promises() -> None:
    trials = list(expand(load_spec(EMBEDDED_SPEC)))
    labels = {trial.label for trial in trials}
    prunes = {f"prune {criterion}" for criterion in ("l1", "taylor", "random")}
    assert labels == {"transtailor", "fine_tune", "fine_tune 70 epochs", "head_only"} | prunes
    for label in labels:
        arms = {(trial.config.network, trial.config.seed) for trial in trials if trial.label == label}
        assert arms == {("digits_resnet", seed) for seed in range(6)}
    assert load_spec(EMBEDDED_SPEC).resources.ranks == 1


@pytest.mark.parametrize(
    ("assignment", "reached"),
    [
        ("trial.optimisation.epochs=3", lambda trial: trial.config.optimisation.epochs == 3),
        ("trial.network=digits_resnet", lambda trial: trial.config.network == "digits_resnet"),
        ("axes.seed=[7]", lambda trial: trial.config.seed == 7),
        ("axes.optimisation.epochs=[4]", lambda trial: trial.config.optimisation.epochs == 4),
    ],
)
def test_set_changes_every_trial(write_spec: WriteSpec, assignment: str, reached: Callable[[Expanded], bool]) -> None:
    path = write_spec()
    assert not any(reached(trial) for trial in expand(load_spec(path)))
    assert all(reached(trial) for trial in expand(load_spec(path, [assignment])))


def test_set_reaches_trials_whose_configuration_reads_the_value_otherwise(write_spec: WriteSpec) -> None:
    path = write_spec('name = "w"\n[trial]\nmethod.name = "head_only"\n')
    spec = load_spec(path, ["trial.source.weights=w.pth", f"trial.source.weights_sha256={'0' * 63}a"])
    (trial,) = expand(spec)
    assert trial.config.source.weights == str(Path("w.pth").resolve())  # relative to where the command is typed


def test_set_resources_and_name(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(), ["resources.ranks=2"], name="other")
    assert (spec.resources.ranks, spec.name) == (2, "other")


def test_the_resolved_text_reads_back_as_the_same_spec(write_spec: WriteSpec) -> None:
    path = write_spec("""
name = "round"
[trial]
data = {}
optimisation = { epochs = 3, learning_rate = 1e-05 }
[axes]
network = ["digits_vgg"]
source.seed = [0, 1]
data = [{ train_images = 100 }, { name = "digits", train_images = 200 }]
[[variants]]
label = 'quote " backslash \\ and ü'
method.name = "fine_tune"
[[variants]]
method = { name = "prune", alpha_learning_rate = 0.0 }
axes.method.asked_removed_macs_fraction = [0.2, 0.4]
[[exclude]]
source.seed = 1
data.train_images = [100, 300]
[resources]
ranks = 2
threads_per_rank = 3
""")
    spec = load_spec(path, ["axes.seed=[0,1]"])
    again = load_spec(write_spec(spec.to_toml(), "again.toml"))
    assert again.model_dump() == spec.model_dump()
    assert again.to_toml() == spec.to_toml()
    assert [trial.settings for trial in expand(again)] == [trial.settings for trial in expand(spec)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (-0.0, "-0.0"),
        (1e-05, "1e-05"),
        (float("inf"), "inf"),
        ("x\n\x7f\x00é'", '"x\\n\\u007f\\u0000é\'"'),
        ([1, [2.5, "y"], {"z": []}], '[1, [2.5, "y"], { z = [] }]'),
        ({"odd key": {"a.b": 'c"d'}, "empty": {}}, '{ "odd key" = { "a.b" = "c\\"d" }, empty = {} }'),
        (("a",), '["a"]'),
    ],
)
def test_a_value_is_written_on_one_line_as_it_would_be_typed(value: Any, text: str) -> None:
    assert toml_value(value) == text
    assert tomllib.loads(f"value = {text}") == {"value": list(value) if isinstance(value, tuple) else value}


def test_toml_has_no_none() -> None:
    with pytest.raises(TypeError, match="None"):
        toml_value({"a": None})


def test_an_exclusion_keeps_an_impossible_trial_out(write_spec: WriteSpec) -> None:
    text = """
name = "impossible"
[trial]
method.name = "transtailor"
[axes]
method.steps = [2, 4]
method.step_removed_macs_fraction = [0.1, 0.3]
"""
    with pytest.raises(ConfigError, match="steps x step_removed_macs_fraction"):
        list(expand(load_spec(write_spec(text))))
    exclusion = "[[exclude]]\nmethod = { steps = 4, step_removed_macs_fraction = 0.3 }\n"
    assert len(list(expand(load_spec(write_spec(text + exclusion))))) == 3


BAD = "optimisation.epochs = 0\n"
PRUNE = "[[variants]]\nmethod.name = 'prune'\n"
BASE = """
name = "base"
[trial]
optimisation = { head_epochs = 2 }
[axes]
seed = [0]
[[variants]]
method.name = "fine_tune"
"""


@pytest.mark.parametrize(
    ("base", "own", "assignments", "where"),
    [
        ("", PRUNE + BAD, ["trial.optimisation.epochs=5"], "own.toml [[variants]] 1 at seed = 0"),
        ("", "axes.rate = [-1]\n", [], "own.toml [[variants]] 1 at seed = 0, optimisation.learning_rate = -1"),
        ("", "", ["tuning.rate=[-1]"], "--set 'tuning.rate=[-1]'"),
        (BAD, "trial.optimisation.batch_size = 8\n", [], "own.toml [[variants]] 1 at seed = 0"),
        (BAD, f"trial.{BAD}{PRUNE}", [], "own.toml [[variants]] 1 at seed = 0"),
        ("", 'tied_to_seed = ["data.split_seed"]\n', ["axes.seed=[-1]"], "--set 'axes.seed=[-1]'"),
    ],
)
def test_a_refused_value_is_said_to_be_where_it_was_given(
    base: str, own: str, assignments: list[str], where: str, tmp_path: Path
) -> None:
    (tmp_path / "base.toml").write_text(BASE + base)
    (tmp_path / "own.toml").write_text(f'\nname = "own"\nextends = "base.toml"\n\n{own}')
    with pytest.raises(ConfigError) as refused:
        list(expand(load_spec(tmp_path / "own.toml", assignments)))
    assert str(refused.value).startswith(f"{where}: ")


def test_a_default_can_be_excluded_too(write_spec: WriteSpec) -> None:
    text = 'name = "d"\n[trial]\nmethod.name = "prune"\n[axes]\nmethod.criterion = ["l1", "random"]\n'
    spec = load_spec(
        write_spec(text + "[[exclude]]\nmethod.asked_removed_macs_fraction = 0.2\nmethod.criterion='l1'\n")
    )
    assert [trial.label for trial in expand(spec)] == ["prune random"]


def test_a_method_is_excluded_by_its_name_alone(write_spec: WriteSpec) -> None:
    text = 'name = "n"\n[axes]\nmethod.name = ["prune", "fine_tune"]\n[[exclude]]\nmethod = ["fine_tune", "gbn"]\n'
    assert [trial.config.method.name for trial in expand(load_spec(write_spec(text)))] == ["prune"]


def test_a_name_alone_is_a_table_with_it(write_spec: WriteSpec) -> None:
    text = 'name = "n"\n[trial]\nmethod = "prune"\n[[variants]]\nlabel = "a"\naxes.method.criterion = ["l1", "l2"]\n'
    text += '[[variants]]\nlabel = "b"\nmethod = "prune"\n[[variants]]\nmethod = "fine_tune"\n'
    trials = [*expand(load_spec(write_spec(text), ["trial.method.criterion=random"]))]
    assert [trial.config.method.label() for trial in trials] == ["prune l1", "prune l2", "prune random", "fine_tune"]
    with pytest.raises(SpecError, match=r"method.name: \[axes\] sets it too, so what the variant gives has no effect"):
        list(expand(load_spec(write_spec(text), ['axes.method.name=["prune"]'])))


def test_numbers_and_truth_values_are_told_apart(write_spec: WriteSpec) -> None:
    text = (
        'name = "b"\n[trial]\nmethod.name = "transtailor"\n[axes]\nseed = [0, 1]\n[[exclude]]\nmethod.stop_early = 0\n'
    )
    with pytest.raises(SpecError, match="method.stop_early: matches no trial"):
        list(expand(load_spec(write_spec(text))))


def test_a_whole_number_excludes_the_same_number_with_a_point(write_spec: WriteSpec) -> None:
    text = 'name = "w"\n[trial]\nmethod.name = "fine_tune"\n[axes]\noptimisation.learning_rate = [0.5, 1.0]\n'
    text += "[[exclude]]\noptimisation.learning_rate = 1\n"
    (left,) = expand(load_spec(write_spec(text)))
    assert left.config.optimisation.learning_rate == 0.5
