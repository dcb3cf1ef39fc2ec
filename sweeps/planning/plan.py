"""Spec -> Plan: every trial with its id and its stages. What they cost: `cost.py`. Imports no torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from results.arms.names import HEAD_ONLY
from results.text.settings import differing_keys
from sweeps.errors import SpecError
from sweeps.planning.arms import ArmTrial, arms_of
from sweeps.planning.trial_data import warnings_of_data
from sweeps.spec.changes import assigned_value, setting_of
from sweeps.spec.expand import Combination, Expanded, Tuning, expand
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.nested import value_at
from sweeps.spec.printed_rows import PrintedRow
from sweeps.spec.resources import Resources
from sweeps.spec.spec import Spec
from sweeps.spec.toml_text import toml_value
from tailor.common.plugin_digests import PluginRecord, digest_of
from tailor.config.data import DataConfig
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import PlannedStage, PlannedStages, Rung, dry_run
from tailor.execution.plugins import load
from tailor.execution.untrained import trained_images
from tailor.execution.weights_check import refuse_missing
from tailor.facts.networks import NETWORKS
from tailor.stages import FitHead, RememberWeights, WeighChannels, canonical_json
from transtailor.garbage import pause_collection
from transtailor.names import did_you_mean
from transtailor.plural import counted

KEEPS_THE_MODEL = (RememberWeights.kind, WeighChannels.kind)
"""Stages that prepare a regulariser: the model computes the same after them."""
NOT_SHARED = "_no_sharing"
"""The end of the name of a run whose trials share no stages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A trial to run."""

    trial_id: str
    label: str  # what the spec calls it
    arm: str  # the name of what is compared: its label, and the settings that tell this arm apart
    head_arm: str | None = None  # the arm of its first point, if that is a head's fit with which a path only begins
    settings: JsonSettings
    stages: tuple[PlannedStage, ...]  # in the order of execution
    tuning: Tuning | None = None  # its setting of [tuning]; None without one
    train_images: int | None = None  # training images of the target that it uses; None: not known
    resolved: Mapping[str, Any] = field(default_factory=dict)  # what each `auto` of its method is for its network
    unread: frozenset[str] = frozenset()  # dotted keys of the settings that it does not read
    rung: Rung | None = None  # where the stages end for now; None: at the trial's end
    whole: tuple[PlannedStage, ...] = ()  # at a rung: the stages up to the trial's end

    @property
    def all_stages(self) -> tuple[PlannedStage, ...]:
        """The stages up to the trial's end, also at a rung."""
        return self.whole or self.stages

    @property
    def points(self) -> tuple[PlannedStage, ...]:
        """The stages that are operating points, in order; a trial that stops early reaches fewer."""
        return tuple(stage for stage in self.all_stages if stage.point is not None)

    def arm_of(self, point: int | None) -> str:
        """Return the name of the arm that an operating point of this trial belongs to."""
        return self.head_arm if point == 0 and self.head_arm is not None else self.arm


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a sweep runs."""

    name: str  # of the sweep and its run folder
    trials: tuple[PlannedTrial, ...]
    resources: Resources
    spec_text: str  # the resolved spec as TOML
    private_cache: bool = False  # each trial has its own empty cache: for measuring what sharing saves
    imports: tuple[PluginRecord, ...] = ()
    printed: tuple[PrintedRow, ...] = ()  # numbers of papers, to compare with the measured ones
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Data set -> the names of its classes, in the order of the labels; () where they are not known."""
    warnings: tuple[str, ...] = ()  # what a user should know before the start, each once
    grows: Spec | None = None  # the spec of a sweep that adds trials while it runs; these are the trials so far

    @property
    def most_live(self) -> int:
        """How many trials may run at once; of one that grows at most those that have begun, or those that confirm."""
        if self.grows is None or self.grows.confirm is None:
            return len(self.trials)
        confirm = self.grows.confirm
        return max(len(self.trials), confirm.top * confirm.seeds)


