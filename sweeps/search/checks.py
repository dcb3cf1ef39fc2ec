"""What a search asks of its trials, found impossible before the first one starts."""

from collections.abc import Iterator

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.search.halving import ladder
from sweeps.search.space import space_of
from sweeps.spec.expand import check_axes_apart, expand_one
from sweeps.spec.spec import Spec
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from tailor.execution.dry_run import dry_run
from tailor.stages import PruneToLatency


def refuse_impossible(spec: Spec) -> None:
    """Refuse a search whose settings differ in what is no choice, lack its rungs, or do not measure its cost.

    Rungs and costs: each value of each axis is tried once.

    Raises:
        SpecError: with the setting's fault and what to type.
    """
    assert spec.search is not None
    for number, variant in enumerate(spec.variants, start=1):
        check_axes_apart(spec, variant, f"{spec.where} [[variants]] {number}")
    _refuse_other_than_choices(spec)
    _refuse_more_than_end(spec)
    for config in _each_value_once(spec):
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
    """Raise SpecError if more settings are to be confirmed than can reach the end."""
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


def _each_value_once(spec: Spec) -> Iterator[TrialConfig]:
    """Trials in which each value of each axis is once, beside the first values of the others."""
    space = space_of(spec)
    for variant, axes in enumerate(space.dimensions):
        first = {axis.key: axis.values[0] for axis in axes}
        for values in [first, *({**first, axis.key: value} for axis in axes for value in axis.values[1:])]:
            try:
                trial = expand_one(spec, variant, {**values, "seed": space.seeds[0]})
            except ConfigError:
                continue  # it is refused when it is proposed
            if trial is not None:
                yield trial.config


def _measures_latency(config: TrialConfig) -> bool:
    try:
        return any(stage.kind == PruneToLatency.kind for stage in dry_run(config).stages)
    except ConfigError:
        return True  # it is refused when it is proposed
