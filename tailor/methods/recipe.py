"""The stages and settings that all methods share, so that they differ only in what their papers change."""

from dataclasses import replace
from functools import lru_cache
from typing import cast

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import digest_of
from tailor.common.seeds import stream
from tailor.config.allocations import Allocation
from tailor.config.data import DataConfig
from tailor.config.pruning import OF_TARGETS_DATA
from tailor.config.source import SourceConfig
from tailor.config.trial import TrialConfig
from tailor.facts.networks import NETWORKS
from tailor.facts.regularisation import Delta, Regulariser
from tailor.facts.widths import ANY_WIDTH
from tailor.pruning.criteria import CRITERIA
from tailor.stages import NO_CHANGES, StageOutcome, StageSubgenerator, Task, Training
from tailor.stages.training import GAMMA


class Recipe:
    """Makes the stages of a trial from its configuration.

    >>> recipe = Recipe(TrialConfig(method="fine_tune"))
    >>> recipe.tuning(1).batch_size, recipe.source().kind
    (32, 'train_source')
    """

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.task = task_of(config.data, config.seed)
        self.scoring_task = donor_task_of(config) or self.task
        self.rule = config.pruning.rule
        self._pretrained: StageOutcome | None = None
        self._fitted: StageOutcome | None = None  # the pre-trained network with the target's head
        self._unpruned: StageOutcome | None = None  # with distillation: the network that its teacher is tuned from
        self._teacher: StageOutcome | None = None

    def source(self, asked_removed_macs_fraction: float = 0.0) -> stages.TrainSource | stages.LoadWeights:
        """The pre-trained network; with a fraction above 0, a narrower one from the start."""
        data = self.config.data
        source = self.config.source
        network = self.config.network
        network_sha256 = digest_of(NETWORKS, network)
        if source.weights_sha256 is not None:
            return stages.LoadWeights(
                of=None,
                network=network,
                network_sha256=network_sha256,
                input_shape=data.input_shape,
                weights_sha256=source.weights_sha256,
                pixel_mean=source.pixel_mean,
                pixel_std=source.pixel_std,
            )
        stage = stages.TrainSource(
            of=None,
            network=network,
            network_sha256=network_sha256,
            input_shape=data.input_shape,
            data_name=data.name,
            data_sha256=self.task.sha256,
            asked_removed_macs_fraction=asked_removed_macs_fraction,
            widths=self.config.pruning.widths if asked_removed_macs_fraction else ANY_WIDTH,
            initial_seed=stream(source.seed, "source"),
            training=_source_training(source),
        )
        return _shared_stage(stage)

    def head(self, asked_removed_macs_fraction: float = 0.0) -> StageSubgenerator:
        """Yield the pre-trained network, the fitted head, and with distillation a teacher; return the head's outcome.

        The teacher is the unpruned network, fine-tuned from labels by the trial's settings (C). It is a stage like any
        other, so that all trials of a comparison share it.
        """
        if self.config.optimisation.distillation_weight:
            self._unpruned = yield from self._fit(0.0)
            self._teacher = yield self._fine_tune(self._unpruned, 1)
            if not asked_removed_macs_fraction:
                return self._unpruned
        return (yield from self._fit(asked_removed_macs_fraction))

    def _fit(self, asked_removed_macs_fraction: float) -> StageSubgenerator:
        """Yield the pre-trained network, the fitted head, and what the regulariser needs; return the last outcome."""
        pretrained = yield self.source(asked_removed_macs_fraction)
        fitted = yield self.fit_head(pretrained)
        regulariser = self.config.optimisation.regulariser
        if regulariser is not None and regulariser.needs_anchor:
            fitted = yield stages.RememberWeights(of=fitted)
        if isinstance(regulariser, Delta):
            fitted = yield stages.WeighChannels(
                of=fitted,
                task=self.task,
                images=regulariser.attention_images,
                seed=stream(self.config.seed, "attention"),
            )
        self._pretrained, self._fitted = pretrained, fitted
        return fitted

    def fit_head(self, model: StageOutcome, task: Task | None = None) -> stages.FitHead:
        """The new head on frozen features; the learning rate and the norms of the layers below are not read."""
        training = _head_training(self.tuning(0), self.config.optimisation.head_epochs)
        head_seed = stream(self.config.seed, "head")
        return stages.FitHead(of=model, task=task or self.task, head_seed=head_seed, training=training)

    def to_score(self, model: StageOutcome) -> StageSubgenerator:
        """Return the model whose filters are scored: of a donor, yield its head on the same layers first.

        Before anything was tuned this head is on the pre-trained network, so that it and its scores depend on no
        target: all targets of a donor share them.
        """
        if self.scoring_task is self.task:
            return model
        is_untuned = self._fitted is not None and model.key == self._fitted.key
        below = self._pretrained if is_untuned and self._pretrained is not None else model
        return (yield self.fit_head(below, self.scoring_task))

    def adopted(self, model: StageOutcome, scored: StageOutcome) -> StageSubgenerator:
        """Return the model with its scores: the one that was scored, or yield the model with a donor's scores."""
        if self.scoring_task is self.task:
            return scored
        return (yield stages.AdoptScores(of=model, donor=scored))

    def tuning(self, number: int) -> Training:
        """How fine-tuning `number` of the trial trains (0: the head's fit); only the order of images depends on it."""
        settings = self.config.optimisation
        weights = settings.class_weights
        if isinstance(weights, dict):  # a stage has them in the order of the labels
            names = self.config.data.info.label_names or sorted(weights)
            settings = settings.model_copy(update={"class_weights": tuple(map(weights.__getitem__, names))})
        seed = stream(self.config.seed, "order", number)
        return Training.from_settings(settings, epochs=settings.epochs, batch_size=settings.batch_size, seed=seed)

    def plain_tuning(self, number: int) -> Training:
        """The same for training factors and gates: SGD at constant rates, the loss as the papers print it.

        Accumulation, precision, memory format and compilation are those of the trial.
        """
        return _plain_training(self.tuning(number))

    def fine_tune(self, model: StageOutcome, number: int, regulariser: Regulariser | None = None) -> stages.FineTune:
        """Fine-tuning `number` (from 1) of all weights; `regulariser` replaces the trial's own.

        With distillation, the teacher teaches all networks except the one that it was tuned from.

        Raises:
            ConfigError: with distillation, the method did not get its head from `head`.
        """
        tuning = self._fine_tune(model, number, regulariser)
        weight = self.config.optimisation.distillation_weight
        if not weight or (self._unpruned is not None and model.key == self._unpruned.key):
            return tuning
        if self._teacher is None:
            raise ConfigError(
                f"distillation_weight = {weight} needs a teacher, which `Recipe.head` yields, and method "
                f"{self.config.method.name!r} does not begin with it; set distillation_weight = 0"
            )
        distillation = stages.Distillation(weight=weight, temperature=self.config.optimisation.distillation_temperature)
        return replace(tuning, distillation=distillation, teacher=self._teacher)

    def _fine_tune(self, model: StageOutcome, number: int, regulariser: Regulariser | None = None) -> stages.FineTune:
        return stages.FineTune(
            of=model,
            task=self.task,
            training=self.tuning(number),
            regulariser=regulariser or self.config.optimisation.regulariser,
            optimiser_state=self.config.pruning.optimiser_state,
        )

    def train_factors(
        self,
        model: StageOutcome,
        number: int,
        *,
        epochs: int,
        learning_rate: float,
        placement: stages.Placement = "after_norm",
        start: float = 1.0,
        noise: float = 0.0,
    ) -> stages.TrainFactors:
        """TransTailor's factors before tuning `number`: constant rate, momentum of the trial, no weight decay (C)."""
        training = self.plain_tuning(number).replace(
            epochs=epochs,
            learning_rate=learning_rate,
            head_learning_rate=0.0,
            weight_decay=0.0,
            seed=stream(self.config.seed, "factor order", number),
        )
        return stages.TrainFactors(
            of=model,
            task=self.scoring_task,
            training=training,
            rule=self.rule,
            placement=placement,
            start=start,
            noise=noise,
            seed=stream(self.config.seed, "factors", number) if noise else None,
        )

    def scores(
        self, model: StageOutcome, criterion: str, placement: stages.Placement = "after_norm", *, step: int = 1
    ) -> stages.ScoreFilters:
        """The scoring of `model` by a criterion; the stage has only what the criterion reads.

        `step` is that of a path, from 1: a criterion that draws has other numbers in each.
        """
        facts = CRITERIA[criterion]
        return stages.ScoreFilters(
            of=model,
            criterion=criterion,
            criterion_sha256=digest_of(CRITERIA, criterion),
            rule=self.rule,
            task=self.scoring_task if facts.reads_data else None,
            batch_size=self.config.optimisation.batch_size if facts.reads_data else None,
            placement=placement if facts.has_gates else None,
            seed=stream(self.config.seed, "scores") if facts.draws else None,
            step=step if facts.draws else 1,
        )

    def prune(
        self,
        scores: StageOutcome,
        asked_removed_macs_fraction: float,
        allocation: Allocation,
        grouping: stages.Grouping = "sum",
        *,
        normalisation: stages.ScoreNormalisation = "none",
        at_random: bool = False,
        step: int = 1,
    ) -> StageSubgenerator:
        """Yield the surgery and, if the trial wants it, new measurements of the norms; return the last outcome.

        Args:
            normalisation: of the scores, before those of different layers are compared.
            at_random: whether random filters are removed; the scores stay with the model.
            step: of a path, from 1: what is drawn has other numbers in each.
        """
        seed = stream(self.config.seed, "allocation")
        prune = stages.Prune(
            of=scores,
            rule=self.rule,
            grouping=grouping,
            normalisation=normalisation,
            asked_removed_macs_fraction=round(asked_removed_macs_fraction, 9),
            minimum_filters_fraction=self.config.pruning.minimum_filters_fraction,
            widths=self.config.pruning.widths,
            allocation="global",
            seed=seed if at_random else None,
            step=step if at_random else 1,  # by the scores all steps share one key
        )
        batch_size = self.config.optimisation.batch_size
        pruned = yield from allocation.stages(prune, task=self.task, batch_size=batch_size, seed=seed)
        if self.config.pruning.shift_means:
            pruned = yield stages.ShiftMeans(
                of=pruned,
                unpruned=scores,
                rule=self.rule,
                task=self.task,
                batch_size=self.config.optimisation.batch_size,
            )
        return (yield from self.norms(pruned))

    def norms(self, pruned: StageOutcome) -> StageSubgenerator:
        """Yield the new measurement of the norms if the trial wants it and has norms; return the last outcome."""
        is_measured = self.config.pruning.measure_norms and NETWORKS[self.config.network].has_norm
        if not is_measured:
            return pruned
        measured = yield stages.MeasureNorms(
            of=pruned,
            task=self.task,
            batch_size=self.config.optimisation.batch_size,
            seed=stream(self.config.seed, "norms"),
        )
        return measured

    def point(
        self,
        model: StageOutcome,
        asked_removed_macs_fraction: float | None = 0.0,
        *,
        asked_latency_ms: float | None = None,
        asked_latency_fraction: float | None = None,
    ) -> stages.OperatingPoint:
        """The measurement of a model, and what it has to meet; `protocol` sets which split the trial's decisions read.

        Args:
            asked_removed_macs_fraction: share of the MACs to remove; None if milliseconds are asked, or a rule decides.
        """
        removed = asked_removed_macs_fraction
        return stages.OperatingPoint(
            of=model,
            task=self.task,
            asked_removed_macs_fraction=None if removed is None else round(removed, 9),
            decides_on="train" if self.config.protocol == "paper" else "validation",
            asked_latency_ms=asked_latency_ms,
            asked_latency_fraction=asked_latency_fraction,
            metric=self.config.metric,
        )


