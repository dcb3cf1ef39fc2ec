"""A trial's configuration from nested tables, and messages for mistakes: the key, the value, the nearest name."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from tailor.common.errors import ConfigError
from tailor.common.settings import Settings
from tailor.config.allocations import ALLOCATIONS
from tailor.config.trial import METHODS, TrialConfig
from tailor.facts.regularisation import REGULARISERS
from transtailor.names import closest, nearest
from transtailor.validation import TABLE, Fault, list_faults

_TABLES = ("optimisation", "data", "pruning", "source")  # the first that has a name is meant most often


def parse_trial(raw: dict[str, Any], where: str | Callable[[Sequence[str]], str]) -> TrialConfig:
    """Return the configuration in `raw`, a nested table as TOML gives it.

    >>> parse_trial({"method": {"name": "head_only"}, "seed": 3}, "example").seed
    3
    >>> parse_trial({"method": {"name": "head_only"}, "sede": 3}, "example")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tailor.common.errors.ConfigError: example: unknown key 'sede'; did you mean 'seed'? (valid: data, ...)

    Args:
        raw: the trial's settings.
        where: file and table of the settings, for the message; or a function that gives them for a setting's keys.

    Raises:
        ConfigError: every mistake in `raw`, one per line, each with its key, the value given and what is valid.
    """
    try:
        return TrialConfig.model_validate(raw)
    except ValidationError as error:
        lines = []
        for fault in list_faults(error):
            location = where if isinstance(where, str) else where(fault.keys)
            lines.append(f"{location}: {_message(fault, raw)}")
        raise ConfigError("\n".join(lines)) from None


@lru_cache(maxsize=1)
def settings_by_name() -> Mapping[str, str]:
    """Return the settings of a trial, its tables and the methods: name -> table and name, as written at its top.

    >>> settings_by_name()["learning_rate"]
    'optimisation.learning_rate'
    """
    dotted_names = {name: name for name in TrialConfig.model_fields}
    dotted_names |= {name: f"method.{name}" for name in ("asked_removed_macs_fraction", "criterion", "allocation")}
    for table in _TABLES:
        for name in _model_of(TrialConfig, table, None).model_fields:
            dotted_names.setdefault(name, f"{table}.{name}")
    for method in METHODS.values():
        for name in method.model_fields:
            dotted_names.setdefault(name, f"method.{name}")
    return MappingProxyType(dotted_names)


def is_list(setting: str) -> bool:
    """Whether a setting of a table of a trial is a list, such as `pruning.exclude`; none of a method is."""
    table, _dot, name = setting.partition(".")
    return isinstance(getattr(TrialConfig.model_fields[table].default, name, None), list | tuple)


def nearest_setting(setting: str) -> str:
    """Return the setting of a table of a trial that was probably meant; the one given if none is near.

    >>> nearest_setting("optimisation.lr")
    'optimisation.learning_rate'
    """
    table, _dot, name = setting.partition(".")
    near = closest(name, _valid_keys((table,), {})) if table in _TABLES else None
    return f"{table}.{near}" if near else setting


def _message(fault: Fault, raw: dict[str, Any]) -> str:
    key = fault.key or "settings"
    if fault.kind == "unknown":
        valid_keys = _valid_keys(fault.keys[:-1], raw)
        # What was typed is not suggested.
        elsewhere = {
            name: dotted for name, dotted in settings_by_name().items() if fault.keys[:-1] == () or dotted != key
        }
        hint = _of_steps(fault, raw) or _of_other_methods(fault, raw)
        return f"unknown key {key!r}{hint}{nearest(fault.keys[-1], valid_keys, {} if hint else elsewhere)}"
    if fault.kind == "missing":
        return f"{key} is missing; add {key} = ..."
    if isinstance(fault.given, dict | Settings):  # a whole table would be too long for a message
        return f"{key}: {fault.expected}"
    if fault.expected.endswith(TABLE) and key in _TABLES:
        return f"{key}: {fault.expected}, such as {key}.{_valid_keys(fault.keys, {})[0]} (given: {fault.given!r})"
    several = f"; several values are an axis of a spec: axes.{key} = ..." if isinstance(fault.given, list) else ""
    return f"{key}: {fault.expected} (given: {fault.given!r}){several}"


def _of_steps(fault: Fault, raw: dict[str, Any]) -> str:
    """Return what a method that prunes in steps takes in place of a budget for all of them; "" for other mistakes."""
    if fault.keys != ("method", "asked_removed_macs_fraction") or not isinstance(fault.given, float):
        return ""
    fields = METHODS[raw["method"]["name"]].model_fields
    if not {"steps", "step_removed_macs_fraction"} <= fields.keys():
        return ""
    steps = raw["method"].get("steps", fields["steps"].default)
    if not isinstance(steps, int) or steps < 1:
        return ""
    return (
        f"; this method removes step_removed_macs_fraction in each of its steps: for {fault.given:g} in {steps} "
        f"steps type step_removed_macs_fraction = {fault.given / steps:.4g}"
    )


def _of_other_methods(fault: Fault, raw: dict[str, Any]) -> str:
    """Return which methods have this setting, if the trial's has none of this name; "" for other mistakes."""
    if fault.keys[:-1] != ("method",):
        return ""
    others = [name for name, method in METHODS.items() if fault.keys[-1] in method.model_fields]
    if not others:
        return ""
    return f"; {raw['method']['name']} has no such setting, methods that have it are: {', '.join(sorted(others))}"


def _valid_keys(path: Sequence[str], raw: dict[str, Any]) -> list[str]:
    """Return the names of the settings in the table at `path`."""
    model: type[Settings] = TrialConfig
    table = raw
    for key in path:
        table = table.get(key, {})
        model = _model_of(model, key, table.get("name"))
    return list(model.model_fields)


def _model_of(parent: type[Settings], key: str, name: Any) -> type[Settings]:
    """Return the settings model of the table `key` of `parent`. The key `name` in a table selects one of a registry."""
    if key == "method":
        return METHODS[name]
    if key == "allocation":
        return ALLOCATIONS[name]
    if key in ("regulariser", "first_regulariser"):
        return REGULARISERS[name]
    default: Settings = parent.model_fields[key].get_default()
    return type(default)
