"""A stage's key is the SHA-256 of what is said of it, however quickly that is put together."""

import hashlib
import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from sweeps.planning.plan import make_plan
from sweeps.spec.spec import SPECS, load_spec
from tailor.common.settings import Settings
from tailor.execution.dry_run import PlannedOutcome, stages_of
from tailor.stages import Stage, Training, TrainingSettings, TrainSource, settings_json
from tailor.stages.identity import PARENTS
from tests.tailor.trials import short_trial


def plain(value: Any) -> Any:
    """Field by field, with everything looked up anew."""
    if isinstance(value, Settings):
        kept = {}
        for name, field in type(value).model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            inner = getattr(value, name)
            if not extra.get("in_no_id") and not ("neutral" in extra and extra["neutral"] == inner):
                kept[name] = plain(inner)
        return kept
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if not (isinstance(value, Stage) and field.name in PARENTS)
            and not ("neutral" in field.metadata and field.metadata["neutral"] == getattr(value, field.name))
        }
    return value


@pytest.mark.parametrize("spec", ["demo", "tour", "methods_on_digits"])
def test_a_key_is_that_of_the_slow_way(spec: str) -> None:
    seen: set[str] = set()
    for trial in make_plan(load_spec(SPECS / f"{spec}.toml")).trials:
        if trial.settings.seed != 0:
            continue
        config = trial.settings.parse()
        assert config.identity() == plain(config)
        steps, outcome = stages_of(config), None
        for planned in trial.stages:
            stage = steps.send(outcome)  # type: ignore[arg-type]
            outcome = PlannedOutcome(planned.key)
            said = {"kind": stage.kind, "version": stage.version, "settings": plain(stage), "parents": [*stage.parents]}
            text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
            assert planned.key == hashlib.sha256(text.encode()).hexdigest()
            seen.add(stage.kind)
    assert len(seen) > 3


@pytest.mark.parametrize("kinds", [(int, float), (float, int)], ids=["whole first", "float first"])
def test_a_whole_number_in_place_of_a_float_counts_as_one(kinds: tuple[type[int] | type[float], ...]) -> None:
    """As a user's method may give it. Texts of equal records are kept: it must not hang on which of them came first."""
    stage = next(stages_of(short_trial({"name": "fine_tune"})))
    assert isinstance(stage, TrainSource)
    unseen = 91 if kinds[0] is int else 92
    records = [replace(stage, training=stage.training.replace(weight_decay=kind(unseen))) for kind in kinds]
    assert [type(record.settings()["training"]["weight_decay"]) for record in records] == [float, float]
    assert records[0].key() == records[1].key()


def test_records_that_are_equal_have_one_key() -> None:
    stage = next(stages_of(short_trial({"name": "fine_tune"})))
    assert isinstance(stage, TrainSource)
    zero, negative = (replace(stage, training=stage.training.replace(weight_decay=value)) for value in (0.0, -0.0))
    assert zero == negative
    assert zero.key() == negative.key() != stage.key()


class Listed(Settings):
    names: list[str]


class WithList(Settings):
    listed: Listed


def test_settings_of_a_user_may_have_a_list_which_has_no_hash() -> None:
    first, second = (WithList(listed=Listed(names=names)) for names in (["a"], ["a", "b"]))
    assert settings_json(first) == '{"listed":{"names":["a"]}}'
    assert settings_json(second) == '{"listed":{"names":["a","b"]}}'


def test_a_training_has_every_setting_that_a_trial_shares_with_it() -> None:
    others: dict[str, Any] = {
        "learning_rate": 0.1, "head_learning_rate": 0.2, "momentum": 0.5, "weight_decay": 0.3, "schedule": "step",
        "milestones": (0.5,), "gamma": 0.2, "warm_up_epochs": 1, "optimiser": "adam", "label_smoothing": 0.1,
        "clip_gradient_norm": 1.0, "ema_decay": 0.9, "norm": "local", "accumulation_steps": 2, "precision": "bf16",
        "memory_format": "channels_last", "compile": True, "layer_decay": 0.9, "class_weights": "balanced",
        "sampling": "balanced", "rand_augment": 2, "colour_jitter": 0.2,
        "random_erasing": 0.25, "mixup": 0.8, "cutmix": 1.0,
    }  # fmt: skip
    assert others.keys() == TrainingSettings.model_fields.keys()
    training = Training.from_settings(TrainingSettings(**others), epochs=3, batch_size=8, seed=1)
    assert dict(training) == others | {"epochs": 3, "batch_size": 8, "seed": 1}
    assert training.replace(epochs=4) == Training.from_settings(training, epochs=4, batch_size=8, seed=1)


def test_a_training_is_not_replaced_by_an_unknown_setting() -> None:
    with pytest.raises(ValueError, match="epoch"):
        Training(epochs=3, batch_size=8, seed=1).replace(epoch=4)
