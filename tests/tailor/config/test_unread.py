"""Which settings a trial reads: what `TrialConfig.unread` says against the keys of the stages.

A setting that is read changes a stage; one that is not changes none. So each setting of each method is changed once.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS, TrialConfig, settings_read
from tailor.deploy.card import facts_of
from tailor.execution import plugins
from tailor.execution.dry_run import dry_run
from tests.tailor.config.test_ids import DECIDE_AT_RUN_TIME, IN_NO_ID, NETWORK, OTHER_VALUES

pytestmark = pytest.mark.usefixtures("other_constants")

USERS_METHOD = """
from typing import Literal
from tailor.config.trial import register
from tailor.methods.prune import Pruning

@register
class Mine(Pruning):
    name: Literal["mine"] = "mine"
"""
TABLE = {"table": "table.json", "table_sha256": "1" * 64}
WEIGHTS = {"source": {"weights": "net.safetensors", "weights_sha256": "1" * 64}}
BY_FRACTION = {"name": "latency", "asked_latency_fraction": 0.55, **TABLE}
TO_MS = {"name": "latency", "asked_latency_ms": 2.0, **TABLE}
PRUNE_BY_TABLE = {"method": {"name": "prune", "allocation": BY_FRACTION}}
BY_MS = {"name": "transtailor", "step_removed_latency_fraction": 0.1, **TABLE}
TRIALS: dict[str, dict[str, Any]] = {
    **{method: {"method": {"name": method}} for method in METHODS},
    "prune by a table": PRUNE_BY_TABLE,
    "prune by a table, in ms": {"method": {"name": "prune", "allocation": TO_MS}},
    "prune by beta": {"method": {"name": "prune", "criterion": "beta"}, "optimisation": {"optimiser": "adam"}},
    "prune by legr": {"method": {"name": "prune", "allocation": "legr"}},
    "prune by tuned legr": {"method": {"name": "prune", "allocation": "tuned_legr"}},
    "prune with adam": {"method": {"name": "prune"}, "optimisation": {"optimiser": "adam"}},
    "prune to multiples": {"method": {"name": "prune"}, "pruning": {"width_multiple": 8}},
    "prune without norms": {"method": {"name": "prune"}, "network": "digits_vgg"},
    "transtailor by ms": {"method": BY_MS},
    "transtailor that stops": {"method": {"name": "transtailor", "stop_early": True}},
    "transtailor that prunes nothing": {"method": {"name": "transtailor", "prune_by": "nothing"}},
    "transtailor without training factors": {"method": {"name": "transtailor", "alpha_epochs": 0}},
    "pac_net by sgd": {"method": {"name": "pac_net", "optimiser": "sgd"}, "optimisation": {"optimiser": "adam"}},
    "pac_net from weights": {"method": {"name": "pac_net"}, **WEIGHTS},
    "fine_tune from weights": {"method": {"name": "fine_tune"}, **WEIGHTS},
    "fine_tune in steps": {"method": {"name": "fine_tune"}, "optimisation": {"schedule": "step", "milestones": (0.5,)}},
    "prune with a teacher": {"method": {"name": "prune"}, "optimisation": {"distillation_weight": 0.5}},
}  # fmt: skip
OTHERS: dict[str, Any] = OTHER_VALUES | DECIDE_AT_RUN_TIME | {
    "method.allocation.asked_latency_ms": 3.0,
    "method.allocation.asked_latency_fraction": 0.7,
    "method.allocation.table_sha256": "0" * 64,
    "method.allocation.population": 8,
    "method.allocation.generations": 40,
}  # fmt: skip
IN_KEYS_WITHOUT_EFFECT = {
    ("head_only", "optimisation.regulariser"),  # remembers weights that nothing compares with
    ("fine_tune", "pruning.optimiser_state"),  # a single fine-tuning
    ("smaller_dense", "pruning.optimiser_state"),
    ("fine_tune from weights", "pruning.optimiser_state"),
    ("fine_tune in steps", "pruning.optimiser_state"),
    ("prune with adam", "optimisation.momentum"),  # of SGD
    ("transtailor without training factors", "method.alpha_learning_rate"),
}
"""Trial and setting: nothing reads it there, and a stage's key has it all the same."""


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in values.items():
        names += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return names


