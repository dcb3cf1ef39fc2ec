"""The stages and settings that all methods share, so that whatever prunes, prunes alike and what tunes, tunes alike."""

from collections.abc import Generator
from dataclasses import replace
from functools import lru_cache

from tailor.catalogue.networks import NETWORKS
from tailor.catalogue.regularisation import Delta, Regulariser
from tailor.config.allocations import Allocation, Cut
from tailor.config.data import AUGMENTATION_VERSIONS
from tailor.config.optimisation import GAMMA
from tailor.config.source import SourceConfig
from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from tailor.core.plugin_digests import digest_of
from tailor.core.seeds import stream
from tailor.pruning.criteria import CRITERIA
from tailor.stages import (
    Distillation,
    FineTune,
    FitHead,
    Grouping,
    GroupRule,
    LoadWeights,
    MeasureNorms,
    OperatingPoint,
    Placement,
    RememberWeights,
    ScoreFilters,
    Stage,
    StageOutcome,
    Task,
    TrainFactors,
    Training,
    TrainSource,
    WeighChannels,
)

Steps = Generator[Stage, StageOutcome, StageOutcome]


class Recipe:
    """The parts of a trial's stages that follow from its configuration alone."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        data, pruning = config.data, config.pruning
        self.task = Task(
            name=data.name,
            sha256=data.sha256,
            train_images=data.train_images,
            images_per_class=data.images_per_class,
            split_seed=data.split_seed,
            subset_seed=None if data.images_per_class is None else stream(config.seed, "subset"),
            augmentation=data.augmentation,
            crop_px=data.crop_px,
            augmentation_version=AUGMENTATION_VERSIONS[data.augmentation],
        )
        self.rule = GroupRule(residual=pruning.residual, linear=pruning.linear)
        self._unpruned: StageOutcome | None = (
            None  # where there is distillation: the network that its teacher is tuned from
        )
        self._teacher: StageOutcome | None = None

    def source(self, removed_macs_fraction: float = 0.0) -> TrainSource | LoadWeights:
        """The pre-trained network; above 0, a narrower one from the start."""
        data = self.config.data
        width_multiple = self.config.pruning.width_multiple if removed_macs_fraction else 1
        network, network_sha256 = self.config.network, digest_of(NETWORKS, self.config.network)
        source = self.config.source
        if source.weights_sha256 is not None:
            return LoadWeights(
                of=None,
                network=network,
                network_sha256=network_sha256,
                input_shape=data.input_shape,
                weights_sha256=source.weights_sha256,
                pixel_mean=source.pixel_mean,
                pixel_std=source.pixel_std,
                network_version=NETWORKS[network].version,
            )
        return _trained(
            source,
            network,
            network_sha256,
            data.input_shape,
            data.name,
            self.task.sha256,
            removed_macs_fraction,
            width_multiple,
        )

    def head(self, removed_macs_fraction: float = 0.0) -> Steps:
        """Yield the pre-trained network and the fitted head, and a teacher if there is one; return the head's outcome.

        The teacher is the unpruned network fine-tuned as the trial fine-tunes, from labels (C). It is a stage like any
        other, so that all trials of a comparison share it.
        """
        if self.config.optimisation.distillation_weight:
            self._unpruned = yield from self._fitted(0.0)
            self._teacher = yield self._fine_tune(self._unpruned, 1)
            if not removed_macs_fraction:
                return self._unpruned
        return (yield from self._fitted(removed_macs_fraction))

    def _fitted(self, removed_macs_fraction: float) -> Steps:
        pretrained = yield self.source(removed_macs_fraction)
        fitted = yield self.fit_head(pretrained)
        regulariser = self.config.optimisation.regulariser
        if regulariser is not None and regulariser.needs_anchor:
            fitted = yield RememberWeights(of=fitted)
        if isinstance(regulariser, Delta):
            fitted = yield WeighChannels(
                of=fitted,
                task=self.task,
                images=regulariser.attention_images,
                seed=stream(self.config.seed, "attention"),
            )
        return fitted

    def fit_head(self, model: StageOutcome) -> FitHead:
        """The new head on frozen features: neither the rate nor the norms of the layers below are read."""
        training = replace(
            self.tuning(0), epochs=self.config.optimisation.head_epochs, learning_rate=0.0, norm="synchronised"
        )
        return FitHead(of=model, task=self.task, head_seed=stream(self.config.seed, "head"), training=training)

    def tuning(self, number: int) -> Training:
        """How the trial's tuning `number` trains (0: the head's fit); only the order of images depends on it."""
        optimisation = self.config.optimisation
        return Training(
            epochs=optimisation.epochs,
            batch_size=optimisation.batch_size,
            learning_rate=optimisation.learning_rate,
            head_learning_rate=optimisation.head_learning_rate,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay,
            schedule=optimisation.schedule,
            seed=stream(self.config.seed, "order", number),
            optimiser=optimisation.optimiser,
            milestones=optimisation.milestones,
            gamma=optimisation.gamma,
            warm_up_epochs=optimisation.warm_up_epochs,
            label_smoothing=optimisation.label_smoothing,
            ema_decay=optimisation.ema_decay,
            clip_gradient_norm=optimisation.clip_gradient_norm,
            norm=optimisation.norm,
            accumulation_steps=optimisation.accumulation_steps,
            precision=optimisation.precision,
            memory_format=optimisation.memory_format,
            compile=optimisation.compile,
        )

    def plain_tuning(self, number: int) -> Training:
        """The same as far as factors and gates train by it: SGD at constant rates, the loss as the papers print it.

        How a batch is computed is the trial's: accumulation, precision, memory format and compilation.
        """
        return replace(
            self.tuning(number),
            schedule="constant",
            optimiser="sgd",
            milestones=(),
            gamma=GAMMA,
            warm_up_epochs=0,
            label_smoothing=0.0,
            ema_decay=None,
            clip_gradient_norm=None,
            norm="synchronised",
        )

    def fine_tune(self, model: StageOutcome, number: int, regulariser: Regulariser | None = None) -> FineTune:
        """Fine-tuning `number` (from 1) of all weights; `regulariser` stands in for the trial's own.

        Where there is distillation, the teacher teaches all but the very network that it was itself tuned from.

        Raises:
            ConfigError: there is distillation, and the method took its head from elsewhere than `head`.
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
        distillation = Distillation(weight=weight, temperature=self.config.optimisation.distillation_temperature)
        return replace(tuning, distillation=distillation, teacher=self._teacher)

    def _fine_tune(self, model: StageOutcome, number: int, regulariser: Regulariser | None = None) -> FineTune:
        return FineTune(
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
        placement: Placement = "after_norm",
        start: float = 1.0,
        noise: float = 0.0,
    ) -> TrainFactors:
        """TransTailor's factors before tuning `number`: constant rate, momentum of the trial, no weight decay (C)."""
        training = replace(
            self.plain_tuning(number),
            epochs=epochs,
            learning_rate=learning_rate,
            head_learning_rate=0.0,
            weight_decay=0.0,
            seed=stream(self.config.seed, "factor order", number),
        )
        return TrainFactors(
            of=model,
            task=self.task,
            training=training,
            rule=self.rule,
            placement=placement,
            start=start,
            noise=noise,
            seed=stream(self.config.seed, "factors", number) if noise else None,
        )

    def scores(self, model: StageOutcome, criterion: str, placement: Placement = "after_norm") -> ScoreFilters:
        """The scoring of `model` by a criterion; only what the criterion reads is part of the stage."""
        known = CRITERIA[criterion]
        return ScoreFilters(
            of=model,
            criterion=criterion,
            criterion_sha256=digest_of(CRITERIA, criterion),
            rule=self.rule,
            task=self.task if known.reads_data else None,
            batch_size=self.config.optimisation.batch_size if known.reads_data else None,
            placement=placement if known.has_gates else None,
            seed=stream(self.config.seed, "scores") if known.draws else None,
        )

    def prune(
        self,
        scores: StageOutcome,
        removed_macs_fraction: float,
        allocation: Allocation,
        grouping: Grouping = "sum",
        *,
        at_random: bool = False,
    ) -> Steps:
        """Yield the surgery and, where the trial asks for it, the norms measured again; return the last outcome.

        `at_random` removes random filters whatever the scores say, which stay with the model.
        """
        cut = Cut(
            rule=self.rule,
            grouping=grouping,
            removed_macs_fraction=round(removed_macs_fraction, 9),
            minimum_filters_fraction=self.config.pruning.minimum_filters_fraction,
            task=self.task,
            batch_size=self.config.optimisation.batch_size,
            seed=stream(self.config.seed, "allocation"),
            width_multiple=self.config.pruning.width_multiple,
            at_random=at_random,
        )
        pruned = yield from allocation.stages(scores, cut)
        return (yield from self.norms(pruned))

    def norms(self, pruned: StageOutcome) -> Steps:
        """Yield the norms' new measurement where the trial asks for it and there are any; return the last outcome."""
        if not (self.config.pruning.measure_norms and NETWORKS[self.config.network].has_norm):
            return pruned
        return (
            yield MeasureNorms(
                of=pruned,
                task=self.task,
                batch_size=self.config.optimisation.batch_size,
                seed=stream(self.config.seed, "norms"),
            )
        )

    def point(self, model: StageOutcome, asked_removed_macs_fraction: float | None = 0.0) -> OperatingPoint:
        """The measurement of a model; `protocol` says which split the trial's decisions read.

        `asked_removed_macs_fraction` is None where no budget was asked for: a rule says what goes.
        """
        asked = asked_removed_macs_fraction
        return OperatingPoint(
            of=model,
            task=self.task,
            asked_removed_macs_fraction=None if asked is None else round(asked, 9),
            decides_on="train" if self.config.protocol == "paper" else "validation",
        )


@lru_cache(maxsize=1024)  # thousands of trials start from a few networks: each is one stage, made and hashed once
def _trained(
    source: SourceConfig,
    network: str,
    network_sha256: str | None,
    input_shape: tuple[int, ...],
    data_name: str,
    data_sha256: str,
    removed_macs_fraction: float,
    width_multiple: int,
) -> TrainSource:
    return TrainSource(
        of=None,
        network=network,
        network_sha256=network_sha256,
        input_shape=input_shape,
        data_name=data_name,
        data_sha256=data_sha256,
        removed_macs_fraction=removed_macs_fraction,
        width_multiple=width_multiple,
        network_version=NETWORKS[network].version,
        initial_seed=stream(source.seed, "source"),
        training=Training(
            epochs=source.epochs,
            batch_size=source.batch_size,
            learning_rate=source.learning_rate,
            head_learning_rate=source.learning_rate,
            momentum=source.momentum,
            weight_decay=source.weight_decay,
            schedule="cosine",
            seed=stream(source.seed, "source order"),
        ),
    )
