"""How the target is trained: settings, and which of them cannot be combined. Without torch."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from tailor.common.named import name_validator
from tailor.common.settings import Count, Fraction
from tailor.config.data import DataConfig
from tailor.facts.networks import NETWORKS
from tailor.facts.regularisation import BSS, REGULARISERS, Delta, Regulariser, Slimming
from tailor.stages.training import GAMMA, NO_CHANGES, ImageChanges, TrainingSettings
from transtailor.names import nearest
from transtailor.plural import first_few

TEMPERATURE = 4.0
OF_CLASSES = {"label_smoothing": 0.0, "distillation_weight": 0.0, "class_weights": None, "sampling": "shuffled"}
OF_CLASSES |= {"mixup": 0.0, "cutmix": 0.0}
"""Settings that only a target with classes can have, and their values without effect."""


class Optimisation(TrainingSettings):
    """How the target is trained; the same for every method (the printed settings of TransTailor by default)."""

    epochs: Count = 25
    """Epochs of each fine-tuning."""
    head_epochs: Count = 40
    """Epochs of the first fit of the new head."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images per step over all ranks together."""
    regulariser: Annotated[SerializeAsAny[Regulariser] | None, name_validator(REGULARISERS)] = None
    """What every fine-tuning of all layers adds to its loss; None adds nothing."""
    distillation_weight: Annotated[Fraction, Field(json_schema_extra={"neutral": 0.0})] = 0.0
    """Weight of the fine-tuned unpruned network as a teacher, in addition to the labels; 0: no teacher."""
    distillation_temperature: Annotated[float, Field(gt=0.0, json_schema_extra={"neutral": TEMPERATURE})] = TEMPERATURE
    """By what the logits of both are divided before they are compared."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_are_above_0(cls, weights: Any) -> Any:
        if not isinstance(weights, Mapping | list | tuple) and weights not in ("balanced", None):
            raise ValueError('expected "balanced", or a number for each class, as in { cat = 2.0, dog = 1.0 }')
        for name, weight in weights.items() if isinstance(weights, Mapping) else ():
            if type(weight) not in (int, float) or not 0.0 < weight < math.inf:
                advice = "to leave a class out, prepare the data without it"
                if isinstance(weight, Mapping):  # 0.5 = 2.0 is a table in TOML, and as a key of an axis or --set
                    advice = 'quote a class with a dot, in the whole table: class_weights = { "0.5" = 2.0, cat = 1.0 }'
                raise ValueError(f"{name} = {weight!r} is no number above 0; {advice}")
        return weights

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> "Optimisation":
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"schedule = {self.schedule!r} with milestones = {list(self.milestones)}: schedule = 'step' and "
                "milestones, such as [0.5, 0.75], belong together; give both or none"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones = {list(self.milestones)} are not in ascending order; sort them")
        if self.gamma != GAMMA and self.schedule != "step":
            raise ValueError(f"gamma is read only with schedule = 'step', and schedule = {self.schedule!r}")
        if self.warm_up_epochs and self.warm_up_epochs >= min(self.epochs, self.head_epochs):
            raise ValueError(
                f"warm_up_epochs = {self.warm_up_epochs} leaves no epoch of epochs = {self.epochs} or head_epochs = "
                f"{self.head_epochs}; choose fewer"
            )
        return self

    @model_validator(mode="after")
    def _batch_can_be_divided(self) -> "Optimisation":
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"accumulation_steps = {self.accumulation_steps} does not divide batch_size = {self.batch_size}; "
                "choose a divisor"
            )
        return self

    @model_validator(mode="after")
    def _images_are_changed(self) -> "Optimisation":
        if self.distillation_weight and (self.mixup or self.cutmix):
            raise ValueError(
                f"distillation_weight = {self.distillation_weight} with mixup or cutmix: the teacher was trained on "
                "whole images, and what it says of mixtures was not tried; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_weighed_once(self) -> "Optimisation":
        if self.class_weights is not None and self.sampling == "balanced":
            raise ValueError(
                "class_weights and sampling = 'balanced' would both make up for classes of different sizes; leave one "
                "of them out"
            )
        return self

    @model_validator(mode="after")
    def _temperature_is_read(self) -> "Optimisation":
        if self.distillation_temperature != TEMPERATURE and not self.distillation_weight:
            raise ValueError("distillation_temperature is read only with a distillation_weight above 0; give one")
        return self


def check(
    optimisation: Optimisation, network: str, data: DataConfig, method: str, regularisers: Iterable[Regulariser | None]
) -> None:
    """Raise ValueError if a trial of this network, data and method would not read a setting, or cannot have it."""
    _refuse_norm(optimisation, network, method)
    _refuse_for_regularisers(optimisation, regularisers)
    _refuse_for_data(optimisation, data)
    _refuse_for_method(optimisation, method)


def _refuse_norm(optimisation: Optimisation, network: str, method: str) -> None:
    """Raise ValueError for a way of norms that has no effect on the network or contradicts the method."""
    norm = optimisation.norm
    if norm == "synchronised":
        return
    if not NETWORKS[network].has_norm:
        raise ValueError(f"optimisation.norm = {norm!r} is about BatchNorm, and {network} has none; leave it out")
    if norm == "frozen" and method == "gbn":
        raise ValueError("method 'gbn' trains the factors of norms, and optimisation.norm = 'frozen' keeps them")


def _refuse_for_regularisers(optimisation: Optimisation, regularisers: Iterable[Regulariser | None]) -> None:
    for regulariser in regularisers:
        if isinstance(regulariser, Slimming) and optimisation.norm == "frozen":
            raise ValueError(
                "regulariser 'slimming' shrinks the factors of norms, and optimisation.norm = 'frozen' keeps them"
            )
        if isinstance(regulariser, Delta | BSS) and optimisation.accumulation_steps > 1:
            raise ValueError(
                f"regulariser {regulariser.name!r} reads the whole batch at once, and accumulation_steps = "
                f"{optimisation.accumulation_steps} divides it; leave one of them out"
            )


def _refuse_for_data(optimisation: Optimisation, data: DataConfig) -> None:
    of_classes = [name for name in OF_CLASSES if getattr(optimisation, name) != OF_CLASSES[name]]
    if data.info.target_classes == 1 and of_classes:
        raise ValueError(f"{' and '.join(of_classes)}: about classes, and {data.name} has real values; leave it out")
    weights = optimisation.class_weights
    if isinstance(weights, dict | tuple):
        _refuse_classes(weights, data)
    _refuse_changes(optimisation, data)
    if len(data.input_shape) != 3 and optimisation.memory_format == "channels_last":
        raise ValueError(f"memory_format = 'channels_last' is about images, and {data.name} has rows of numbers")


def weights_text(weights: Mapping[str, float]) -> str:
    """Return weights by class as TOML, on one line.

    >>> weights_text({"cat": 2.0, "guinea pig": 1.0})
    'class_weights = { cat = 2.0, "guinea pig" = 1.0 }'
    """
    entries = []
    for name, weight in weights.items():
        key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
        entries.append(f"{key} = {weight}")
    return f"class_weights = {{ {', '.join(entries)} }}"


def _refuse_classes(weights: tuple[float, ...] | dict[str, float], data: DataConfig) -> None:
    """Raise ValueError unless each class of the data set has its weight by name; nothing is known of one not there."""
    names = data.info.label_names
    if isinstance(weights, tuple):
        named = dict.fromkeys(names or ("CLASS",), 1.0) | dict(zip(names, weights, strict=False))
        raise ValueError(f"class_weights = {list(weights)} names no classes of {data.name}; type {weights_text(named)}")
    unknown = [name for name in weights if names and name not in names]
    if unknown:
        raise ValueError(f"class_weights: {data.name} has no class {unknown[0]!r}{nearest(unknown[0], names)}")
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"class_weights has no number for {first_few(missing)} of {data.name}; give each class one")


def _refuse_changes(optimisation: Optimisation, data: DataConfig) -> None:
    """Raise ValueError for changes of images that the data set's samples cannot have."""
    changes = [name for name in ImageChanges.model_fields if getattr(optimisation, name) != getattr(NO_CHANGES, name)]
    if changes and len(data.input_shape) != 3:
        raise ValueError(f"{', '.join(changes)}: about images, and {data.name} has rows of numbers; leave it out")
    of_colours = [name for name in ("rand_augment", "colour_jitter") if name in changes]
    if of_colours and data.input_shape[0] != 3:
        raise ValueError(
            f"{' and '.join(of_colours)}: changes colours, and the images of {data.name} have {data.input_shape[0]} "
            "channel(s); leave it out, or set random_erasing, mixup or cutmix"
        )


def _refuse_for_method(optimisation: Optimisation, method: str) -> None:
    if optimisation.distillation_weight and method in ("head_only", "fine_tune", "pac_net", "sfp"):
        raise ValueError(
            f"distillation_weight = {optimisation.distillation_weight}: the unpruned network teaches pruned ones, and "
            f"method {method!r} fine-tunes no pruned network; leave it out, or set it to 0.0 for this method"
        )
    if optimisation.ema_decay is not None and method == "sfp":
        raise ValueError(
            "method 'sfp' removes the filters that its last epoch zeroed, and in an average of the weights none is "
            "zero; leave ema_decay out"
        )