@pause_collection()  # a plan makes no garbage
def make_plan(spec: Spec, choose: Callable[[], Iterable[Expanded]] | None = None) -> Plan:
    """Import the user modules, expand a spec and dry-run its trials.

    Args:
        choose: returns the trials, when the modules are imported; None: all of the spec.

    Raises:
        ConfigError: an invalid trial, or a module that cannot be imported.
        SpecError: two trials with one id, two variants of different methods with one label, or a spec without trials.
    """
    imports = tuple(load(Path(path)) for path in spec.imports)
    trials: dict[str, PlannedTrial] = {}
    origins: dict[str, Combination] = {}
    data_sets: dict[str, DataConfig] = {}  # by name, the first of each
    warnings: list[str] = []  # each once
    known_stages: PlannedStages = {}
    first_with_label: dict[str, Expanded] = {}
    metrics: dict[str, str | None] = {}  # by data set
    for expanded in expand(spec) if choose is None else choose():
        first = first_with_label.setdefault(expanded.label, expanded)
        first_variant = first.combination.variant
        other_variant = expanded.combination.variant
        first_method = first.config.method.name
        other_method = expanded.config.method.name
        if first_variant != other_variant and first_method != other_method:
            raise SpecError(
                f"{spec.where} [[variants]] {first_variant} and [[variants]] {other_variant} have the label "
                f"{expanded.label!r}, and different methods, {first_method} and {other_method}: a label is one "
                f"method's; give [[variants]] {other_variant} its own, such as label = "
                f"{toml_value(f'{expanded.label} {other_method}')}, or leave it out"
            )
        _refuse_other_data(spec, data_sets, expanded.config.data)
        _refuse_other_metric(spec, metrics, expanded)
        trial = _plan_trial(expanded.config, expanded.settings, expanded.label, expanded.tuning, known_stages)
        for warning in expanded.config.warnings():
            if warning not in warnings:
                warnings.append(warning)
        if trial.trial_id in trials:
            earlier_label = trials[trial.trial_id].label
            earlier_origin = origins[trial.trial_id].origin
            raise SpecError(
                f"{spec.where}: two trials with one id {trial.trial_id}, because they have the same settings:\n"
                f"  {earlier_origin} ({earlier_label})\n  {expanded.combination.origin} ({expanded.label})\n"
                "leave one out, or make them differ in a setting that counts"
            )
        trials[trial.trial_id] = trial
        origins[trial.trial_id] = expanded.combination
    planned_trials = list(trials.values())
    if spec.search is None:  # the arms of a search are its labels: they must not change when it proposes more settings
        arms = arms_of(
            [
                ArmTrial(
                    problem=(trial.settings.network, trial.settings.dataset, trial.train_images),
                    label=trial.label,
                    settings=trial.settings.values,
                    tuning={} if trial.tuning is None else trial.tuning.values,
                    points={stage.asked_removed_macs_fraction: stage.key for stage in trial.points},
                    head=_head_fit(trial),
                    is_head_only=_is_head_only(trial),
                )
                for trial in planned_trials
            ]
        )
        planned_trials = [
            trial if (trial.arm, trial.head_arm) == (arm, head_arm) else replace(trial, arm=arm, head_arm=head_arm)
            for trial, arm, head_arm in zip(planned_trials, arms.names, arms.heads, strict=True)
        ]
        warnings += _warnings_of_equals(planned_trials)
    warnings += _warnings_of_assignments(spec, planned_trials)
    warnings += warnings_of_data(trial.settings for trial in planned_trials)
    return Plan(
        name=spec.name,
        trials=tuple(planned_trials),
        resources=spec.resources,
        spec_text=spec.to_toml([f"code/imports/{module.copy.as_posix()}" for module in imports]),
        imports=imports,
        printed=tuple(spec.printed),
        class_names={name: data.info.class_names for name, data in data_sets.items()},
        warnings=tuple(warnings),
        grows=spec if spec.adds_trials else None,
    )


def _refuse_other_data(spec: Spec, data_sets: dict[str, DataConfig], data: DataConfig) -> None:
    """Raise SpecError for a second data set of one name; `data_sets` has those of the trials before.

    The same images may be prepared at several sizes, in several folders.
    """
    first = data_sets.setdefault(data.name, data)
    if data.root == first.root:
        return
    facts = {(info.class_names, info.target_images, info.test_images) for info in (first.info, data.info)}
    if len(facts) > 1:
        raise SpecError(
            f"{spec.where}: the data sets {data.name} in {first.root or 'the catalogue'} and in "
            f"{data.root or 'the catalogue'} have other classes or images, and results are told apart by the name; "
            "prepare one under another name"
        )


def _refuse_other_metric(spec: Spec, metrics: dict[str, str | None], expanded: Expanded) -> None:
    """Raise SpecError for a second metric on one data set; `metrics` has those of the trials before."""
    data = expanded.config.data.name
    metric = expanded.config.metric
    first = metrics.setdefault(data, metric)
    if metric != first:
        raise SpecError(
            f"{spec.where}: trials on {data} have the metrics {first or 'accuracy'} and {metric or 'accuracy'}, and "
            f"only scores of one metric can be compared; type metric = {toml_value(metric or first)} under [trial], "
            "for all. The tables have the other scores, too"
        )


