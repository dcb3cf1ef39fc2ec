"""What a search asks of its trials, found impossible before the first one starts."""

from collections.abc import Iterator

from sweeps.errors import SpecError
from sweeps.search.halving import ladder
from sweeps.search.space import space_of
from sweeps.spec.expand import expand_one
from sweeps.spec.spec import Spec
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from tailor.execution.dry_run import dry_run
from tailor.stages import PruneToLatency


def refuse_impossible(spec: Spec) -> None:
    """Refuse a search whose settings lack its rungs, or do not measure its cost.

    Each value of each axis is tried once.

    Raises:
        SpecError: with the setting's fault and what to type.
    """
    assert spec.search is not None
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
