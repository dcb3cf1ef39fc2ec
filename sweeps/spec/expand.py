"""Spec -> trials: every variant crossed with its axes, without the excluded trials."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.spec.axes import check_apart, overlap, own_rate
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.nested import merge_tables, set_value
from sweeps.spec.sections import Sections
from sweeps.spec.spec import Spec, Variant
from sweeps.spec.toml_text import set_option, toml_value
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from transtailor.documents import find_line
from transtailor.names import nearest


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One setting of a spec's [tuning]."""

    order: int  # its place among them, from 0
    values: dict[str, Any]  # dotted key -> value


@dataclass(frozen=True, kw_only=True)
class Expanded:
    """A trial and its origin in the spec."""

    label: str
    config: TrialConfig
    settings: JsonSettings  # the same
    combination: "Combination"

    @property
    def tuning(self) -> Tuning | None:
        """Its setting of [tuning]; None without [tuning]."""
        return self.combination.tuning


def expand(spec: Spec) -> Iterator[Expanded]:
    """Yield all trials of a spec: variants outermost, then the axes in order, the settings of [tuning] innermost.

    Raises:
        ConfigError: an invalid trial (unknown key, impossible value).
        SpecError: no trials, an exclusion that matches no trial or only some settings of [tuning], a `--set` that
            changes no trial; after the last trial.
    """
    exclusions = [_Exclusion(pattern, number) for number, pattern in enumerate(spec.exclude, start=1)]
    sections = Sections()
    kept: Counter[str | None] = Counter()  # trials by their origin without [tuning]; None: there is none
    seen: list[dict[str, Any]] = []  # for messages about exclusions
    written: list[dict[str, Any]] = []  # for those about --set
    for number, variant in enumerate(spec.variants or [Variant()], start=1):
        for combination in _crossed(spec, variant, number if spec.variants else None):
            # Match the settings as written first, since impossible combinations may be excluded.
            is_excluded = _any_matches(exclusions, combination.raw, variant.label)
            try:
                trial = _parsed(spec, combination, variant.label, sections)
            except ConfigError:
                if is_excluded:
                    continue
                raise
            if exclusions:
                seen.append(trial.settings.values | {"label": trial.label})
            if not _any_matches(exclusions, trial.settings.values, trial.label) and not is_excluded:
                kept[None if combination.tuning is None else combination.untuned] += 1
                if spec.assignments:
                    written.append(combination.raw)
                yield trial
    _check_used(spec, exclusions, seen)
    if not kept:
        raise SpecError(
            f"{spec.where} [[exclude]]: every trial is excluded, so no trials are left to run; remove an exclusion"
        )
    _check_equal_tuning(spec, {untuned: count for untuned, count in kept.items() if untuned is not None})
    _check_reached(spec, written)


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """One combination of the axes."""

    raw: dict[str, Any]  # the settings as written
    base: str  # "[trial]", or its variant
    point: dict[str, Any]  # dotted key -> value of each axis
    tuning: Tuning | None
    variant: int | None  # its number, from 1

    @property
    def untuned(self) -> str:
        """Its origin in the spec, without its setting of [tuning]."""
        return f"{self.base} at {_listed(self.point)}" if self.point else self.base

    @property
    def origin(self) -> str:
        """Its origin in the spec."""
        return self.untuned if self.tuning is None else f"{self.untuned} tuned with {_listed(self.tuning.values)}"


def _crossed(spec: Spec, variant: Variant, number: int | None) -> Iterator[Combination]:
    """Yield each combination of the axes and the settings of [tuning]."""
    name = f"[[variants]] {number}" + (f" ({variant.label!r})" if variant.label else "")
    origin = "[trial]" if number is None else name
    base, where = merge_tables(spec.trial, variant.settings), f"{spec.where} {origin}"
    own = {table: own_rate(getattr(spec, table), base, f"{where} {table}") for table in ("axes", "tuning")}
    spec = spec.model_copy(update=own)
    variant = variant.model_copy(update={"axes": own_rate(variant.axes, base, f"{where} axes")})
    check_apart(spec.axes, spec.tuning, where)
    check_axes_apart(spec, variant, where)
    settings: list[Tuning | None] = [*_settings_of_tuning(spec)] or [None]
    for point in _product({**spec.axes, **variant.axes}):
        for tuning in settings:
            yield _combination(spec, Combination(raw=base, base=origin, point=point, tuning=tuning, variant=number))


