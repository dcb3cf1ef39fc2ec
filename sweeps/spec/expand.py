"""Spec -> trials: every variant crossed with its axes, without the excluded trials."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.spec.axes import RATE, overlap, own_rate
from sweeps.spec.changes import Changes
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.nested import ABSENT, merge_tables, set_value, value_at
from sweeps.spec.sections import Sections
from sweeps.spec.spec import Spec, Variant, files_of
from sweeps.spec.toml_text import set_option, toml_value
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from transtailor.documents import find_line, read_text, read_toml


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
    for index in range(max(1, len(spec.variants))):
        variant, bare = _of_variant(spec, index)
        for combination in _crossed(spec, variant, bare):
            try:
                trial = _trial_unless_excluded(spec, combination, variant.label, sections, changes)
            except ConfigError as error:
                raise ConfigError(f"{error}{_place_meant(spec, variant, combination, sections)}") from None
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


def _check_equal_tuning(spec: Spec, settings_left: Mapping[str, int]) -> None:
    """Raise SpecError if exclusions leave only some of the settings of [tuning]; `settings_left` has them by origin."""
    settings_in_spec = len(_settings_of_tuning(spec))
    for origin, count in settings_left.items():
        if count < settings_in_spec:
            raise SpecError(
                f"{spec.where} [[exclude]]: leaves {count} of the {settings_in_spec} settings of [tuning] to {origin}; "
                "every arm needs all of them, so exclude all of its settings or none"
            )


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


def _place_meant(spec: Spec, variant: Variant, combination: Combination, sections: Sections) -> str:
    """Return where to write a refused setting of [trial] or [axes] instead, if other variants take it."""

    def takes(variant: Variant, trial: dict[str, Any], point: dict[str, Any]) -> bool:
        raw = merge_tables(trial, variant.settings)
        try:
            _parsed(spec, _with_values(spec, replace(combination, raw=raw, over={}, point=point)), None, sections)
        except (ConfigError, SpecError):
            return False
        return True

    common = {key: value for key, value in combination.point.items() if key not in variant.axes}
    others = [other for other in spec.variants if other != variant]
    if not any(takes(other, spec.trial, common | {key: other.axes[key][0] for key in other.axes}) for other in others):
        return ""
    for key in common:
        point = {other_key: value for other_key, value in combination.point.items() if other_key != key}
        if key in spec.axes and takes(variant, spec.trial, point):
            return f"\n[axes] gives {key} to every variant: write it only in those that take it, as axes.{key} = [...]"
    for leaf, _value in leaves(spec.trial):
        key = leaf.removesuffix(".name")  # a table with a name is one setting
        less: dict[str, Any] = {}
        for other_key, value in leaves(spec.trial):
            if not overlap(other_key, key):
                set_value(less, other_key.split("."), value)
        if takes(variant, less, combination.point):
            return f"\n[trial] gives {key} to every variant: write it only in those that take it"
    return ""


def _parsed(spec: Spec, combination: Combination, label: str | None, sections: Sections) -> Expanded:
    def where(keys: Sequence[str]) -> str:
        return _say_where(spec, combination, ["seed"] if ".".join(keys) in spec.tied_to_seed else keys)

    config = parse_trial(sections.parse(combination.raw), where)
    return Expanded(
        label=label or config.method.label(), config=config, settings=sections.write(config), combination=combination
    )


def _say_where(spec: Spec, combination: Combination, keys: Sequence[str]) -> str:
    """Say where a setting of a trial was given: the part of the spec, with file and line if known; or `--set`."""
    values = combination.point | ({} if combination.tuning is None else combination.tuning.values)
    files = _files_by_setting(spec)
    for end in range(len(keys), 0, -1):  # of a setting that is missing, the table around it
        for table in _paths_of_tables(combination):
            given = ".".join([*table, *keys[:end]])
            options = [text for text in spec.assignments if overlap(text.partition("=")[0].strip(), given)]
            if options:
                return " ".join(map(set_option, options))
            file = next((file for key, file in files.items() if overlap(key, given)), None)
            if file is not None:
                origin = "[trial]" if table == ("trial",) else combination.origin
                return f"{file.name} {origin}, line {find_line(read_text(file), given.split('.'))}"
        if ".".join(keys) in values and RATE not in keys:  # [axes] or [tuning] may have it by its other name
            return _say_where(spec, combination, [RATE])
    return f"{spec.where} {combination.origin}"


def _files_by_setting(spec: Spec) -> dict[str, Path]:
    """Return the dotted key of what the files of a spec give -> the file; variants have their numbers as keys."""
    files: dict[str, Path] = {}
    for file in [] if spec.path is None else [*files_of(spec.path)][::-1]:
        document = read_toml(file)
        if "variants" in document:  # they replace those of the spec that is extended
            files = {key: base for key, base in files.items() if not key.startswith("variants.")}
            document["variants"] = {str(number): table for number, table in enumerate(document["variants"], start=1)}
        files |= dict.fromkeys((key for key, _value in leaves(document)), file)
    return files


def _paths_of_tables(combination: Combination) -> list[tuple[str, ...]]:
    """Return the paths of the tables of a spec that set a combination's settings, those that win first."""
    if combination.variant is None:
        return [("axes",), ("tuning",), ("trial",)]
    variant = ("variants", str(combination.variant))
    return [(*variant, "axes"), ("axes",), ("tuning",), variant, ("trial",)]
