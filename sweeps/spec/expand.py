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
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
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
    changes, sections = Changes(spec), Sections()
    kept: Counter[str | None] = Counter()  # trials by their origin without [tuning]; None: there is none
    for number, variant in enumerate(spec.variants or [Variant()], start=1):
        for combination in _crossed(spec, variant, number if spec.variants else None):
            trial = _kept(spec, combination, variant.label, sections, changes)
            if trial is not None:
                kept[None if combination.tuning is None else combination.untuned] += 1
                yield trial
    changes.check_exclusions()
    if not kept:
        raise SpecError(
            f"{spec.where} [[exclude]]: every trial is excluded, so no trials are left to run; remove an exclusion"
        )
    _check_equal_tuning(spec, {untuned: count for untuned, count in kept.items() if untuned is not None})
    changes.check_assignments()


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
    varied = [*spec.axes, *spec.tuning, *variant.axes]
    own = {table: own_rate(getattr(spec, table), base, f"{where} {table}", varied) for table in ("axes", "tuning")}
    spec = spec.model_copy(update=own)
    variant = variant.model_copy(update={"axes": own_rate(variant.axes, base, f"{where} axes", varied)})
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


def expand_one(spec: Spec, number: int, point: Mapping[str, Any], changes: Changes | None = None) -> Expanded | None:
    """Return one trial of a spec without [tuning]: variant `number` (from 0) with these values of its axes.

    Args:
        changes: they note this trial, too.

    Returns:
        the trial; None if it is excluded.

    Raises:
        ConfigError: the values cannot be combined.
    """
    variant = spec.variants[number] if spec.variants else Variant()
    origin = f"[[variants]] {number + 1}" if spec.variants else "[trial]"
    base = merge_tables(spec.trial, variant.settings)
    place = number + 1 if spec.variants else None
    values = own_rate(point, base, f"{spec.where} {origin}", point)
    crossed = _combination(spec, Combination(raw=base, base=origin, point=values, tuning=None, variant=place))
    return _kept(spec, crossed, variant.label, Sections(), changes or Changes(spec))


def _kept(
    spec: Spec, combination: Combination, label: str | None, sections: Sections, changes: Changes
) -> Expanded | None:
    """Return a trial; None if it is excluded."""
    # Match the settings as written first, since impossible combinations may be excluded.
    is_excluded = changes.excludes(combination.raw, label)
    try:
        trial = _parsed(spec, combination, label, sections)
    except ConfigError:
        if is_excluded:
            return None
        changes.keep(combination.raw)
        raise
    changes.look_at(trial.settings.values, trial.label)
    if changes.excludes(trial.settings.values, trial.label) or is_excluded:
        return None
    changes.keep(combination.raw)
    return trial


def _check_free(raw: Mapping[str, Any], key: str, where: str) -> None:
    """Raise SpecError if a setting that is tied to the seed has its own value."""
    if (value := value_at(raw, key)) is not ABSENT:
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
        if count < wanted:
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
        if value_at(variant.settings, key) is not ABSENT:
            raise SpecError(
                f"{where} {key}: [tuning] sets it, for all arms alike; leave it out here, or make it an axis"
            )
    for key in [*spec.axes, *variant.axes]:
        if value_at(variant.settings, key) is not ABSENT:
            raise SpecError(f"{where} {key}: is an axis too, so what the variant gives has no effect; leave one out")


def _parsed(spec: Spec, combination: Combination, label: str | None, sections: Sections) -> Expanded:
    config = parse_trial(sections.parse(combination.raw), lambda keys: _place(spec, combination, keys))
    return Expanded(
        label=label or config.method.label(), config=config, settings=sections.write(config), combination=combination
    )


def _place(spec: Spec, combination: Combination, keys: Sequence[str]) -> str:
    """Say where a setting of a trial was given: the part of the spec, with the line if known; or `--set`."""
    dotted, given = ".".join(keys), []
    for assignment in spec.assignments:
        table, _, key = assignment.partition("=")[0].strip().partition(".")
        if table in ("trial", "axes", "tuning") and overlap(key, dotted):
            given.append(set_option(assignment))
    if given:
        return " ".join(given)
    variant = () if combination.variant is None else ("variants", str(combination.variant))
    tables = [(*variant, "axes"), ("axes",), ("tuning",), *([variant] if variant else []), ("trial",)]
    text = "" if spec.path is None else read_text(spec.path)
    for place in tables:
        line = find_line(text, [*place, *keys])
        if line is not None and line != find_line(text, place):
            return f"{spec.where} {'[trial]' if place == ('trial',) else combination.origin}, line {line}"
    return f"{spec.where} {combination.origin}"
