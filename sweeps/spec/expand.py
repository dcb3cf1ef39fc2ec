"""Spec -> trials: every variant crossed with its axes, without the excluded trials."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.errors import SpecError
from sweeps.spec.axes import RATE, overlap, own_rate
from sweeps.spec.changes import Changes
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.nested import ABSENT, merge_tables, set_value, value_at
from sweeps.spec.sections import Sections
from sweeps.spec.spec import Spec, Variant
from sweeps.spec.toml_text import set_option, toml_value
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig

MOST_TRIALS = 100_000


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
    settings: JsonSettings  # the same as `config`, as plain values
    combination: "Combination"

    @property
    def tuning(self) -> Tuning | None:
        """Its setting of [tuning]; None without [tuning]."""
        return self.combination.tuning


def expand(spec: Spec) -> Iterator[Expanded]:
    """Yield all trials of a spec: variants outermost, then the axes in order, the settings of [tuning] innermost.

    Raises:
        ConfigError: an invalid trial (unknown key, impossible value).
        SpecError: too many trials; no trials, an exclusion that matches no trial or only some settings of [tuning], a
            `--set` that changes no trial; after the last trial.
    """
    refuse_too_many(spec)
    changes = Changes(spec)
    sections = Sections()
    settings_of_tuning: Counter[str] = Counter()  # how many trials an origin has; counted only with [tuning]
    has_trials = False
    for index in range(max(1, len(spec.variants))):
        variant, bare = _of_variant(spec, index)
        for combination in _crossed(spec, variant, bare):
            trial = _trial_unless_excluded(spec, combination, variant.label, sections, changes)
            if trial is None:
                continue
            has_trials = True
            if combination.tuning is not None:
                settings_of_tuning[combination.untuned] += 1
            yield trial
    changes.check_exclusions()
    if not has_trials:
        raise SpecError(
            f"{spec.where} [[exclude]]: every trial is excluded, so no trials are left to run; remove an exclusion"
        )
    settings_in_spec = len(_settings_of_tuning(spec))
    for origin, count in settings_of_tuning.items():
        if count < settings_in_spec:
            raise SpecError(
                f"{spec.where} [[exclude]]: leaves {count} of the {settings_in_spec} settings of [tuning] to {origin}; "
                "every arm needs all of them, so exclude all of its settings or none"
            )
    changes.check_assignments()


def refuse_too_many(spec: Spec) -> None:
    """Raise SpecError if the axes of all variants make more than `MOST_TRIALS` trials; none is expanded for it."""
    products: dict[str, int] = {}  # the numbers of values of a variant's axes -> trials
    for index in range(max(1, len(spec.variants))):
        variant, bare = _of_variant(spec, index)
        axes = {**spec.axes, **spec.tuning, **variant.axes}
        listed = ", ".join(f"{key} has {len(values):,}" for key, values in axes.items() if len(values) > 1)
        products[f"{bare.base}: {listed}"] = math.prod(len(values) for values in axes.values())
    trials = sum(products.values())
    seeds = "" if spec.settle is None else "settle.looks or "
    advice = f"shorten {seeds}these axes of {max(products, key=products.__getitem__)}"
    if spec.search is not None and spec.search.trials is not None:
        tried = spec.search.trials * len(spec.axes.get("seed", [0]))
        if tried < trials:
            trials, advice = tried, f"lower search.trials, or {advice}"
    confirmed = 0 if spec.confirm is None else min(spec.confirm.top, trials) * spec.confirm.seeds
    if confirmed > trials:
        trials, advice = confirmed, "lower confirm.top or confirm.seeds"
    if trials > MOST_TRIALS:
        raise SpecError(f"{spec.where}: {trials:,} trials, and a sweep has at most {MOST_TRIALS:,}; {advice}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """One combination of the axes."""

    raw: dict[str, Any]  # the settings as written
    over: dict[str, Any]  # those of them that the variant, the axes and [tuning] set over [trial]
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


def _of_variant(spec: Spec, index: int) -> tuple[Variant, Combination]:
    """Return a variant, by its number from 0 or of a spec without any, and its settings before an axis sets others."""
    variant = spec.variants[index] if spec.variants else Variant()
    origin = f"[[variants]] {index + 1}" if spec.variants else "[trial]"
    if variant.label:
        origin += f" ({variant.label!r})"
    raw = merge_tables(spec.trial, variant.settings)
    number = index + 1 if spec.variants else None
    return variant, Combination(raw=raw, over=variant.settings, base=origin, point={}, tuning=None, variant=number)


def _crossed(spec: Spec, variant: Variant, bare: Combination) -> Iterator[Combination]:
    """Yield each combination of the axes and the settings of [tuning]."""
    where = f"{spec.where} {bare.base}"
    varied = [*spec.axes, *spec.tuning, *variant.axes]
    axes = own_rate(spec.axes, bare.raw, f"{where} axes", varied)
    tuning_table = own_rate(spec.tuning, bare.raw, f"{where} tuning", varied)
    spec = spec.model_copy(update={"axes": axes, "tuning": tuning_table})
    variant = variant.model_copy(update={"axes": own_rate(variant.axes, bare.raw, f"{where} axes", varied)})
    check_apart(spec, variant, where)
    settings_of_tuning: list[Tuning | None] = [*_settings_of_tuning(spec)] or [None]
    for point in _product({**spec.axes, **variant.axes}):
        for tuning in settings_of_tuning:
            yield _with_values(spec, replace(bare, point=point, tuning=tuning))


def _with_values(spec: Spec, combination: Combination) -> Combination:
    """Return the combination with its values of the axes and of [tuning], and the tied seeds, set in `raw`."""
    values = dict(combination.point)
    if combination.tuning is not None:
        values |= combination.tuning.values
    over: dict[str, Any] = {}
    for key, value in values.items():
        set_value(over, key.split("."), value)
    raw = merge_tables(combination.raw, over)
    for key in spec.tied_to_seed:
        table, _dot, name = key.partition(".")
        value = value_at(raw, key)
        if value is not ABSENT:
            raise SpecError(
                f"{_say_where(spec, combination, [table, name])}: {key} is {toml_value(value)} here, and "
                "tied_to_seed ties it to the seed; leave one out"
            )
        raw = merge_tables(raw, {table: {name: raw.get("seed", 0)}})
    return replace(combination, raw=raw, over=merge_tables(combination.over, over))


def expand_one(spec: Spec, index: int, point: Mapping[str, Any], changes: Changes | None = None) -> Expanded | None:
    """Return one trial of a spec without [tuning]: the variant at `index` with these values of its axes.

    Args:
        index: 0 if the spec has no variants.
        changes: they note this trial, too.

    Returns:
        the trial; None if it is excluded.

    Raises:
        ConfigError: the values cannot be combined.
    """
    variant, bare = _of_variant(spec, index)
    values = own_rate(point, bare.raw, f"{spec.where} {bare.base}", point)
    combination = _with_values(spec, replace(bare, point=values))
    return _trial_unless_excluded(spec, combination, variant.label, Sections(), changes or Changes(spec))


def _trial_unless_excluded(
    spec: Spec, combination: Combination, label: str | None, sections: Sections, changes: Changes
) -> Expanded | None:
    """Return the trial of a combination, None if it is excluded; `changes` notes it."""
    # Match the settings as written first, since impossible combinations may be excluded.
    is_excluded = changes.excludes(combination.raw, label)
    try:
        trial = _parsed(spec, combination, label, sections)
    except ConfigError:
        if is_excluded:
            return None
        changes.keep(combination.raw, combination.over)
        raise
    changes.remember(trial.settings.values, trial.label)
    if changes.excludes(trial.settings.values, trial.label) or is_excluded:
        return None
    changes.keep(combination.raw, combination.over)
    return trial


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


def check_apart(spec: Spec, variant: Variant, where: str) -> None:
    """Raise SpecError if a setting is set in two places, of which one would have no effect."""
    tables = {"[axes]": spec.axes, "[tuning]": spec.tuning, "its axes": variant.axes}
    for (table, keys), (other_table, other_keys) in itertools.combinations(tables.items(), 2):
        for key, other_key in itertools.product(keys, other_keys):
            if overlap(key, other_key):
                raise SpecError(f"{where}: {table} {key} and {other_table} {other_key} set one setting; leave one out")
    for table, keys in tables.items():
        for key in keys:
            if value_at(variant.settings, key) is not ABSENT:
                raise SpecError(
                    f"{where} {key}: {table} sets it too, so what the variant gives has no effect; leave one out"
                )


def _parsed(spec: Spec, combination: Combination, label: str | None, sections: Sections) -> Expanded:
    def where(keys: Sequence[str]) -> str:
        return _say_where(spec, combination, ["seed"] if ".".join(keys) in spec.tied_to_seed else keys)

    config = parse_trial(sections.parse(combination.raw), where)
    return Expanded(
        label=label or config.method.label(), config=config, settings=sections.write(config), combination=combination
    )


def _say_where(spec: Spec, combination: Combination, keys: Sequence[str]) -> str:
    """Say where a setting of a trial was given: the `--set`s that give it, or else its origin in the spec."""
    key = ".".join(keys)
    values = combination.point | ({} if combination.tuning is None else combination.tuning.values)
    given: list[str] = []
    if any(overlap(key, axis) for axis in values):
        given = [f"{table}.{name}" for table in ("axes", "tuning") for name in (key, RATE)]
    elif value_at(combination.over, key) is ABSENT:
        given = [f"trial.{key}"]
    options = []
    for text in spec.assignments:
        typed = text.partition("=")[0].strip()
        if any(overlap(typed, setting) for setting in given):
            options.append(set_option(text))
    return " ".join(options) or f"{spec.where} {combination.origin}"
