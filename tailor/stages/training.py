"""How a training trains. A setting is declared here once: a trial's `optimisation` and the stages inherit it."""

from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tailor.common.settings import Count, Fraction, Rate, ReadIf, Settings

GAMMA = 0.1
Weights = Annotated[tuple[float, ...], Field(strict=False)]
Milestone = Annotated[float, Field(gt=0.0, lt=1.0)]

OF_CLASSES = ReadIf(lambda c: c.data.info.target_classes > 1, "a target with classes, not real values", refused=True)
OF_IMAGES = ReadIf(lambda c: len(c.data.input_shape) == 3, "images, not rows of numbers", refused=True)
OF_COLOURS = ReadIf(lambda c: c.data.input_shape[0] == 3, "images of 3 channels", refused=True)


class ImageChanges(Settings):
    """How a training changes its images beside where `data.augmentation` cuts them, in this order; 0: not at all."""

    rand_augment: Annotated[int, Field(ge=0, json_schema_extra={"neutral": 0}), OF_IMAGES, OF_COLOURS] = 0
    """Operations of RandAugment on each image, of torchvision's fourteen, of strength 9 of 30 (torchvision's)."""
    colour_jitter: Annotated[Fraction, Field(json_schema_extra={"neutral": 0.0}), OF_IMAGES, OF_COLOURS] = 0.0
    """Largest change of an image's brightness, contrast and saturation, each by a factor of 1 - this to 1 + this."""
    random_erasing: Annotated[Fraction, Field(json_schema_extra={"neutral": 0.0}), OF_IMAGES] = 0.0
    """Share of the images of which a rectangle is made grey."""
    mixup: Annotated[Rate, Field(json_schema_extra={"neutral": 0.0}), OF_CLASSES, OF_IMAGES] = 0.0
    """Alpha of mixup: each image is mixed with another of its batch, and its labels alike, by Beta(alpha, alpha)."""
    cutmix: Annotated[Rate, Field(json_schema_extra={"neutral": 0.0}), OF_CLASSES, OF_IMAGES] = 0.0
    """Alpha of CutMix, which pastes a rectangle of the other image; with mixup, each image has one or the other."""


NO_CHANGES = ImageChanges()


class TrainingSettings(ImageChanges):
    """What a trial sets for its trainings; docs/training.md says where each setting counts and where it comes from.

    A new setting needs a neutral value, so that the ids and keys of trials without it stay.
    """

    learning_rate: Rate = 0.0005
    """For all layers but the head."""
    head_learning_rate: Rate = 0.005
    """For the head."""
    momentum: Annotated[
        float,
        Field(ge=0.0, lt=1.0),
        ReadIf(lambda c: c.optimisation.optimiser == "sgd" or c.method.trains_by_sgd, "optimiser = 'sgd'"),
    ] = 0.9
    """Of SGD; Adam and AdamW do not read it."""
    weight_decay: Rate = 0.005
    """Times the weights, added to the gradient; of AdamW, apart from it."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """How the learning rates fall, from epoch to epoch; `step` at the milestones."""
    milestones: Annotated[tuple[Milestone, ...], Field(json_schema_extra={"neutral": ()}, strict=False)] = ()
    """Of the schedule `step`: shares of a training's epochs after which the rates are multiplied by gamma."""
    gamma: Annotated[
        float,
        Field(gt=0.0, lt=1.0, json_schema_extra={"neutral": GAMMA}),
        ReadIf(lambda c: c.optimisation.schedule == "step", "schedule = 'step'", refused=True),
    ] = GAMMA
    """Of the schedule `step`: what the rates are multiplied by."""
    warm_up_epochs: Annotated[int, Field(ge=0, json_schema_extra={"neutral": 0})] = 0
    """Epochs in which the rates rise, step by step."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """What takes the steps; `adamw` decays weights apart from the gradient, and no norms and biases."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0, json_schema_extra={"neutral": 1.0})] = 1.0
    """By what the learning rate is multiplied from each layer to the one before it; below 1, norms and biases have no
    weight decay."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0, json_schema_extra={"neutral": 0.0}), OF_CLASSES] = 0.0
    """Share of each label that is spread over all classes."""
    class_weights: Annotated[
        Literal["balanced"] | SkipJsonSchema[Weights] | dict[str, float] | None,
        Field(json_schema_extra={"neutral": None}),
        OF_CLASSES,
    ] = None
    """How much an image's loss counts by its class: a number for each, as in `{ cat = 2.0, dog = 1.0 }`, or `balanced`:
    in inverse proportion to the images of its class, 1 on average. None: all count alike."""
    sampling: Annotated[
        Literal["shuffled", "balanced"], Field(json_schema_extra={"neutral": "shuffled"}), OF_CLASSES
    ] = "shuffled"
    """Whether an epoch shows each image once, or draws as many images from all classes alike, with repetition."""
    clip_gradient_norm: Annotated[float | None, Field(gt=0.0, json_schema_extra={"neutral": None})] = None
    """Largest norm of the gradient of a step, all parameters together; None leaves it as it is."""
    ema_decay: Annotated[float | None, Field(gt=0.0, lt=1.0, json_schema_extra={"neutral": None})] = None
    """Of an average of the weights over the steps, which is what a training ends with; None keeps none."""
    norm: Annotated[
        Literal["synchronised", "local", "frozen"],
        Field(json_schema_extra={"neutral": "synchronised"}),
        ReadIf(lambda c: c.network_info.has_norm, "a network with BatchNorm or another norm", refused=True),
    ] = "synchronised"
    """BatchNorm where all layers are tuned: over the images of all ranks, of each rank, or as the source left it."""
    accumulation_steps: Annotated[Count, Field(json_schema_extra={"neutral": 1})] = 1
    """Parts in which each rank takes its share of a batch before a step; BatchNorm sees one part at a time."""
    precision: Annotated[Literal["float32", "bf16"], Field(json_schema_extra={"neutral": "float32"})] = "float32"
    """Of a training's forward and backward passes; weights, losses and measurements are float32."""
    memory_format: Annotated[
        Literal["contiguous", "channels_last"], Field(json_schema_extra={"neutral": "contiguous"}), OF_IMAGES
    ] = "contiguous"
    """Order of the pixels of images in memory."""
    compile: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether networks are compiled before they train."""


class Training(TrainingSettings):
    """How a training stage trains; part of its key."""

    epochs: int
    batch_size: int
    """Images per step over all ranks together."""
    seed: int
    """Of the order of the images and of augmentation."""

    @staticmethod
    def from_settings(settings: TrainingSettings, *, epochs: int, batch_size: int, seed: int) -> "Training":
        """A training by the settings of a trial."""
        return _shared_training(_values_of(settings), epochs, batch_size, seed)


_values_of = attrgetter(*TrainingSettings.model_fields)


@lru_cache(maxsize=2**12)
def _shared_training(values: tuple[Any, ...], epochs: int, batch_size: int, seed: int) -> Training:
    """Return the same training for equal arguments: the thousands of trials of a plan have few different ones."""
    settings = dict(zip(TrainingSettings.model_fields, values, strict=True))
    return Training(epochs=epochs, batch_size=batch_size, seed=seed, **settings)
