"""Ids and keys are the identity of all results: if one of the golden values changes, old runs are orphaned.

So a change here is either a mistake or a decision: then the version of the stage or method is raised, these values are
written anew and CHANGELOG.md says why.
"""

from functools import cache
from typing import Any

import pytest

from tailor.common.settings import Settings
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import dry_run
from tailor.facts.datasets import DATASETS
from tailor.stages import FoldImportance, GroupRule
from tests.tailor.trials import short_trial

RANDOM_PATH = {"name": "transtailor", "prune_by": "random"}
GOLDEN_IDS = {
    "fine_tune": "74943884fa7a8a9a",
    "gbn": "1ce9e1f18a02e8fb",
    "head_only": "ade9b91f8bb19f21",
    "pac_net": "9141899e6385b6d2",
    "prune": "7bf34fafab3b6302",
    "sfp": "adc4c6120aac3d6d",
    "smaller_dense": "30bb41bb9b958873",
    "target_aware_adaptation": "b649c2b0e578c32c",
    "transtailor": "9f17ca819594daf9",
}
GOLDEN_KEYS = [
    "19294308ce2e58c9",
    "c1a87961355d8cc9",
    "23f6965d69ce8e3e",
    "b41c2042f6ecd8af",
    "19b13cc5277e9153",
    "8cd37148a2be0f90",
    "748a567a2bb2a814",
    "7a8af16fcbdddf50",
    "088c844bd83b6697",
]

NETWORK = {"network": "digits_vgg_bn"}  # with norms and a ReLU behind each: every method can have it
OTHER_VALUES: dict[str, Any] = {
    "network": "digits_resnet",
    "metric": "macro_f1",
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
    "method.steps": 2,
    "method.step_removed_macs_fraction": 0.05,
    "method.step_removed_latency_fraction": 0.05,
    "method.table_sha256": "0" * 64,
    "method.alpha_epochs": 3,
    "method.alpha_learning_rate": 0.1,
    "method.beta": "raw",
    "method.criterion": "random",
    "method.normalisation": "mean",
    "method.asked_removed_macs_fraction": 0.3,
    "data.crop_px": 8,
    "source.weights_sha256": "0" * 64,
    "source.pixel_mean": (0.485,),
    "source.pixel_std": (0.229,),
    "optimisation.optimiser": "adam",
    "optimisation.regulariser": "l2_sp",
    "optimisation.milestones": (0.25, 0.75),
    "optimisation.gamma": 0.5,
    "optimisation.warm_up_epochs": 1,
    "optimisation.label_smoothing": 0.1,
    "optimisation.clip_gradient_norm": 1.0,
    "optimisation.ema_decay": 0.9,
    "optimisation.layer_decay": 0.75,
    "optimisation.class_weights": "balanced",
    "optimisation.sampling": "balanced",
    "optimisation.random_erasing": 0.25,
    "optimisation.mixup": 0.8,
    "optimisation.cutmix": 1.0,
    "optimisation.distillation_weight": 0.5,
    "optimisation.distillation_temperature": 2.0,
    "optimisation.norm": "local",
    "optimisation.accumulation_steps": 2,
    "optimisation.precision": "bf16",
    "optimisation.memory_format": "channels_last",
    "optimisation.compile": True,
    "pruning.residual": "coupled",
    "pruning.linear": True,
    "pruning.stream": True,
    "pruning.heads": True,
    "pruning.conv_groups": "whole",
    "pruning.exclude": ("features.0",),
    "pruning.minimum_filters_fraction": 0.5,
    "pruning.measure_norms": True,
    "pruning.shift_means": True,
    "pruning.width_multiple": 8,
    "pruning.scores_from": "noise",
    "pruning.optimiser_state": "kept",
    "protocol": "paper",
    "method.prune_by": "random",
    "method.alpha_start": 0.5,
    "method.alpha_noise": 0.1,
    "method.placement": "before_norm",
    "method.beta_normalisation": "rms",
    "method.grouping": "max",
    "method.allocation": "uniform",
    "method.order": "tune_first",
    "method.first_regulariser": "slimming",
    "method.weights": "reinitialised",
    "method.prune_ratio": 0.5,
    "method.penalty_strength": 0.1,
    "method.optimiser": "sgd",
    "method.allocate_epochs": 2,
    "method.allocate_learning_rate": 0.1,
    "method.start_penalty": 0.01,
    "method.calibrate_learning_rate": 0.1,
    "method.evaluated": "masked",
    "method.statistic": "apoz",
    "method.kept_cumulative_fraction": 0.9,
    "method.priority": "removable_x_macs",
    "method.layers_per_iteration": 1,
    "method.most_filters_fraction": 0.2,
    "method.iterations": 2,
}
# What must stand beside a setting for it to be possible, or to be read.
BY_TABLE = {"step_removed_latency_fraction": 0.1, "table": "table.json", "table_sha256": "1" * 64}
BESIDE: dict[str, dict[str, Any]] = {
    "source.weights_sha256": {"source": {"weights": "net.safetensors", "weights_sha256": "1" * 64}},
    "method.step_removed_latency_fraction": {"method": BY_TABLE},
    "method.table_sha256": {"method": BY_TABLE},
    "source.pixel_mean": {"source": {"weights": "net.safetensors", "weights_sha256": "1" * 64}},
    "source.pixel_std": {"source": {"weights": "net.safetensors", "weights_sha256": "1" * 64}},
    "method.first_regulariser": {"method": {"order": "tune_first"}},
    "method.placement": {"method": {"beta": "grad"}},
    "method.calibrate_learning_rate": {},
    "optimisation.milestones": {"optimisation": {"schedule": "step", "milestones": (0.5,)}},
    "optimisation.gamma": {"optimisation": {"schedule": "step", "milestones": (0.5,)}},
    "optimisation.distillation_temperature": {"optimisation": {"distillation_weight": 0.5}},
}
# tests/tailor/config/test_optimisation.py shows that these are refused.
IMPOSSIBLE = {("sfp", "optimisation.ema_decay"), ("head_only", "optimisation.norm"), ("pac_net", "optimisation.norm")}
IMPOSSIBLE |= {("gbn", "pruning.linear")}  # there is no norm behind a linear layer
IMPOSSIBLE |= {
    (method, f"pruning.{kind}")
    for method in ("gbn", "sfp", "target_aware_adaptation")  # which prune filters only
    for kind in ("heads", "stream", "conv_groups", "shift_means")
}
IMPOSSIBLE |= {(method, "pruning.scores_from") for method in {*GOLDEN_IDS} - {"prune", "transtailor"}}
IMPOSSIBLE |= {(method, "pruning.conv_groups") for method in ("prune", "transtailor")}  # no embedded network has any
IMPOSSIBLE |= {
    (method, f"optimisation.distillation_{name}")
    for method in ("head_only", "fine_tune", "pac_net", "sfp")
    for name in ("weight", "temperature")
}
IMPOSSIBLE |= {  # no embedded data set has colours: tests/tailor/data/test_image_changes.py
    (method, f"optimisation.{name}") for method in GOLDEN_IDS for name in ("rand_augment", "colour_jitter")
}
IN_NO_ID = {"data.root", "source.weights", "source.weights_folder", "method.table"}  # where something is
IN_NO_ID |= {
    "data.layout",
    "data.expected",
    "data.image_px",
    "data.sha256",
}  # what the data must be, whose digest is in the id
IN_NO_ID |= {"validate_every"}  # measures more, and changes no result
# These decide while a trial runs: the id changes, and tests/tailor/methods/test_stop_rule.py shows what they do.
DECIDE_AT_RUN_TIME = {"method.stop_early": True, "method.tolerance_fraction": 0.1}
ONE_VALUE_ONLY = {"data.name"}  # no other data set fits the network


