"""Ids and keys are the identity of all results: if one of the golden values changes, old runs are orphaned.

So a change here is either a mistake or a decision: then the version of the stage or method is raised, these values are
written anew and CHANGELOG.md says why.
"""

from typing import Any

import pytest

from tailor.catalog import DATASETS, NETWORKS
from tailor.config import TrialConfig, parse_trial
from tailor.methods import METHODS
from tailor.settings import Settings
from tailor.walk import walk
from tests.tailor.trials import short_trial

GOLDEN_IDS = {
    "fine_tune": "a213c0373e136cfe",
    "head_only": "8be02900b4cc21be",
    "one_shot": "868e53352a07feb7",
    "transtailor": "71adf7685422c426",
}
GOLDEN_KEYS = [
    "aff7ccb4fe179dba",
    "611ef45085e2c98f",
    "9da12523c44677dc",
    "e66497843c0d1a48",
    "a22e13da84971d18",
    "7ddca1dcc332b8e4",
    "f00df2816a0f5e89",
    "c74db0937a58a3f9",
    "c2caee8757d1cf00",
]

OTHER_VALUES: dict[str, Any] = {
    "network": "digits_resnet",
    "data.train_images": 100,
    "data.images_per_class": 5,
    "data.split_seed": 1,
    "data.augmentation": "shift",
    "source.seed": 1,
    "source.epochs": 2,
    "source.batch_size": 16,
    "source.learning_rate": 0.1,
    "source.momentum": 0.5,
    "source.weight_decay": 0.1,
    "optimisation.epochs": 3,
    "optimisation.head_epochs": 3,
    "optimisation.batch_size": 16,
    "optimisation.learning_rate": 0.1,
    "optimisation.head_learning_rate": 0.1,
    "optimisation.momentum": 0.5,
    "optimisation.weight_decay": 0.1,
    "optimisation.schedule": "cosine",
    "seed": 1,
    "last_point": 0,
    "method.steps": 2,
    "method.step_macs_fraction": 0.05,
    "method.alpha_epochs": 3,
    "method.alpha_learning_rate": 0.1,
    "method.beta": "raw",
    "method.minimum_filters_fraction": 0.5,
    "method.criterion": "random",
    "method.removed_macs_fraction": 0.3,
}
# These decide while a trial runs: the id changes, and tests/tailor/test_stop_rule.py shows what they do.
DECIDE_AT_RUN_TIME = {"method.stop_early": True, "method.tolerance_fraction": 0.1}
ONE_VALUE_ONLY = {"protocol", "data.name"}  # nothing to choose yet


def leaves(settings: Settings, prefix: str = "") -> list[str]:
    names = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        names += leaves(value, f"{prefix}{name}.") if isinstance(value, Settings) else [f"{prefix}{name}"]
    return names


def changed(raw: dict[str, Any], setting: str, value: Any) -> TrialConfig:
    table, _, key = setting.rpartition(".")
    update = {table: raw.get(table, {}) | {key: value}} if table else {key: value}
    return parse_trial(raw | update, "test")


def settings_of_all_methods() -> list[tuple[str, str]]:
    found = []
    for method in sorted(METHODS):
        for leaf in leaves(parse_trial({"method": {"name": method}}, "test")):
            if leaf not in ONE_VALUE_ONLY | {"method.name"}:
                found.append((method, leaf))
    return found


@pytest.mark.parametrize("method", sorted(GOLDEN_IDS))
def test_trial_ids_are_pinned(method: str) -> None:
    assert walk(parse_trial({"method": {"name": method}}, "test")).trial_id == GOLDEN_IDS[method]


def test_stage_keys_are_pinned() -> None:
    walked = walk(parse_trial({"method": {"name": "transtailor", "steps": 1}}, "test"))
    assert [stage.key[:16] for stage in walked.stages] == GOLDEN_KEYS


@pytest.mark.parametrize(("method", "setting"), settings_of_all_methods())
def test_every_setting_changes_the_id(method: str, setting: str) -> None:
    raw = {"method": {"name": method}}
    value = (OTHER_VALUES | DECIDE_AT_RUN_TIME)[setting]
    assert walk(changed(raw, setting, value)).trial_id != walk(parse_trial(raw, "test")).trial_id


@pytest.mark.parametrize("setting", sorted(OTHER_VALUES))
def test_every_setting_changes_the_work_of_some_method(setting: str) -> None:
    different = []
    for method in sorted(METHODS):
        raw = {"method": {"name": method}}
        if setting in leaves(parse_trial(raw, "test")):
            before, after = walk(parse_trial(raw, "test")), walk(changed(raw, setting, OTHER_VALUES[setting]))
            different.append([s.key for s in before.stages] != [s.key for s in after.stages])
    assert any(different)


def test_a_default_written_out_is_the_same_trial() -> None:
    written_out = {"network": "digits_vgg", "seed": 0, "optimisation": {"epochs": 25}, "last_point": None}
    short, long = {"method": {"name": "head_only"}}, {"method": {"name": "head_only"}} | written_out
    assert walk(parse_trial(short, "test")).trial_id == walk(parse_trial(long, "test")).trial_id


def test_a_whole_number_for_a_fraction_is_the_same_trial() -> None:
    one, other = ({"method": {"name": "head_only"}, "optimisation": {"learning_rate": rate}} for rate in (1, 1.0))
    assert walk(parse_trial(one, "test")).trial_id == walk(parse_trial(other, "test")).trial_id


def test_trials_share_what_is_equal() -> None:
    path = walk(short_trial({"name": "transtailor", "steps": 2}))
    longer = walk(short_trial({"name": "transtailor", "steps": 3}))
    assert [s.key for s in longer.stages][: len(path.stages)] == [s.key for s in path.stages]
    budgets = [
        walk(short_trial({"name": "one_shot", "criterion": "taylor", "removed_macs_fraction": b})) for b in (0.2, 0.4)
    ]
    keys = [[stage.key for stage in walked.stages] for walked in budgets]
    kinds = [stage.kind for stage in budgets[0].stages]
    shared = kinds.index("prune")  # one scoring serves all budgets
    assert keys[0][:shared] == keys[1][:shared]
    assert not set(keys[0][shared:]) & set(keys[1][shared:])


def test_only_stages_that_draw_carry_the_seed() -> None:
    walks = [walk(short_trial({"name": "one_shot", "criterion": "l1"}, seed=seed)) for seed in (0, 1)]
    same = [a.kind for a, b in zip(walks[0].stages, walks[1].stages, strict=True) if a.key == b.key]
    assert same == ["train_source"]


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_last_point_walks_a_prefix(network: str) -> None:
    whole = walk(short_trial({"name": "transtailor", "steps": 3}, network=network))
    part = walk(short_trial({"name": "transtailor", "steps": 3}, network=network, last_point=1))
    keys = [stage.key for stage in part.stages]
    assert keys == [stage.key for stage in whole.stages][: len(keys)]
    assert [stage.point for stage in part.stages if stage.point is not None] == [0, 1]


def test_the_data_digest_is_in_the_keys_of_stages_that_read_data(monkeypatch: pytest.MonkeyPatch) -> None:
    before = walk(short_trial({"name": "one_shot"}))
    records = dict(DATASETS)
    other = type(records["digits"])(**(vars(records["digits"]) | {"sha256": "0" * 64}))
    monkeypatch.setitem(DATASETS._records, "digits", other)
    after = walk(short_trial({"name": "one_shot"}))
    assert not {s.key for s in before.stages} & {s.key for s in after.stages}
