"""The axes of a sweep: settings by dotted keys with the values to cross; seeds that are tied to the trial's seed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.errors import SpecError
from sweeps.spec.nested import value_at
from sweeps.spec.ranges import is_range, range_values
from sweeps.spec.toml_text import literal, set_option, toml_value
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


def flat_axes(table: Any, where: str, prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> value, for keys written dotted, quoted or as nested tables; ranges become lists."""
    if not isinstance(table, Mapping):
        raise SpecError(f"{where}: given {table!r}; type a table of lists, as in seed = [0, 1, 2]")
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if is_range(value):
            flat[f"{prefix}{key}"] = range_values(value, f"{where} {prefix}{key}")
        elif isinstance(value, Mapping) and not value:
            raise SpecError(f"{where} {prefix}{key}: is empty; type a list or {{ from = 5, to = 25 }}, or leave it out")
        elif isinstance(value, Mapping):
            flat |= flat_axes(value, where, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_axes(axes: Mapping[str, Any], where: str, option: str | None = None) -> None:
    """Raise SpecError for an invalid axis; `option`: what comes before its key in a `--set`."""
    for key, values in axes.items():
        table = key.partition(".")[0]
        keys_beside_those_of_a_trial = (RATE,) if key == RATE else ()
        check_trial_keys([table], keys_beside_those_of_a_trial, where)
        if not isinstance(values, list):
            probable_values = probable_axis(values)
            advice = f"{key} = {probable_values}" if option is None else set_option(f"{option}{key}={probable_values}")
            raise SpecError(f"{where} {key}: given {values!r}; an axis is a list: type {advice}")
        if not values:
            raise SpecError(f"{where} {key}: the list is empty, so no trials are left; give it values or leave it out")
        texts = [toml_value(value) for value in values]
        for text in texts:
            if texts.count(text) > 1:
                raise SpecError(f"{where} {key}: the value {text} is there twice; leave one out")
        for other_key in axes:
            if key.startswith(f"{other_key}."):
                raise SpecError(f"{where} {key}: {other_key} is an axis too and both would set {key}; leave one out")


def probable_axis(value: Any) -> str:
    """Return, as TOML, the axis that its author probably meant by a value that is no list in TOML.

    >>> probable_axis("0-4"), probable_axis("0, 1, 4"), probable_axis("l1"), probable_axis("range(3)")
    ('{ from = 0, to = 4 }', '[0, 1, 4]', '["l1"]', '{ from = 0, to = 2 }')
    >>> probable_axis("[l1 taylor]"), probable_axis("0.1,0.01"), probable_axis("choice([8, 16])")
    ('["l1", "taylor"]', '[0.1, 0.01]', '[8, 16]')
    """
    if not isinstance(value, str):
        return toml_value([value])
    ends = re.fullmatch(r"\s*\[?\s*(\d+)\s*(?:-|\.\.\.?|to)\s*(\d+)\s*\]?\s*", value)
    if ends is not None:
        return f"{{ from = {int(ends[1])}, to = {int(ends[2])} }}"
    of_python = re.fullmatch(r"\s*range\((?:(\d+)\s*,)?\s*([1-9]\d*)\)\s*", value)
    if of_python is not None:
        return f"{{ from = {int(of_python[1] or 0)}, to = {int(of_python[2]) - 1} }}"
    called = re.fullmatch(r"\s*[\w.]+\((.*)\)\s*", value)
    values = (value if called is None else called[1]).strip()
    separators = r"[\s,;]" if values.startswith("[") else r"[,;]"
    words = [word.strip() for word in re.split(rf"{separators}+", values.strip("[]")) if word.strip()]
    if not words or any(re.fullmatch(r"0\d+", word) for word in words):  # "0,01" has a decimal comma
        return toml_value([value])
    return toml_value([literal(word.strip("'\"")) for word in words])


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


def check_trial_keys(keys: Iterable[str], other_valid_keys: tuple[str, ...], where: str) -> None:
    """Raise SpecError for a key that neither a trial has nor `other_valid_keys`."""
    valid_keys = [*TRIAL_KEYS, *other_valid_keys]
    for key in keys:
        if key not in valid_keys:
            hint = nearest(key, valid_keys, settings_by_name())
            if key.split(".")[0] == "trial":
                hint = "; leave out trial., as in optimisation.epochs"
            elif key == "name" and "label" in valid_keys:
                hint = "; did you mean 'label'?"
            elif key in SPEC_KEYS:
                hint = "; it is of the whole spec: write it above the first line that begins with ["
            raise SpecError(f"{where}: no such key: {key!r}{hint}")


def check_tied(tied: Any, where: str) -> None:
    """Raise SpecError unless this is a list of seeds that can be tied to the trial's seed."""
    if not isinstance(tied, list):
        example = tied if tied in SEEDS else "source.seed"
        raise SpecError(f'{where} tied_to_seed: given {tied!r}; type a list, as in tied_to_seed = ["{example}"]')
    for key in tied:
        if key not in SEEDS:
            raise SpecError(f"{where} tied_to_seed: {key!r} cannot be tied{nearest(str(key), SEEDS)}")
