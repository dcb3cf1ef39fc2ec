"""A plan is what a slow and obvious planner makes of the same spec: one trial after the other, with nothing kept."""

import json
import random
from itertools import islice

import pytest

from sweeps.errors import SpecError
from sweeps.planning.plan import PlannedTrial, make_plan
from sweeps.spec.expand import expand
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.spec import SPECS, Spec, load_spec
from sweeps.spec.toml_text import toml_value
from tailor.common import seeds
from tailor.config import pruning
from tailor.config.parsing import parse_trial
from tailor.execution import dry_run
from tailor.methods import recipe
from tailor.stages import canonical_json, identity, settings_json, training
from tests.sweeps.conftest import WriteSpec

MEMOS = [
    memo for module in (seeds, dry_run, recipe, identity, training, pruning) for memo in vars(module).values()
    if hasattr(memo, "cache_clear")
]  # fmt: skip
AXES = {
    "network": ["digits_vgg", "digits_vgg_bn", "digits_resnet"],
    "seed": [0, 1, 7],
    "data.train_images": [100, 200],
    "data.images_per_class": [5, 10],
    "data.augmentation": ["none", "shift"],
    "source.seed": [0, 1],
    "source.epochs": [1, 2],
    "optimisation.epochs": [1, 25],
    "optimisation.learning_rate": [0.0005, 0.1],
    "optimisation.weight_decay": [-0.0, 0.01],
    "pruning.residual": ["inside", "coupled"],
    "protocol": ["validation", "paper"],
}
METHODS = (
    {"name": "transtailor", "steps": 2},
    {"name": "pac_net"},
    {"name": "fine_tune"},
    {"name": "prune", "criterion": "random"},
    {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.2},
    {"name": "prune", "criterion": "taylor", "steps": 3, "asked_removed_macs_fraction": 0.5},
)
TAUGHT = """
method = { name = "prune", criterion = "l2", asked_removed_macs_fraction = 0.4 }
optimisation.distillation_weight = 0.5
"""


def planned_alone(raw: dict[str, object], label: str) -> tuple[object, ...]:
    """The trial as if it was the only one that this process plans."""
    for memo in MEMOS:
        memo.cache_clear()
    config = parse_trial(raw, "alone")
    plain = config.identity()
    assert json.loads(settings_json(config)) == json.loads(canonical_json(plain))
    assert settings_json(config) == canonical_json(plain).replace("-0.0", "0.0")
    walked = dry_run.dry_run(config)
    return walked.trial_id, label, JsonSettings(config.model_dump(mode="json")), walked.stages


def fields(trial: PlannedTrial) -> tuple[object, ...]:
    return trial.trial_id, trial.label, trial.settings, trial.stages


def check(spec: Spec) -> int:
    """Compare at most 150 trials, from the whole of the plan; returns how many stages they share."""
    plan, expanded = make_plan(spec), list(expand(spec))
    step = max(1, len(expanded) // 150)
    for trial, one in islice(zip(plan.trials, expanded, strict=True), 0, None, step):
        assert fields(trial) == planned_alone(one.combination.raw, one.label)
    stages = [stage for trial in plan.trials for stage in trial.stages]
    return len(stages) - len({stage.key for stage in stages})


@pytest.mark.parametrize("name", ["demo", "tour", "methods_on_digits"])
def test_a_shipped_spec(name: str) -> None:
    assert check(load_spec(SPECS / f"{name}.toml")) > 0


@pytest.mark.parametrize("number", range(12))
def test_a_generated_spec(number: int, write_spec: WriteSpec) -> None:
    draw = random.Random(number)
    axes = draw.sample(sorted(AXES), 4)
    lines = [f"{key} = {toml_value(AXES[key])}" for key in axes]
    variants = [f"[[variants]]\nmethod = {toml_value(method)}" for method in draw.sample(METHODS, 3)]
    variants.append(f"[[variants]]\nlabel = 'taught'\n{TAUGHT}")
    assert check(load_spec(write_spec("\n".join(['name = "generated"', "[axes]", *lines, *variants])))) > 0


def test_a_zero_with_a_sign_is_the_same_setting(write_spec: WriteSpec) -> None:
    spec = load_spec(
        write_spec('name = "zeros"\ntrial.method.name = "fine_tune"\n[axes]\noptimisation.weight_decay = [0.0, -0.0]\n')
    )
    with pytest.raises(SpecError, match="two trials with one id"):
        make_plan(spec)