def changed(raw: dict[str, Any], setting: str) -> TrialConfig | None:
    """The trial with another value of a setting; None if that is refused."""
    *tables, name = setting.split(".")
    copy: dict[str, Any] = json.loads(json.dumps(raw))
    table = copy
    for key in tables:
        if not isinstance(table.setdefault(key, {}), dict):
            table[key] = {"name": table[key]}
        table = table[key]
    table[name] = OTHERS[setting]
    try:
        return parse_trial(copy, "test")
    except ConfigError:
        return None


@cache
def keys_of(config: TrialConfig) -> list[str]:
    return [stage.key for stage in dry_run(config).stages]


def is_unread(setting: str, config: TrialConfig) -> bool:
    parts = setting.split(".")
    return any(".".join(parts[:length]) in config.unread for length in range(1, len(parts) + 1))


@pytest.mark.parametrize("name", TRIALS)
def test_a_setting_is_read_if_and_only_if_it_changes_a_stage(name: str) -> None:
    raw = NETWORK | TRIALS[name]
    config = parse_trial(raw, "test")
    said_read_but_changes_nothing = set()
    said_unread_but_changes_stages = set()
    tried = 0
    for setting in leaves(config.model_dump(mode="json")):
        if setting not in OTHERS or setting in IN_NO_ID:
            continue
        other = changed(raw, setting)
        if other is None or other == config:
            continue
        tried += 1
        changes = keys_of(config) != keys_of(other)
        if changes and is_unread(setting, config):
            said_unread_but_changes_stages.add((name, setting))
        if not changes and not is_unread(setting, config) and setting not in DECIDE_AT_RUN_TIME:
            said_read_but_changes_nothing.add((name, setting))
    assert tried > 25
    assert said_read_but_changes_nothing == set()
    assert said_unread_but_changes_stages == {pair for pair in IN_KEYS_WITHOUT_EFFECT if pair[0] == name}


@pytest.mark.parametrize("name", TRIALS)
def test_every_unread_setting_is_a_setting(name: str) -> None:
    config = parse_trial(NETWORK | TRIALS[name], "test")
    values = config.model_dump(mode="json")
    assert config.unread - {*leaves(values), *values} == set()


def test_a_share_that_was_never_asked_is_not_listed() -> None:
    """The budget in MACs of a pruning by milliseconds, in the rows of a run and on the card of a sub-model."""
    config = parse_trial(NETWORK | PRUNE_BY_TABLE, "test")
    listed = settings_read(config.model_dump(mode="json"), config.unread)
    assert "asked_removed_macs_fraction" not in listed["method"] and "width_multiple" not in listed["pruning"]
    assert listed["method"]["allocation"].keys() == {*BY_FRACTION, "asked_latency_ms"}
    point = {"point": 0, "stage_key": "k", "metric": "accuracy"}
    point |= dict.fromkeys(("validation_score", "deciding_score", "test_score"), 1.0)
    on_card = facts_of(config, point, command="", licence=None)["settings"]
    assert "asked_removed_macs_fraction" not in on_card["method"]  # type: ignore[operator]
    assert parse_trial(listed, "test").unread == config.unread  # what is left is the same trial
    assert keys_of(parse_trial(listed, "test")) == keys_of(config)


def test_of_a_users_method_all_settings_count_as_read(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(USERS_METHOD)
    plugins.load(module)
    try:
        assert parse_trial(NETWORK | {"method": {"name": "mine"}}, "test").unread == frozenset()
    finally:
        METHODS.remove("mine")


def test_the_rule_that_stops_a_path_reads_its_tolerance() -> None:
    for method in ("transtailor", "target_aware_adaptation"):
        path, stopping = (
            parse_trial(NETWORK | {"method": {"name": method, "stop_early": stops}}, "test") for stops in (False, True)
        )
        assert "method.tolerance_fraction" in path.unread and "method.tolerance_fraction" not in stopping.unread