def leaves(settings: Settings, prefix: str = "") -> list[str]:
    names = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        is_table = isinstance(value, Settings) and name not in ("allocation", "regulariser", "first_regulariser")
        names += leaves(value, f"{prefix}{name}.") if is_table else [f"{prefix}{name}"]
    return names


def changed(raw: dict[str, Any], setting: str, value: Any) -> TrialConfig:
    table, _, key = setting.rpartition(".")
    update = {table: raw.get(table, {}) | {key: value}} if table else {key: value}
    return parse_trial(raw | update, "test")


@cache
def settings_of(method: str) -> tuple[str, ...]:
    """Names of the settings that change the id of a trial of the method."""
    found = []
    for leaf in leaves(parse_trial(NETWORK | {"method": {"name": method}}, "test")):
        is_possible = leaf != "optimisation.regulariser" or method not in ("pac_net", "gbn")  # which have their own
        is_possible &= method not in ("pac_net", "smaller_dense") or not leaf.startswith("source.pixel")
        is_possible &= method != "smaller_dense" or leaf != "source.weights_sha256"
        is_possible &= method != "target_aware_adaptation" or "multiple" not in leaf
        is_possible &= (method, leaf) not in IMPOSSIBLE
        if is_possible and leaf not in ONE_VALUE_ONLY | IN_NO_ID | {"method.name"}:
            found.append(leaf)
    return tuple(found)


def beside(method: str, setting: str) -> dict[str, Any]:
    """A trial of the method in which `setting` is possible and read."""
    raw: dict[str, Any] = NETWORK | {"method": {"name": method}}
    if setting in ("pruning.heads", "pruning.stream") and method in ("prune", "transtailor"):
        other = {"heads": {"stream": True}, "stream": {"heads": True, "linear": True}}[setting.removeprefix("pruning.")]
        raw |= {"network": "digits_vit", "pruning": other}
    for table, settings in BESIDE.get(setting, {}).items():
        raw = raw | {table: raw.get(table, {}) | settings}
    return raw