def _head_fit(trial: PlannedTrial) -> str | None:
    """Return the key of the trial's first point, if its model is the source network with a new head and no more."""
    stages: dict[str, PlannedStage] = {}
    for stage in trial.all_stages:
        if stage.point is None:
            stages[stage.key] = stage
            continue
        model = stages[stage.parents[0]]
        while model.kind in KEEPS_THE_MODEL:
            model = stages[model.parents[0]]
        return stage.key if model.kind == FitHead.kind else None
    return None


def _is_head_only(trial: PlannedTrial) -> bool:
    """Whether a trial's method measures the head's fit and nothing else."""
    return len(trial.points) == 1 and _head_fit(trial) is not None


def _warnings_of_equals(trials: Iterable[PlannedTrial]) -> Iterator[str]:
    """Warn of trials with the same stages as an earlier one, though not of such that differ in their method.

    A user's method may decide by scores, which a dry run does not have: then equal stages can have different results.
    Of settings of [tuning] one result is shown.
    """
    first_with_stages: dict[tuple[str, ...], PlannedTrial] = {}
    repeated: Counter[tuple[str, ...]] = Counter()  # labels, and the keys of the settings that differ -> trials
    for trial in trials:
        earlier = first_with_stages.setdefault(tuple(stage.key for stage in trial.stages), trial)
        if earlier is trial:
            continue
        keys = differing_keys(earlier.settings.values, trial.settings.values)
        is_tuned = trial.tuning is not None and earlier.label == trial.label and trial.tuning.values.keys() >= set(keys)
        if not is_tuned and not any(key.startswith("method.") for key in keys):
            is_one_label = earlier.label == trial.label
            labels = trial.label if is_one_label else f"{earlier.label} and {trial.label}"
            repeated[labels, *keys] += 1
    for (labels, *keys), count in repeated.items():
        yield (
            f"{labels}: {counted(count, 'trial')} will have the same results as an earlier one, because "
            f"no stage reads the settings in which they differ: {', '.join(keys)}; they would be shown as several "
            "results, so vary these settings only in arms that read them"
        )


def _warnings_of_assignments(spec: Spec, trials: Sequence[PlannedTrial]) -> Iterator[str]:
    """Warn of each `--set trial.` whose value only trials have that do not read it; variants set it in the others."""
    for assignment in spec.assignments:
        if not assignment.strip().startswith("trial."):
            continue
        setting, assigned = setting_of(assignment), assigned_value(spec, assignment)
        taking = [trial for trial in trials if value_at(trial.settings.values, setting) == assigned]
        if taking and all(setting in trial.unread for trial in taking):
            yield (
                f"--set {assignment} changes no result: {', '.join(dict.fromkeys(trial.arm for trial in taking))} "
                f"does not read {setting}, and the other trials have it from their variant or an axis; change it there"
            )


def plan_trial(expanded: Expanded, rung: Rung | None = None) -> PlannedTrial:
    """Dry-run one trial, up to a rung. Raises ConfigError: it has no such rung."""
    return trial_to_rung(_plan_trial(expanded.config, expanded.settings, expanded.label, expanded.tuning, {}), rung)


def trial_to_rung(trial: PlannedTrial, rung: Rung | None) -> PlannedTrial:
    """Return a planned trial with the stages up to a rung; None: all. Raises ConfigError: it has no such rung."""
    if rung is None:
        return trial
    return replace(trial, stages=dry_run(trial.settings.parse(), rung=rung).stages, rung=rung, whole=trial.all_stages)


def no_sharing(plan: Plan) -> Plan:
    """Return the plan `<name>_no_sharing`: each trial computes all of its stages, as one script per trial would."""
    return replace(plan, name=f"{plan.name}{NOT_SHARED}", private_cache=True)