def _combination(spec: Spec, chosen: Combination) -> Combination:
    """Set the values of the axes and of [tuning] on the settings of a variant, `chosen.raw`, and the tied seeds."""
    over: dict[str, Any] = {}
    for key, value in {**chosen.point, **(chosen.tuning.values if chosen.tuning else {})}.items():
        set_value(over, key.split("."), value)
    raw = merge_tables(chosen.raw, over)
    for key in spec.tied_to_seed:
        _check_free(raw, key, f"{spec.where} {chosen.untuned}")
        table, _, name = key.partition(".")
        raw = merge_tables(raw, {table: {name: raw.get("seed", 0)}})
    return replace(chosen, raw=raw)


def expand_one(spec: Spec, number: int, point: Mapping[str, Any]) -> Expanded | None:
    """Return one trial of a spec without [tuning]: variant `number` (from 0) with these values of its axes.

    Returns:
        the trial; None if it is excluded.

    Raises:
        ConfigError: the values cannot be combined.
    """
    variant = spec.variants[number] if spec.variants else Variant()
    origin = f"[[variants]] {number + 1}" if spec.variants else "[trial]"
    base = merge_tables(spec.trial, variant.settings)
    place = number + 1 if spec.variants else None
    values = own_rate(point, base, f"{spec.where} {origin}")
    crossed = _combination(spec, Combination(raw=base, base=origin, point=values, tuning=None, variant=place))
    exclusions = [_Exclusion(pattern, place) for place, pattern in enumerate(spec.exclude, start=1)]
    if _any_matches(exclusions, crossed.raw, variant.label):
        return None
    trial = _parsed(spec, crossed, variant.label, Sections())
    return None if _any_matches(exclusions, trial.settings.values, trial.label) else trial


def _check_free(raw: Mapping[str, Any], key: str, where: str) -> None:
    """Raise SpecError if a setting that is tied to the seed has its own value."""
    if (value := _value_at(raw, key)) is not _ABSENT:
        raise SpecError(
            f"{where} {key}: is {toml_value(value)} here, and tied_to_seed ties it to the seed; leave one out"
        )