@pytest.mark.parametrize("method", sorted(GOLDEN_IDS))
def test_trial_ids_are_pinned(method: str) -> None:
    assert dry_run(parse_trial(NETWORK | {"method": {"name": method}}, "test")).trial_id == GOLDEN_IDS[method]


def test_stage_keys_are_pinned() -> None:
    walked = dry_run(parse_trial({"method": {"name": "transtailor", "steps": 1}}, "test"))
    assert [stage.key[:16] for stage in walked.stages] == GOLDEN_KEYS


def test_every_setting_changes_the_id_and_the_work_of_some_method() -> None:
    """A setting changes the id of each method that has it, and stages of at least one of them."""
    same_id, changing_work = set(), set()
    for method in sorted(GOLDEN_IDS):
        for setting in settings_of(method):
            raw = beside(method, setting)
            value = (OTHER_VALUES | DECIDE_AT_RUN_TIME)[setting]
            before, after = dry_run(parse_trial(raw, "test")), dry_run(changed(raw, setting, value))
            if before.trial_id == after.trial_id:
                same_id.add((method, setting))
            if [stage.key for stage in before.stages] != [stage.key for stage in after.stages]:
                changing_work.add(setting)
    assert same_id == set()
    assert OTHER_VALUES.keys() - {"pruning.conv_groups"} - changing_work == set()


@pytest.mark.parametrize("change", [{"heads": True}, {"stream": True}, {"conv_groups": "whole"}], ids=str)
def test_a_rule_for_more_than_filters_is_another_one_and_a_switch_that_is_off_counts_in_no_key(
    change: dict[str, Any],
) -> None:
    def stage(rule: GroupRule) -> FoldImportance:
        return FoldImportance(of=None, rule=rule)

    assert stage(GroupRule()).settings() == {"rule": {"linear": False, "residual": "inside"}}
    assert stage(GroupRule(**change)).settings()["rule"] == {"linear": False, "residual": "inside"} | change
    assert stage(GroupRule(**change)).key() != stage(GroupRule()).key()


def test_a_random_path_shares_its_first_step_with_a_path_of_one_step() -> None:
    short, long = (dry_run(short_trial(RANDOM_PATH | {"steps": steps})) for steps in (1, 3))
    assert [stage.key for stage in long.stages][: len(short.stages)] == [stage.key for stage in short.stages]
    assert len({stage.key for stage in long.stages if stage.kind == "prune"}) == 3


def test_a_default_written_out_is_the_same_trial() -> None:
    written_out = {"network": "digits_vgg", "seed": 0, "optimisation": {"epochs": 25}}
    short, long = {"method": {"name": "head_only"}}, {"method": {"name": "head_only"}} | written_out
    assert dry_run(parse_trial(short, "test")).trial_id == dry_run(parse_trial(long, "test")).trial_id


def test_a_whole_number_for_a_fraction_is_the_same_trial() -> None:
    one, other = ({"method": {"name": "head_only"}, "optimisation": {"learning_rate": rate}} for rate in (1, 1.0))
    assert dry_run(parse_trial(one, "test")).trial_id == dry_run(parse_trial(other, "test")).trial_id


def test_trials_share_what_is_equal() -> None:
    path = dry_run(short_trial({"name": "transtailor", "steps": 2}))
    longer = dry_run(short_trial({"name": "transtailor", "steps": 3}))
    assert [s.key for s in longer.stages][: len(path.stages)] == [s.key for s in path.stages]
    budgets = [
        dry_run(short_trial({"name": "prune", "criterion": "taylor", "asked_removed_macs_fraction": b}))
        for b in (0.2, 0.4)
    ]
    keys = [[stage.key for stage in walked.stages] for walked in budgets]
    kinds = [stage.kind for stage in budgets[0].stages]
    shared = kinds.index("prune")  # one scoring serves all budgets
    assert keys[0][:shared] == keys[1][:shared]
    assert not set(keys[0][shared:]) & set(keys[1][shared:])


def test_only_stages_that_draw_carry_the_seed() -> None:
    walks = [dry_run(short_trial({"name": "prune", "criterion": "l1"}, seed=seed)) for seed in (0, 1)]
    same = [a.kind for a, b in zip(walks[0].stages, walks[1].stages, strict=True) if a.key == b.key]
    assert same == ["train_source"]


def test_the_data_digest_is_in_the_keys_of_stages_that_read_data(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dry_run(short_trial({"name": "prune"}))
    records = dict(DATASETS)
    other = type(records["digits"])(**(vars(records["digits"]) | {"sha256": "0" * 64}))
    monkeypatch.setitem(DATASETS._records, "digits", other)
    after = dry_run(short_trial({"name": "prune"}))
    assert not {s.key for s in before.stages} & {s.key for s in after.stages}
