"""The stages and training settings that all methods share, so that whatever fine-tunes, tunes alike."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tailor.catalog import DATASETS
from tailor.seeds import stream
from tailor.stage import FitHead, Outcome, ScoreFilters, Task, Training, TrainSource

if TYPE_CHECKING:
    from collections.abc import Generator

    from tailor.config import TrialConfig
    from tailor.stage import Stage


class Recipe:
    """The parts of a trial's stages that follow from its configuration alone."""

    def __init__(self, config: "TrialConfig") -> None:
        self.config = config
        data = config.data
        self.task = Task(
            name=data.name,
            sha256=DATASETS[data.name].sha256,
            train_images=data.train_images,
            images_per_class=data.images_per_class,
            split_seed=data.split_seed,
            subset_seed=None if data.images_per_class is None else stream(config.seed, "subset"),
            augmentation=data.augmentation,
        )

    def head(self) -> "Generator[Stage, Outcome, Outcome]":
        """Yield the pre-trained network and the fitted head; return the latter's outcome."""
        config, source = self.config, self.config.source
        pretrained = yield TrainSource(
            of=None,
            network=config.network,
            data_name=config.data.name,
            data_sha256=self.task.sha256,
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
        fitted = yield FitHead(
            of=pretrained,
            task=self.task,
            head_seed=stream(config.seed, "head"),
            training=replace(self.fine_tuning(0), epochs=config.optimisation.head_epochs),
        )
        return fitted

    def fine_tuning(self, step: int) -> Training:
        """How iteration `step` of a method fine-tunes (0: the head's fit); only the order of images depends on it."""
        optimisation = self.config.optimisation
        return Training(
            epochs=optimisation.epochs,
            batch_size=optimisation.batch_size,
            learning_rate=optimisation.learning_rate,
            head_learning_rate=optimisation.head_learning_rate,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay,
            schedule=optimisation.schedule,
            seed=stream(self.config.seed, "order", step),
        )

    def factor_training(self, epochs: int, learning_rate: float, step: int) -> Training:
        """How TransTailor's factors are trained in iteration `step`: constant rate, no weight decay (C)."""
        return replace(
            self.fine_tuning(step),
            epochs=epochs,
            learning_rate=learning_rate,
            head_learning_rate=0.0,
            weight_decay=0.0,
            schedule="constant",
            seed=stream(self.config.seed, "factor order", step),
        )

    def scores(self, model: Outcome, criterion: str) -> ScoreFilters:
        """The scoring of `model` by a criterion; only what the criterion reads is part of the stage."""
        reads_data = criterion == "taylor"
        return ScoreFilters(
            of=model,
            criterion=criterion,
            task=self.task if reads_data else None,
            batch_size=self.config.optimisation.batch_size if reads_data else None,
            seed=stream(self.config.seed, "scores") if criterion == "random" else None,
        )
