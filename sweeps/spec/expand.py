"""Spec -> trials: every variant crossed with its axes, without the excluded trials."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.errors import SpecError
from sweeps.spec.axes import check_apart, overlap, own_rate
from sweeps.spec.changes import Changes
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.nested import ABSENT, merge_tables, set_value, value_at
from sweeps.spec.sections import Sections
from sweeps.spec.spec import Spec, Variant
from sweeps.spec.toml_text import set_option, toml_value
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from transtailor.documents import find_line, read_text


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
        SpecError: no trials, an exclusion that matches no trial or only some settings of [tuning], a `--set` that
            changes no trial; after the last trial.
    """
    changes = Changes(spec)
    sections = Sections()
    settings_of_tuning: Counter[str] = Counter()  # how many trials an origin has; counted only with [tuning]
    has_trials = False
    for number, variant in enumerate(spec.variants or [Variant()], start=1):
        for combination in _crossed(spec, variant, number if spec.variants else None):
            try:
                trial = _trial_unless_excluded(spec, combination, variant.label, sections, changes)
            except ConfigError as error:
                raise ConfigError(f"{error}{_exclusion_meant(spec, variant, combination, sections)}") from None
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
    _check_equal_tuning(spec, settings_of_tuning)
    changes.check_assignments()


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


def _crossed(spec: Spec, variant: Variant, number: int | None) -> Iterator[Combination]:
    """Yield each combination of the axes and the settings of [tuning]."""
    origin = "[trial]"
    if number is not None:
        origin = f"[[variants]] {number}"
        if variant.label:
            origin += f" ({variant.label!r})"
    where = f"{spec.where} {origin}"
    base = merge_tables(spec.trial, variant.settings)
    varied = [*spec.axes, *spec.tuning, *variant.axes]
    axes = own_rate(spec.axes, base, f"{where} axes", varied)
    tuning_table = own_rate(spec.tuning, base, f"{where} tuning", varied)
    spec = spec.model_copy(update={"axes": axes, "tuning": tuning_table})
    variant = variant.model_copy(update={"axes": own_rate(variant.axes, base, f"{where} axes", varied)})
    check_apart(spec.axes, spec.tuning, where)
    check_axes_apart(spec, variant, where)
    settings_of_tuning: list[Tuning | None] = [*_settings_of_tuning(spec)] or [None]
    for point in _product({**spec.axes, **variant.axes}):
        for tuning in settings_of_tuning:
            of_variant = Combination(
                raw=base, over=variant.settings, base=origin, point=point, tuning=tuning, variant=number
            )
            yield _with_values(spec, of_variant)


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
        _check_free(raw, key, f"{spec.where} {combination.untuned}")
        table, _dot, name = key.partition(".")
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
    variant = Variant()
    number = None
    origin = "[trial]"
    if spec.variants:
        variant = spec.variants[index]
        number = index + 1
        origin = f"[[variants]] {number}"
    base = merge_tables(spec.trial, variant.settings)
    values = own_rate(point, base, f"{spec.where} {origin}", point)
    of_variant = Combination(raw=base, over=variant.settings, base=origin, point=values, tuning=None, variant=number)
    combination = _with_values(spec, of_variant)
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


def _check_free(raw: Mapping[str, Any], key: str, where: str) -> None:
    """Raise SpecError if a setting that is tied to the seed has its own value."""
    value = value_at(raw, key)
    if value is not ABSENT:
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


def _check_equal_tuning(spec: Spec, settings_left: Mapping[str, int]) -> None:
    """Raise SpecError if exclusions leave only some of the settings of [tuning]; `settings_left` has them by origin."""
    settings_in_spec = len(_settings_of_tuning(spec))
    for origin, count in settings_left.items():
        if count < settings_in_spec:
            raise SpecError(
                f"{spec.where} [[exclude]]: leaves {count} of the {settings_in_spec} settings of [tuning] to {origin}; "
                "every arm needs all of them, so exclude all of its settings or none"
            )


def check_axes_apart(spec: Spec, variant: Variant, where: str) -> None:
    """Raise SpecError if a setting is set in two places, of which one would have no effect."""
    for key in variant.axes:
        for table, common_keys in (("[axes]", spec.axes), ("[tuning]", spec.tuning)):
            for common_key in common_keys:
                if overlap(key, common_key):
                    raise SpecError(f"{where} axes {key}: {table} {common_key} sets it too; leave one out")
    for key in spec.tuning:
        if value_at(variant.settings, key) is not ABSENT:
            raise SpecError(
                f"{where} {key}: [tuning] sets it, for all arms alike; leave it out here, or make it an axis"
            )
    for key in [*spec.axes, *variant.axes]:
        if value_at(variant.settings, key) is not ABSENT:
            raise SpecError(f"{where} {key}: is an axis too, so what the variant gives has no effect; leave one out")


def _exclusion_meant(spec: Spec, variant: Variant, combination: Combination, sections: Sections) -> str:
    """Return how to exclude a refused trial, if its value of one of [axes] is one that only other variants take."""
    common = {key: value for key, value in combination.point.items() if key in spec.axes}

    def takes(variant: Variant, point: dict[str, Any]) -> bool:
        first = {key: values[0] for key, values in variant.axes.items()}
        raw = merge_tables(spec.trial, variant.settings)
        try:
            of_variant = replace(combination, raw=raw, over={}, point=point | first)
            _parsed(spec, _with_values(spec, of_variant), None, sections)
        except (ConfigError, SpecError):
            return False
        return True

    for key, value in common.items():
        others = [common | {key: other} for other in spec.axes[key] if other != value]
        is_for_others = any(takes(other, common) for other in spec.variants if other != variant)
        if is_for_others and any(takes(variant, point) for point in others):
            which = f"label = {toml_value(variant.label)}" if variant.label else "the variant's label"
            return (
                f"\n[axes] gives {key} to every variant; to leave this trial out, add [[exclude]] with {which} and "
                f"{key} = {toml_value(value)}"
            )
    return ""


def _parsed(spec: Spec, combination: Combination, label: str | None, sections: Sections) -> Expanded:
    config = parse_trial(sections.parse(combination.raw), lambda keys: _say_where(spec, combination, keys))
    return Expanded(
        label=label or config.method.label(), config=config, settings=sections.write(config), combination=combination
    )


def _say_where(spec: Spec, combination: Combination, keys: Sequence[str]) -> str:
    """Say where a setting of a trial was given: the part of the spec, with the line if known; or `--set`."""
    setting = ".".join(keys)
    options = []
    for assignment in spec.assignments:
        table, _dot, key = assignment.partition("=")[0].strip().partition(".")
        if table in ("trial", "axes", "tuning") and overlap(key, setting):
            options.append(set_option(assignment))
    if options:
        return " ".join(options)
    text = "" if spec.path is None else read_text(spec.path)
    for table_path in _paths_of_tables(combination):
        line = find_line(text, [*table_path, *keys], below=len(table_path))
        if line is not None:
            origin = "[trial]" if table_path == ("trial",) else combination.origin
            return f"{spec.where} {origin}, line {line}"
    return f"{spec.where} {combination.origin}"


def _paths_of_tables(combination: Combination) -> list[tuple[str, ...]]:
    """Return the paths of the tables of a spec that set a combination's settings, those that win first."""
    if combination.variant is None:
        return [("axes",), ("tuning",), ("trial",)]
    variant = ("variants", str(combination.variant))
    return [(*variant, "axes"), ("axes",), ("tuning",), variant, ("trial",)]
