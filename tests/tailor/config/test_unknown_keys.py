"""An unknown key of a trial: what is meant, as it is typed for this method, and never what was typed already."""

from typing import Any

import pytest

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial

HEAD = {"method": {"name": "head_only"}}
CASES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"method": {"name": "transtailor", "asked_removed_macs_fraction": 0.2}},
        "method.asked_removed_macs_fraction",
        "for 0.2 in 5 steps type step_removed_macs_fraction = 0.04; did you mean 'step_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "transtailor", "asked_removed_macs_fraction": 0.3, "steps": 3}},
        "method.asked_removed_macs_fraction",
        "for 0.3 in 3 steps type step_removed_macs_fraction = 0.1;",
    ),
    (
        {"method": {"name": "transtailor", "sparsity": 0.3}},
        "method.sparsity",
        "did you mean 'step_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "prune", "step_removed_macs_fraction": 0.2}},
        "method.step_removed_macs_fraction",
        "did you mean 'asked_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "head_only", "asked_removed_macs_fraction": 0.2}},
        "method.asked_removed_macs_fraction",
        "; head_only has no such setting, methods that have it are: prune, sfp, smaller_dense (valid: name)",
    ),
    (
        {"method": {"name": "fine_tune", "steps": 2}},
        "method.steps",
        "; fine_tune has no such setting, methods that have it are: gbn, prune, transtailor (valid: name)",
    ),
    (
        {"method": {"name": "pac_net", "criterion": "l1"}},
        "method.criterion",
        "; pac_net has no such setting, methods that have it are: prune",
    ),
    ({"method": {"name": "prune", "lr": 0.2}}, "method.lr", "did you mean 'optimisation.learning_rate'?"),
    (
        HEAD | {"method.asked_removed_macs_fraction": 0.2},
        "method.asked_removed_macs_fraction",
        "quotes make one key of it: type",
    ),
    (HEAD | {"optimisation.epochs": 2}, "optimisation.epochs", "quotes make one key of it: type optimisation.epochs"),
    (
        HEAD | {"removed_macs_fraction": 0.2},
        "removed_macs_fraction",
        "did you mean 'method.asked_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "prune", "removed_macs_fraction": 0.2}},
        "method.removed_macs_fraction",
        "did you mean 'asked_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "gbn", "step_macs_fraction": 0.2}},
        "method.step_macs_fraction",
        "did you mean 'step_removed_macs_fraction'?",
    ),
    (
        {"method": {"name": "prune", "allocation": {"name": "latency", "latency_ms": 2.0}}},
        "method.allocation.latency_ms",
        "did you mean 'asked_latency_ms'?",
    ),
    (HEAD | {"dice": [1.0]}, "dice", "(valid: data, "),
    (HEAD | {"optimisation": {"dice": [1.0]}}, "optimisation.dice", "(valid: "),
    (HEAD | {"optimisation": {"crop_px": 32}}, "optimisation.crop_px", "did you mean 'data.crop_px'?"),
    (HEAD | {"optimisation": {"batch_sizes": 32}}, "optimisation.batch_sizes", "did you mean 'batch_size'?"),
]


@pytest.mark.parametrize(("settings", "key", "said"), CASES, ids=[key for _, key, _ in CASES])
def test_what_is_meant_is_said_as_it_is_typed_here(settings: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_trial(settings, "spec.toml")
    message = str(raised.value)
    assert message.startswith(f"spec.toml: unknown key {key!r}") and said in message
    assert f"did you mean {key!r}" not in message
    if said.startswith("(valid"):
        assert "did you mean" not in message
