"""A trial's configuration from nested tables, and messages for mistakes: the key, the value, the nearest name."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from tailor.common.errors import ConfigError
from tailor.config.allocations import ALLOCATIONS
from tailor.config.trial import METHODS, TrialConfig
from tailor.facts.regularisation import REGULARISERS
from transtailor.names import closest
from transtailor.validation import Fault, explained, model_in

_TABLES = ("optimisation", "data", "pruning", "source")  # the first that has a name is meant most often
_BY_TABLE = "milliseconds are read from a table: type transtailor model table, and give table and table_sha256"
_CONSTANT = "leave it out: it is a constant, which a subclass of your own may have otherwise"
_OF_MEASUREMENTS = "device runtime memory_format batch_size threads precision repeats within"
_CONSTANTS = {
    "method.allocation": "samples mutated_fraction scale_sigma tuning_steps tuning_learning_rate learned_at",
    "method": "ticks tick_epochs tick_learning_rate sparsity_strength",
    "optimisation.regulariser": "attention_images smallest head_strength",
}
GONE = {
    **{f"method.allocation.{name}": _BY_TABLE for name in _OF_MEASUREMENTS.split()},
    **{f"{table}.{name}": _CONSTANT for table, names in _CONSTANTS.items() for name in names.split()},
    "last_point": "leave it out, and ask for fewer steps",
    "optimisation.rand_augment_magnitude": "leave it out: it is 9, torchvision's",
    "pruning.multiple_from_filters": "leave it out: layers of 64 filters or more keep multiples",
}
"""Setting of an earlier version -> what takes its place."""


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

        def place(fault: Fault) -> tuple[str, str]:
            return where if isinstance(where, str) else where(fault.keys), fault.key

        valid_keys = partial(_valid_keys, raw=raw)
        raise ConfigError(explained(error, place, valid_keys, settings_by_name(), GONE)) from None


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

    >>> nearest_setting("optimisation.learning_rates")
    'optimisation.learning_rate'
    """
    table, _dot, name = setting.partition(".")
    near = closest(name, _valid_keys((table,), {})) if table in _TABLES else None
    return f"{table}.{near}" if near else setting


def _valid_keys(path: Sequence[str], raw: dict[str, Any]) -> list[str]:
    """Return the names of the settings in the table at `path`."""
    model: type[BaseModel] = TrialConfig
    table: Any = raw
    for key in path:
        table = table.get(key, {}) if isinstance(table, dict) else table[int(key)]  # of a list, its number
        model = _model_of(model, key, table.get("name") if isinstance(table, dict) else None)
    return list(model.model_fields)


def _model_of(parent: type[BaseModel], key: str, name: Any) -> type[BaseModel]:
    """Return the settings model of the table `key` of `parent`. The key `name` in a table selects one of a registry."""
    if key == "method":
        return METHODS[name]
    if key == "allocation":
        return ALLOCATIONS[name]
    if key in ("regulariser", "first_regulariser"):
        return REGULARISERS[name]
    field = parent.model_fields.get(key)
    return (model_in(field.annotation) if field else None) or parent
