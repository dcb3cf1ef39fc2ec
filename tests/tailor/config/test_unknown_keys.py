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
        "did you mean 'step_removed_macs_fraction'?",
    ),
    (
        HEAD | {"method.asked_removed_macs_fraction": 0.2},
        "method.asked_removed_macs_fraction",
        "quotes make one key of it: type",
    ),
    (HEAD | {"data": {"expected": {"clases": 7}}}, "data.expected.clases", "did you mean 'classes'? (valid: classes, "),
    (HEAD | {"dice": [1.0]}, "dice", "(valid: data, "),
    (HEAD | {"optimisation": {"crop_px": 32}}, "optimisation.crop_px", "did you mean 'data.crop_px'?"),
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
