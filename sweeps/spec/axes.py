"""The axes of a sweep: settings by dotted keys with the values to cross; seeds that are tied to the trial's seed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from sweeps.errors import SpecError
from sweeps.spec.nested import value_at
from sweeps.spec.toml_text import toml_value
from tailor.config.parsing import settings_by_name
from tailor.config.trial import METHODS, TrialConfig
from transtailor.names import nearest

TRIAL_KEYS = tuple(TrialConfig.model_fields)
SPEC_KEYS = (
    "extends", "name", "trial", "axes", "tuning", "tied_to_seed", "variants", "exclude", "resources", "imports",
    "search", "confirm", "settle", "printed",
)  # fmt: skip
"""The keys of a spec file: "extends", and the fields of `Spec`."""
RATE = "rate"
"""In [axes] and [tuning]: the learning rate that the method of each arm really reads, `Method.rate`."""
SEEDS = ("source.seed", "data.split_seed")
"""Seeds that can be tied to the trial's seed, which always draws head, order, augmentation and subset."""


def flat_axes(table: Any, prefix: str = "") -> Any:
    """Return dotted key -> value, for keys written dotted, quoted or as nested tables; what is no table, as it is."""
    if not isinstance(table, Mapping):
        return table
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_axes(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_axes(axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the axes. Raises ValueError for an unknown setting, and for an axis that is empty or sets one twice."""
    refuse_unknown(axes, RATE)
    for key, values in axes.items():
        if not values:
            raise ValueError(f"{key}: the list is empty, so no trials are left; give it values or leave it out")
        for text, count in Counter(toml_value(value) for value in values).items():
            if count > 1:
                raise ValueError(f"{key}: the value {text} is there twice; leave one out")
        for other_key in axes:
            if key.startswith(f"{other_key}."):
                raise ValueError(f"{key}: {other_key} is an axis too and both would set {key}; leave one out")
    return axes


def refuse_unknown(keys: Iterable[str], *others: str) -> None:
    """Raise ValueError for a key, maybe dotted, that neither a trial has nor `others`."""
    valid_keys = [*TRIAL_KEYS, *others]
    for dotted_key in keys:
        key = dotted_key.partition(".")[0]
        if key not in valid_keys:
            raise ValueError(f"unknown key {key!r}{nearest(key, valid_keys, settings_by_name())}")


Axes = Annotated[dict[str, list[Any]], BeforeValidator(flat_axes), AfterValidator(check_axes)]
"""Dotted key -> values."""


def own_rate(
    table: Mapping[str, Any], trial: Mapping[str, Any], where: str, varied: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the table with `rate` replaced by the key of the rate that the trial's method reads.

    >>> own_rate({"rate": [0.1], "seed": [0]}, {"method": "head_only"}, "[tuning]")
    {'optimisation.head_learning_rate': [0.1], 'seed': [0]}

    Args:
        varied: keys whose values vary over the trials that have this table.

    Raises:
        SpecError: the trial has no method yet, or its method varies, or the table has that key too.
    """
    if RATE not in table:
        return dict(table)
    advice = "name the method in each variant"
    for key in varied:
        if overlap(key, "method.name"):
            raise SpecError(f"{where} {RATE}: which setting it is depends on {key}, which varies too; {advice}")
    method_name = value_at(trial, "method.name")
    if not isinstance(method_name, str) or method_name not in METHODS:
        raise SpecError(f"{where} {RATE}: which setting it is depends on the method; {advice}")
    rate_key = METHODS[method_name].rate
    if rate_key in table:
        raise SpecError(f"{where} {RATE}: is {rate_key} for {method_name}, which is set there too; leave one out")
    return {rate_key if key == RATE else key: value for key, value in table.items()}


def overlap(key: str, other_key: str) -> bool:
    """Whether two dotted keys are equal, or one is a table that contains the other."""
    return f"{key}.".startswith(f"{other_key}.") or f"{other_key}.".startswith(f"{key}.")
