"""What a search asks of its trials, found impossible before the first one starts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.search.halving import ladder
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.changes import Changes
from sweeps.spec.expand import check_axes_apart, expand_one
from sweeps.spec.spec import Spec
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from tailor.core.seeds import stream
from tailor.execution.dry_run import dry_run
from tailor.stages import PruneToLatency

MOST_LOOKED_AT = 2_000  # settings; of larger spaces as many, and each value of each axis


def refuse_impossible(spec: Spec) -> None:
    """Refuse a search whose settings differ in what is no choice, lack its rungs, or do not measure its cost.

    Refuse exclusions and `--set` that change no setting, too.

    Rungs and costs: each value of each axis is tried once.

    Raises:
        SpecError: with the setting's fault and what to type.
    """
    assert spec.search is not None
    for number, variant in enumerate(spec.variants, start=1):
        check_axes_apart(spec, variant, f"{spec.where} [[variants]] {number}")
    _refuse_other_than_choices(spec)
    _refuse_more_than_end(spec)
    space, changes = space_of(spec), Changes(spec)
    _look_at(spec, space, changes, lambda: changes.are_all_known)
    changes.check_exclusions(alone=_is_large(space))
    changes.check_assignments()
    for config in _configs(spec, space):
        try:
            for rung in ladder(spec.search):
                dry_run(config, rung=rung)
        except ConfigError as error:
            raise SpecError(f"{spec.where} [search] halving: {error}") from error
        if spec.search.cost == "latency_ms" and not _measures_latency(config):
            raise SpecError(
                f"{spec.where} [search] cost: trials of {config.method.label()!r} measure no latency; give the method "
                'allocation = { name = "latency", latency_ms = 2.0 }, or leave out cost, and MACs are read'
            )


def refuse_overridden(spec: Spec) -> None:
    """Refuse a `--set trial.` that axes or variants override in all settings of a search.

    Raises:
        SpecError: with what to type.
    """
    changes = Changes(spec)
    _look_at(spec, space_of(spec), changes, lambda: changes.assignments_are_known)  # none to expand without a --set
    changes.check_assignments()


def _look_at(spec: Spec, space: Space, changes: Changes, is_enough: Callable[[], bool]) -> None:
    """Show them all settings until it is enough; of a large space each value of each axis, and some settings more."""
    size = sum(space.sizes)
    settings: Iterable[SearchCandidate] = map(space.at, range(size))
    if _is_large(space):
        more = (space.at(stream(number, "looked at") % size) for number in range(MOST_LOOKED_AT))
        settings = chain(_each_value_once(space), more)
    for setting in settings:
        for seed in space.seeds:
            if is_enough():
                return
            with suppress(ConfigError):  # it is refused when it is proposed
                expand_one(spec, setting.variant, {**setting.values, "seed": seed}, changes)


def _is_large(space: Space) -> bool:
    return sum(space.sizes) > MOST_LOOKED_AT


def _refuse_other_than_choices(spec: Spec) -> None:
    """Raise SpecError if settings have other seeds or another data set than each other."""
    places = [("[axes]", {*spec.axes} - {"seed"})]
    for number, variant in enumerate(spec.variants, start=1):
        places.append((f"[[variants]] {number}", {*variant.axes, *(key for key, _ in leaves(variant.settings))}))
    for place, keys in places:
        if "seed" in keys:
            raise SpecError(
                f"{spec.where} {place} seed: a search runs each setting with the same seeds; write them once for all "
                "variants, as in [axes] seed = [0, 1]"
            )
        if key := next(iter({"data", "data.name"} & keys), None):
            raise SpecError(
                f"{spec.where} {place} {key}: scores on different data sets cannot be compared; search on one data "
                "set, and choose it under [trial] or with --set trial.data.name=..."
            )


def _refuse_more_than_end(spec: Spec) -> None:
    """Raise SpecError if `confirm` asks for more settings than can reach the end."""
    assert spec.search is not None
    size = sum(space_of(spec).sizes)
    tried = min(spec.search.trials or size, size)
    end = tried if spec.search.halving is None else spec.search.halving.counts(tried)[-1]
    if spec.confirm is not None and spec.confirm.top > end:
        less = "" if spec.search.halving is None else ", or leave out a rung of halving"
        raise SpecError(
            f"{spec.where} [confirm] top = {spec.confirm.top}: of {tried} settings {end} reach their end; type top = "
            f"{end}{less}"
        )


def _each_value_once(space: Space) -> Iterator[SearchCandidate]:
    """Settings in which each value of each axis is once, beside the first values of the others."""
    for variant, axes in enumerate(space.dimensions):
        first = {axis.key: axis.values[0] for axis in axes}
        for values in [first, *({**first, axis.key: value} for axis in axes for value in axis.values[1:])]:
            yield SearchCandidate(variant=variant, values=values)


def _configs(spec: Spec, space: Space) -> Iterator[TrialConfig]:
    """A trial of each of these settings that can be combined."""
    for setting in _each_value_once(space):
        with suppress(ConfigError):  # it is refused when it is proposed
            trial = expand_one(spec, setting.variant, {**setting.values, "seed": space.seeds[0]})
            if trial is not None:
                yield trial.config


def _measures_latency(config: TrialConfig) -> bool:
    try:
        return any(stage.kind == PruneToLatency.kind for stage in dry_run(config).stages)
    except ConfigError:
        return True  # it is refused when it is proposed
