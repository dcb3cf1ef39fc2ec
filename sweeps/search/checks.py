"""What a search asks of its trials, found impossible before the first one starts."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.search.halving import ladder
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.changes import Changes
from sweeps.spec.expand import check_apart, expand_one
from sweeps.spec.spec import Spec
from tailor.common.errors import ConfigError
from tailor.common.seeds import stream
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import dry_run

MOST_TRIED = 2_000  # settings; of larger spaces as many, and each value of each axis


def refuse_impossible(spec: Spec) -> None:
    """Refuse a search whose settings differ in what is no choice, or lack its rungs.

    Refuse exclusions and `--set` that change no setting, too.

    Rungs: each value of each axis is tried once.

    Raises:
        SpecError: with the setting's fault and what to type.
    """
    assert spec.search is not None
    for number, variant in enumerate(spec.variants, start=1):
        check_apart(spec, variant, f"{spec.where} [[variants]] {number}")
    _refuse_other_than_choices(spec)
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
    space = space_of(spec)
    changes = Changes(spec)
    _note_changes(spec, space, changes, lambda: changes.are_all_known)
    changes.check_exclusions(sampled=_is_large(space))
    changes.check_assignments()
    for config in _configs(spec, space):
        try:
            for rung in ladder(spec.search):
                dry_run(config, rung=rung)
        except ConfigError as error:
            raise SpecError(f"{spec.where} [search] halving: {error}") from error


def refuse_overridden(spec: Spec) -> None:
    """Refuse a `--set trial.` that axes or variants override in all settings of a search.

    Raises:
        SpecError: with what to type.
    """
    changes = Changes(spec)
    # Without a --set none is expanded.
    _note_changes(spec, space_of(spec), changes, lambda: changes.assignments_are_known)
    changes.check_assignments()


def _note_changes(spec: Spec, space: Space, changes: Changes, is_enough: Callable[[], bool]) -> None:
    """Let `changes` note settings until they are enough."""
    for setting in _settings_to_try(space):
        for seed in space.seeds:
            if is_enough():
                return
            with suppress(ConfigError):  # it is refused when it is proposed
                expand_one(spec, setting.variant, {**setting.values, "seed": seed}, changes)


def _settings_to_try(space: Space) -> Iterator[SearchCandidate]:
    """Yield all settings; of a large space each value of each axis once, and some settings more."""
    size = sum(space.sizes)
    if not _is_large(space):
        for number in range(size):
            yield space.at(number)
        return
    yield from _each_value_once(space)
    for number in range(MOST_TRIED):
        yield space.at(stream(number, "tried") % size)


def _is_large(space: Space) -> bool:
    """Whether the variants together have more settings than are tried one by one."""
    return sum(space.sizes) > MOST_TRIED


def _refuse_other_than_choices(spec: Spec) -> None:
    """Raise SpecError if settings have other seeds or another data set than each other."""
    keys_of_tables = {"[axes]": set(spec.axes) - {"seed"}}
    for number, variant in enumerate(spec.variants, start=1):
        keys_of_settings = {key for key, _value in leaves(variant.settings)}
        keys_of_tables[f"[[variants]] {number}"] = set(variant.axes) | keys_of_settings
    for table, keys in keys_of_tables.items():
        if "seed" in keys:
            raise SpecError(
                f"{spec.where} {table} seed: a search runs each setting with the same seeds; write them once for all "
                "variants, as in [axes] seed = [0, 1]"
            )
        for key in ("data", "data.name"):
            if key in keys:
                raise SpecError(
                    f"{spec.where} {table} {key}: scores on different data sets cannot be compared; search on one data "
                    "set, and choose it under [trial] or with --set trial.data.name=..."
                )


def _each_value_once(space: Space) -> Iterator[SearchCandidate]:
    """Yield settings in which each value of each axis is once, beside the first values of the others."""
    for variant, axes in enumerate(space.dimensions):
        first_values = {axis.key: axis.values[0] for axis in axes}
        yield SearchCandidate(variant=variant, values=first_values)
        for axis in axes:
            for value in axis.values[1:]:
                yield SearchCandidate(variant=variant, values={**first_values, axis.key: value})


def _configs(spec: Spec, space: Space) -> Iterator[TrialConfig]:
    """Yield a trial of each of these settings that can be combined."""
    for setting in _each_value_once(space):
        with suppress(ConfigError):  # it is refused when it is proposed
            trial = expand_one(spec, setting.variant, {**setting.values, "seed": space.seeds[0]})
            if trial is not None:
                yield trial.config
