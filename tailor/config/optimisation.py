"""How the target is trained: settings. Without torch."""

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from tailor.common.named import name_validator
from tailor.common.settings import Count, Fraction, ReadIf
from tailor.config.data import DataConfig
from tailor.facts.regularisation import REGULARISERS, Regulariser
from tailor.stages.training import OF_CLASSES, TrainingSettings
from transtailor.names import nearest
from transtailor.plural import first_few

TEMPERATURE = 4.0


class Optimisation(TrainingSettings):
    """How the target is trained; the same for every method (the printed settings of TransTailor by default)."""

    epochs: Count = 25
    """Epochs of each fine-tuning."""
    head_epochs: Count = 40
    """Epochs of the first fit of the new head."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images per step over all ranks together."""
    regulariser: Annotated[
        SerializeAsAny[Regulariser] | None,
        name_validator(REGULARISERS),
        ReadIf(lambda c: not c.method.has_own_penalty, "a method without a penalty of its own", refused=True),
    ] = None
    """What every fine-tuning of all layers adds to its loss; None adds nothing."""
    distillation_weight: Annotated[
        Fraction,
        Field(json_schema_extra={"neutral": 0.0}),
        OF_CLASSES,
        ReadIf(lambda c: c.method.tunes_pruned, "a method that fine-tunes a pruned network", refused=True),
    ] = 0.0
    """Weight of the fine-tuned unpruned network as a teacher, in addition to the labels; 0: no teacher."""
    distillation_temperature: Annotated[
        float,
        Field(gt=0.0, json_schema_extra={"neutral": TEMPERATURE}),
        ReadIf(lambda c: c.optimisation.distillation_weight > 0.0, "a distillation_weight above 0", refused=True),
    ] = TEMPERATURE
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


def refuse_classes(weights: Any, data: DataConfig) -> None:
    """Raise ValueError unless each class of the data set has its weight by name; nothing is known of one not there."""
    if not isinstance(weights, dict | tuple):
        return
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
