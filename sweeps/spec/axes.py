"""The axes of a sweep: settings by dotted keys with the values to cross; seeds that are tied to the trial's seed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.errors import SpecError
from sweeps.spec.ranges import is_range, range_values
from sweeps.spec.toml_text import set_option, toml_value
from tailor.config.parsing import settings_by_name
from tailor.config.trial import METHODS, TrialConfig
from transtailor.names import nearest

TRIAL_KEYS = tuple(TrialConfig.model_fields)
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
        check_trial_keys({key.partition(".")[0]: None}, () if key != RATE else (RATE,), where)
        if not isinstance(values, list):
            meant = _meant(values)
            advice = f"{key} = {meant}" if option is None else set_option(f"{option}{key}={meant}")
            raise SpecError(f"{where} {key}: given {values!r}; an axis is a list: type {advice}")
        if not values:
            raise SpecError(f"{where} {key}: the list is empty, so no trials are left; give it values or leave it out")
        texts = [toml_value(value) for value in values]
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice is not None:
            raise SpecError(f"{where} {key}: the value {twice} is there twice; leave one out")
        above = next((other for other in axes if key.startswith(f"{other}.")), None)
        if above is not None:
            raise SpecError(f"{where} {key}: {above} is an axis too and both would set {key}; leave one out")


def _meant(value: Any) -> str:
    """The values of an axis, as TOML, that were probably meant by one value.

    >>> _meant("0-4"), _meant("0, 1, 4"), _meant("l1")
    ('{ from = 0, to = 4 }', '[0, 1, 4]', '["l1"]')
    """
    if isinstance(value, str):
        if ends := re.fullmatch(r"\s*(\d+)\s*(?:-|\.\.\.?|to)\s*(\d+)\s*", value):
            return f"{{ from = {int(ends[1])}, to = {int(ends[2])} }}"
        if re.fullmatch(r"\s*\[?\s*-?\d+(\s*,\s*-?\d+)+\s*\]?\s*", value):
            return toml_value([int(number) for number in re.findall(r"-?\d+", value)])
    return toml_value([value])


def own_rate(
    table: Mapping[str, Any], trial: Mapping[str, Any], where: str, varied: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the table with the key of the rate that the trial's method reads in the place of `rate`.

    >>> own_rate({"rate": [0.1], "seed": [0]}, {"method": "head_only"}, "[tuning]")
    {'optimisation.head_learning_rate': [0.1], 'seed': [0]}

    Args:
        varied: keys whose values vary over the trials that have this table.

    Raises:
        SpecError: the trial has no method yet, or not only one, or the table has that key too.
    """
    if RATE not in table:
        return dict(table)
    advice = "name the method in each variant"
    if (varies := next((key for key in varied if overlap(key, "method.name")), None)) is not None:
        raise SpecError(f"{where} {RATE}: which setting it is depends on {varies}, which varies too; {advice}")
    given = trial.get("method")
    name = given.get("name") if isinstance(given, Mapping) else given
    if not isinstance(name, str) or name not in METHODS:
        raise SpecError(f"{where} {RATE}: which setting it is depends on the method; {advice}")
    key = METHODS[name].rate
    if key in table:
        raise SpecError(f"{where} {RATE}: is {key} for {name}, which is set there too; leave one out")
    return {key if own == RATE else own: value for own, value in table.items()}


def check_apart(axes: Mapping[str, Any], tuning: Mapping[str, Any], where: str) -> None:
    """Raise SpecError if an axis and a tuned setting would set the same key."""
    for key in tuning:
        rival = next((axis for axis in axes if overlap(axis, key)), None)
        if rival is not None:
            raise SpecError(f"{where} [tuning] {key}: [axes] {rival} sets it too; leave one out")


def overlap(one: str, other: str) -> bool:
    """Whether two dotted keys are equal, or one is a table that contains the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def check_trial_keys(table: Mapping[str, Any], others: tuple[str, ...], where: str) -> None:
    valid = [*TRIAL_KEYS, *others]
    for key in table:
        if key not in valid:
            raise SpecError(f"{where}: no such key: {key!r}{nearest(key, valid, settings_by_name())}")


def check_tied(tied: Any, where: str) -> None:
    """Raise SpecError unless this is a list of seeds that can be tied to the trial's seed."""
    if not isinstance(tied, list):
        raise SpecError(f'{where} tied_to_seed: given {tied!r}; type a list, as in tied_to_seed = ["source.seed"]')
    for key in tied:
        if key not in SEEDS:
            raise SpecError(
                f"{where} tied_to_seed: {key!r} cannot be tied{nearest(str(key), SEEDS)}; what can: {', '.join(SEEDS)}"
            )