def _product(axes: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield each combination of the axes' values, the last axis innermost."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _settings_of_tuning(spec: Spec) -> list[Tuning]:
    """Return the settings of [tuning] in order; none without it."""
    if not spec.tuning:
        return []
    return [Tuning(order=order, values=values) for order, values in enumerate(_product(spec.tuning))]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {toml_value(value)}" for key, value in values.items())


def _check_equal_tuning(spec: Spec, kept: Mapping[str, int]) -> None:
    """Raise SpecError if exclusions leave only some of the settings of [tuning]; `kept` counts them by origin."""
    wanted = len(_settings_of_tuning(spec))
    for untuned, count in kept.items():
        if wanted and count < wanted:
            raise SpecError(
                f"{spec.where} [[exclude]]: leaves {count} of the {wanted} settings of [tuning] to {untuned}; every "
                "arm needs all of them, so exclude all of its settings or none"
            )


def check_axes_apart(spec: Spec, variant: Variant, where: str) -> None:
    """Raise SpecError if a setting is set in two places, of which one would have no effect."""
    common = dict.fromkeys(spec.axes, "[axes]") | dict.fromkeys(spec.tuning, "[tuning]")
    for key in variant.axes:
        rival = next((other for other in common if overlap(key, other)), None)
        if rival:
            raise SpecError(f"{where} axes {key}: {common[rival]} {rival} sets it too; leave one out")
    for key in spec.tuning:
        if _value_at(variant.settings, key) is not _ABSENT:
            raise SpecError(
                f"{where} {key}: [tuning] sets it, for all arms alike; leave it out here, or make it an axis"
            )
    for key in [*spec.axes, *variant.axes]:
        if _value_at(variant.settings, key) is not _ABSENT:
            raise SpecError(f"{where} {key}: is an axis too, so what the variant gives has no effect; leave one out")


def _parsed(spec: Spec, combination: Combination, label: str | None, sections: Sections) -> Expanded:
    config = parse_trial(sections.parse(combination.raw), lambda keys: _place(spec, combination, keys))
    return Expanded(
        label=label or config.method.label(), config=config, settings=sections.write(config), combination=combination
    )


def _place(spec: Spec, combination: Combination, keys: Sequence[str]) -> str:
    """Say where a setting of a trial was given: the part of the spec, with the line if known; or `--set`."""
    dotted = ".".join(keys)
    for assignment in spec.assignments:
        table, _, key = assignment.partition("=")[0].strip().partition(".")
        if table in ("trial", "axes", "tuning") and overlap(key, dotted):
            return set_option(assignment)
    variant = () if combination.variant is None else ("variants", str(combination.variant))
    tables = [(*variant, "axes"), ("axes",), ("tuning",), *([variant] if variant else []), ("trial",)]
    text = "" if spec.path is None else spec.path.read_text(encoding="utf-8")
    for place in tables:
        line = find_line(text, [*place, *keys])
        if line is not None and line != find_line(text, place):
            return f"{spec.where} {'[trial]' if place == ('trial',) else combination.origin}, line {line}"
    return f"{spec.where} {combination.origin}"


def _check_used(spec: Spec, exclusions: list["_Exclusion"], trials: list[dict[str, Any]]) -> None:
    for exclusion in exclusions:
        if not exclusion.used:
            exclusion.refuse(spec.where, trials)


class _Exclusion:
    """A partial trial to exclude; notes whether it matched any trial."""

    def __init__(self, pattern: dict[str, Any], number: int) -> None:
        self.pattern = pattern
        self.number = number
        self.used = False

    def matches(self, settings: Mapping[str, Any]) -> bool:
        found = _matches(self.pattern, settings)
        self.used |= found
        return found

    def refuse(self, where: str, trials: list[dict[str, Any]]) -> NoReturn:
        """Raise SpecError, with the nearest name, because this has excluded no trial."""
        where = f"{where} [[exclude]] {self.number}"
        for key, wanted in leaves(self.pattern):
            values = {toml_value(value) for trial in trials if (value := _value_at(trial, key)) not in (_ABSENT, None)}
            if not values:
                known = {name for trial in trials for name, _ in leaves(trial)}
                raise SpecError(f"{where}: no trial has a setting {key!r}{nearest(key, sorted(known))}")
            if not any(_matches(wanted, _value_at(trial, key)) for trial in trials):
                raise SpecError(
                    f"{where} {key}: matches no trial; given {toml_value(wanted)}"
                    f"{nearest(toml_value(wanted), sorted(values))}"
                )
        raise SpecError(f"{where}: matches no trial, though each of its settings does; correct it or remove it")


def _any_matches(exclusions: list[_Exclusion], settings: Mapping[str, Any], label: str | None) -> bool:
    named = settings if label is None else {**settings, "label": label}
    return any([exclusion.matches(named) for exclusion in exclusions])  # a list: each exclusion notes its match


def _matches(pattern: Any, value: Any) -> bool:
    """Whether `value` has all settings of `pattern`; a list in the pattern stands for any of its values."""
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _matches(inner, value[key]) for key, inner in pattern.items()
        )
    if isinstance(pattern, list) and not isinstance(value, list):
        return any(_matches(choice, value) for choice in pattern)
    return type(pattern) is type(value) and pattern == value or _both_numbers(pattern, value) and pattern == value


def _both_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


_ABSENT = object()


def _value_at(table: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        if not isinstance(table, Mapping) or key not in table:
            return _ABSENT
        table = table[key]
    return table


def _check_reached(spec: Spec, written: list[dict[str, Any]]) -> None:
    """Raise SpecError for a `--set trial.` that axes or variants override everywhere.

    `written` are the trials' settings as written in the spec, since parsing may change them (a relative path becomes
    absolute).
    """
    for assignment in spec.assignments:
        key = assignment.partition("=")[0].strip()
        setting = key.removeprefix("trial.")
        wanted = _value_at(spec.trial, setting)
        if setting == key or isinstance(wanted, Mapping):
            continue
        if not any(_matches(wanted, _value_at(raw, setting)) for raw in written):
            axis = setting in spec.axes
            advice = (
                f"type {set_option(f'axes.{setting}=[{toml_value(wanted)}]')}"
                if axis
                else "change the spec's [[variants]]"
            )
            raise SpecError(
                f"--set {assignment}: has no effect, because {'[axes]' if axis else 'every variant'} of {spec.where} "
                f"sets {setting} itself; {advice}"
            )
