"""Checks before a start that the data, weights and tables of trials are where the trials look for them."""

from collections.abc import Iterable
from pathlib import Path

from tailor.common.errors import ConfigError
from tailor.config.latency_table import read_table
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import dry_run
from tailor.execution.missing import refuse_missing_data
from tailor.facts.weights import is_name, verify, what_to_give
from tailor.stages import FitHead, LoadWeights
from transtailor.shell import command


def refuse_missing(trials: Iterable[TrialConfig]) -> list[str]:
    """Raise ConfigError unless data, weights and tables of all these trials are in their place and as expected.

    Return which weights have no head, for a plan.

    Called before anything is started, so that no compute node has to find out. A file without torchvision's name is
    also loaded, to check that it is of the trial's network; so is one whose head the method keeps.
    """
    trials = list(trials)
    refuse_missing_data(trials)
    trial_of_file: dict[tuple[Path, str], TrialConfig] = {}  # by path and SHA-256
    trials_to_load = []
    for trial in trials:
        _refuse_other_table(trial)
        source = trial.source
        file = source.weights_file
        if source.weights is not None and source.weights_sha256 is not None and file is not None:
            trial_of_file[file, source.weights_sha256] = trial
            if trial.method.keeps_source_head or not is_name(source.weights):
                trials_to_load.append(trial)
    missing = []
    for (file, _sha256), trial in trial_of_file.items():
        if not file.is_file():
            missing.append(f"no weights at {file}; {_how_to_get(file, trial)}")
    if missing:
        raise ConfigError("\n".join(missing))
    for file, sha256 in trial_of_file:
        verify(file, sha256)
    return _refuse_unfit_weights(trials_to_load) if trials_to_load else []


def _refuse_unfit_weights(trials: Iterable[TrialConfig]) -> list[str]:
    """Raise ConfigError unless the weights of these trials can be loaded, and have the head that the method keeps."""
    from tailor.networks.pretrained import check_head, load  # imports torch, which plans do without

    trials_of_weights: dict[tuple[Path, str, str], list[TrialConfig]] = {}
    for trial in trials:
        source = trial.source
        if source.weights_file is not None and source.weights_sha256 is not None:
            weights = (source.weights_file, source.weights_sha256, trial.network)
            trials_of_weights.setdefault(weights, []).append(trial)
    headless = []
    for weights, its_trials in trials_of_weights.items():
        _, outputs = load(*weights)
        if not outputs:
            headless.append(f"{weights[0]} has no head; the target gets a new one")
        for trial in its_trials:
            goes_on = trial.method.keeps_source_head
            if not outputs:  # whatever its method says
                planned = dry_run(trial).stages
                loaded = [stage.key for stage in planned if stage.kind == LoadWeights.kind]
                goes_on |= any(loaded == [*stage.parents[:1]] and stage.kind != FitHead.kind for stage in planned)
            if goes_on:
                check_head(outputs, trial.data.name, trial.data.info.source_classes)
    return headless


def _refuse_other_table(trial: TrialConfig) -> None:
    """Raise ConfigError unless a trial's table of latencies is there, fits the trial, and reaches its latency."""
    budgets = trial.method.latency_budgets()
    if trial.latency_table is None:
        return
    table = read_table(trial.latency_table, budgets[0].table_sha256)
    expected = (table.network, table.classes, table.input_shape, table.rule)
    rule = trial.pruning.rule.identity()
    given = (trial.network, trial.data.info.target_classes, trial.data.input_shape, rule)
    if expected != given:
        names = ("network", "classes", "input", "pruning rule")
        differing = [
            f"{name} {of_table} and not {of_trial}"
            for name, of_table, of_trial in zip(names, expected, given, strict=True)
            if of_table != of_trial
        ]
        network, classes, input_shape, _ = given
        wanted = table.replace(network=network, classes=classes, input_shape=input_shape, rule=rule)
        raise ConfigError(
            f"{trial.latency_table} is a table of {'; '.join(differing)}; change the trial, or measure one for it, "
            f"type: {wanted.how_to_make()}"
        )
    for budget in budgets:
        table.asked_ms(budget.asked_latency_ms, budget.asked_latency_fraction)


def _how_to_get(file: Path, trial: TrialConfig) -> str:
    if is_name(str(trial.source.weights)):
        return f"on a machine with a network, type: {command('fetch', trial.source.weights, '--to', file.parent)}"
    return what_to_give(trial.network)