def task_of(data: DataConfig, seed: int) -> Task:
    """Return the images that a trial with this seed reads, as stages name them."""
    subset_seed = None if data.images_per_class is None else stream(seed, "subset")
    return _shared_task(data, data.samples_sha256, subset_seed)


def donor_task_of(config: TrialConfig) -> Task | None:
    """Return the images by which the filters are scored; None: the target's."""
    donor = config.pruning.scores_from
    if donor == "target":
        return None
    if donor in OF_TARGETS_DATA:
        seed = stream(config.seed, "donor")
        return replace(task_of(config.data, config.seed), images=cast(stages.TaskImages, donor), images_seed=seed)
    assert config.donor is not None
    return task_of(config.donor, config.seed)


@lru_cache(maxsize=1024)
def _shared_task(data: DataConfig, sha256: str, subset_seed: int | None) -> Task:
    """Return the same task for equal arguments.

    The digest is an argument, so that a task is never that of older data of this name.
    """
    return Task(
        name=data.name,
        sha256=sha256,
        train_images=data.train_images,
        images_per_class=data.images_per_class,
        split_seed=data.split_seed,
        subset_seed=subset_seed,
        augmentation=data.augmentation,
        crop_px=data.crop_px,
    )


@lru_cache(maxsize=1024)
def _head_training(tuning: Training, epochs: int) -> Training:
    return tuning.replace(epochs=epochs, learning_rate=0.0, norm="synchronised", layer_decay=1.0)


@lru_cache(maxsize=1024)
def _plain_training(tuning: Training) -> Training:
    return tuning.replace(
        schedule="constant",
        optimiser="sgd",
        layer_decay=1.0,
        class_weights=None,
        sampling="shuffled",
        **dict(NO_CHANGES),
        milestones=(),
        gamma=GAMMA,
        warm_up_epochs=0,
        label_smoothing=0.0,
        ema_decay=None,
        clip_gradient_norm=None,
        norm="synchronised",
    )


@lru_cache(maxsize=1024)
def _source_training(source: SourceConfig) -> Training:
    return Training(
        epochs=source.epochs,
        batch_size=source.batch_size,
        learning_rate=source.learning_rate,
        head_learning_rate=source.learning_rate,
        momentum=source.momentum,
        weight_decay=source.weight_decay,
        schedule="cosine",
        seed=stream(source.seed, "source order"),
    )


@lru_cache(maxsize=1024)
def _shared_stage(stage: stages.TrainSource) -> stages.TrainSource:
    """Return the same object for equal stages: thousands of trials start from a few, each of which is hashed once."""
    return stage
