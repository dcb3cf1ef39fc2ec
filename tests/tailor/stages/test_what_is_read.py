"""What a stage does not read is in no key: two trials that differ in that alone share the stage."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest

from tailor import stages
from tailor.common.errors import ConfigError
from tailor.common.settings import Settings
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import stages_of
from tailor.model.state import ModelState
from tailor.stage_execution import StageContext, apply, compute
from tailor.stages import Stage, Training
from tailor.stages.identity import PARENTS
from tests.tailor.config.test_ids import GOLDEN_IDS, OTHER_VALUES, changed
from tests.tailor.trials import planned_stages

pytestmark = pytest.mark.usefixtures("other_constants")

BASE: dict[str, Any] = {
    "network": "digits_resnet",
    "source": {"epochs": 1},
    "optimisation": {"epochs": 1, "head_epochs": 1},
}
SHORT_METHODS: dict[str, dict[str, Any]] = {
    "gbn": {"steps": 1},
    "pac_net": {"allocate_epochs": 1},
    "target_aware_adaptation": {"iterations": 1},
    "transtailor": {"steps": 1, "alpha_epochs": 1},
}

PRUNE: dict[str, Any] = {"name": "prune", "criterion": "l1"}
OTHERS: dict[str, dict[str, Any]] = {
    "of two steps": {"method": {"name": "transtailor", "steps": 2, "alpha_epochs": 1}},
    "from scratch": {"method": PRUNE | {"weights": "reinitialised"}},
    "with delta": {
        "method": PRUNE,
        "optimisation": BASE["optimisation"] | {"regulariser": "quick_delta"},
        "pruning": {"measure_norms": True},
    },
    "with biases": {"network": "digits_vgg", "method": PRUNE, "pruning": {"shift_means": True}},
    "legr": {"method": PRUNE | {"allocation": {"name": "legr", "population": 2, "generations": 3}}},
    "knapsack": {"method": PRUNE | {"allocation": "knapsack"}},
    "a donor": {"method": {"name": "prune"}, "pruning": {"scores_from": "shuffled"}},
}
"""Trials with the kinds of stages that no method reaches at its defaults."""
TRIALS = {
    method: BASE | {"method": {"name": method} | SHORT_METHODS.get(method, {})} for method in sorted(GOLDEN_IDS)
} | {name: BASE | other for name, other in OTHERS.items()}

NOT_REACHED = {
    "fine_tune_part",  # has the settings of fine_tune, and tests of its own: test_rungs.py
    "load_weights",  # needs a file of weights
    "prune_by_table",  # needs a file of a table: test_latency_table.py
}


@dataclass(frozen=True)
class Reached:
    """What the next stage is given of one that was computed."""

    key: str
    state: ModelState
    deciding_score: float
    removed_macs_fraction: float

    def model_state(self) -> ModelState:
        return self.state


def recorded(record: Any, seen: set[str], path: str = "") -> Any:
    """The same record, which writes down the names of the fields that are read: "training.epochs"."""
    names = {*_fields_of(record)} - set(PARENTS)

    class Recorded(type(record)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name not in names:
                return value
            if is_record(value):
                seen.add(path + name)
                return recorded(value, seen, f"{path}{name}.")
            seen.update([path + name, *(f"{path}{name}.{inner}" for inner in _fields_of(value))])
            return value

    copy = object.__new__(Recorded)
    copy.__dict__.update(vars(record))
    return copy


def is_record(value: Any) -> bool:
    """Whether fields are read one by one; other settings, such as a regulariser's, are read as a whole."""
    return isinstance(value, Training) or (is_dataclass(value) and not isinstance(value, type))


def _fields_of(value: Any) -> list[str]:
    if isinstance(value, Settings):
        return [*type(value).model_fields]
    return [field.name for field in fields(value)] if is_record(value) else []


def computed(config: TrialConfig, place: StageContext) -> Iterator[tuple[Stage, set[str]]]:
    """Each stage of a trial, computed, with the names of the fields that this read."""
    steps, outcome = stages_of(config), None
    while True:
        try:
            stage = steps.send(outcome)  # type: ignore[arg-type]
        except StopIteration:
            return
        key, seen = stage.key(), set[str]()
        parent = stage.of.state if isinstance(stage.of, Reached) else None
        made = compute(recorded(stage, seen), parent, place)
        state = apply(recorded(stage, seen), parent, made.tensors)
        yield stage, seen
        score, gone = (made.info.get(name, math.nan) for name in ("deciding_score", "removed_macs_fraction"))
        outcome = Reached(key, state, score, gone)


def leaves(settings: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    found = {}
    for name, value in settings.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def different(stage: Stage, other: Stage) -> set[str]:
    left, right = leaves(stage.settings()), leaves(other.settings())
    return {name for name in left | right if left.get(name) != right.get(name)}


QUICK = ("fine_tune", "prune", "transtailor")


@pytest.mark.parametrize(
    "trial", [*QUICK, *(pytest.param(name, marks=pytest.mark.check) for name in TRIALS if name not in QUICK)]
)
def test_what_a_stage_does_not_read_is_not_in_its_key(trial: str, place: StageContext) -> None:
    raw = TRIALS[trial]
    reads = list(computed(parse_trial(raw, "test"), place))
    compared = 0
    for setting, value in OTHER_VALUES.items():
        try:
            other = planned_stages(changed(raw, setting, value))
        except ConfigError:  # not for this method, or only beside another setting
            continue
        for (stage, seen), changed_stage in zip(reads, other, strict=False):
            if type(stage) is not type(changed_stage):
                break  # another way from here on
            if stage.key() == changed_stage.key():
                continue
            changes = different(stage, changed_stage)
            assert changes & seen, f"{setting} changes the key of {stage.kind}, which reads none of {changes}"
            compared += 1
            break  # the stages behind it have another parent
    assert compared > 3


def test_the_kinds_that_are_not_covered_are_these() -> None:
    reached = {stage.kind for raw in TRIALS.values() for stage in planned_stages(parse_trial(raw, "test"))}
    classes = [one for one in vars(stages).values() if isinstance(one, type) and issubclass(one, Stage)]
    kinds = {one.kind for one in classes if isinstance(getattr(one, "kind", None), str)}
    assert kinds - reached == NOT_REACHED