def select_trials(plan: Plan, trial_ids: Sequence[str]) -> Plan:
    """Return a plan with only these trials, by their ids or first digits, in the order of the plan.

    Raises:
        SpecError: the plan has no such trial, and the text names the nearest one; or several.
    """
    ids_in_plan = [trial.trial_id for trial in plan.trials]
    for digits in trial_ids:
        matching_ids = [trial_id for trial_id in ids_in_plan if trial_id.startswith(digits)]
        if not matching_ids:
            first_of_arm = {trial.arm: trial.trial_id for trial in reversed(plan.trials)}
            some = [f"{trial_id} ({arm})" for arm, trial_id in reversed(first_of_arm.items())][:4]
            ids_of_arms = ", ".join(some) + (", ..." if len(plan.trials) > len(some) else "")
            raise SpecError(
                f"{plan.name} has no trial {digits!r}; {did_you_mean(digits, ids_in_plan)}it has {ids_of_arms}"
            )
        if len(matching_ids) > 1:
            raise SpecError(f"{len(matching_ids)} trials of {plan.name} begin with {digits!r}; type more digits")
    return replace(plan, trials=tuple(trial for trial in plan.trials if trial.trial_id.startswith(tuple(trial_ids))))


def refuse_missing_files(plan: Plan) -> list[str]:
    """Refuse a plan unless all data sets, weights and tables of latencies that its trials read can be used.

    Return which weights have no head.

    Raises:
        ConfigError: data sets or weights are missing; weights are other files, or have a head that the method cannot
            continue with; the text says what to type.
    """
    first_with_files: dict[str, PlannedTrial] = {}  # trials that read the same files are looked at once
    for trial in plan.trials:
        settings = trial.settings
        source = settings.values.get("source", {})
        data = settings.values["data"]
        is_announced = data["layout"] is not None or data["expected"] is not None
        has_files = is_announced or source.get("weights") is not None
        if has_files or _reads_a_table(settings.values["method"]):
            donor = settings.values["pruning"]["scores_from"]
            what_is_checked = [source, settings.network, {**data, "split_seed": 0}, donor, settings.method]
            first_with_files.setdefault(canonical_json(what_is_checked), trial)
    return refuse_missing(trial.settings.parse() for trial in first_with_files.values())


def _reads_a_table(method: Any) -> bool:
    """Return whether a method, or its allocation, reads a table of latencies."""
    if not isinstance(method, dict):
        return False
    allocation = method.get("allocation")
    of_allocation = allocation.get("table") if isinstance(allocation, dict) else None
    return method.get("table") is not None or of_allocation is not None


def refuse_unfit_networks(plan: Plan) -> None:
    """Refuse a plan unless its networks can be trained and pruned as its trials do.

    Users' networks are tried; of others, only a last batch of one image can be wrong. Trials that differ in their seeds
    alone are looked at once. Imports torch if there is something to try.

    Raises:
        ConfigError: a network cannot; the text says where and what to change.
    """
    trials_to_try: dict[str, PlannedTrial] = {}
    for trial in plan.trials:
        is_users_network = digest_of(NETWORKS, trial.settings.network) is not None
        optimisation = trial.settings.values["optimisation"]
        may_have_batch_of_one = (trial.train_images or 0) % optimisation["batch_size"] == 1
        may_have_batch_of_one |= optimisation["accumulation_steps"] > 1 or optimisation["norm"] == "local"
        if is_users_network or may_have_batch_of_one:
            settings_without_seed = {key: value for key, value in trial.settings.values.items() if key != "seed"}
            trials_to_try.setdefault(canonical_json(settings_without_seed), trial)
    for trial in trials_to_try.values():
        from tailor.execution.network_check import refuse_unfit

        refuse_unfit(trial.settings.parse(), plan.resources.ranks)


def choose_probe(trials: Sequence[PlannedTrial]) -> PlannedTrial:
    """Choose the trial for a probe: that with the most kinds of stages, and of those the one of least work."""

    def order(trial: PlannedTrial) -> tuple[int, float]:
        return -len({stage.kind for stage in trial.stages}), sum(stage.work for stage in trial.stages)

    return min(trials, key=order)


def _plan_trial(
    config: TrialConfig, settings: JsonSettings, label: str, tuning: Tuning | None, known_stages: PlannedStages
) -> PlannedTrial:
    """Dry-run one trial; its arm is its label until arms are told apart, as those of a search never are."""
    dry = dry_run(config, known_stages)
    resolved: dict[str, Any] = {}
    automatic = {name for name, value in settings.values["method"].items() if value == "auto"}
    if automatic:
        resolved = config.method.resolve(config.network).model_dump(mode="json", include=automatic)
    trial = PlannedTrial(
        trial_id=dry.trial_id,
        label=label,
        arm=label,
        settings=settings,
        stages=dry.stages,
        tuning=tuning,
        train_images=trained_images(config),
        resolved=resolved,
        unread=config.unread,
    )
    if _head_fit(trial) is not None and not _is_head_only(trial):
        trial = replace(trial, head_arm=f"{HEAD_ONLY} of {label}")
    return trial
