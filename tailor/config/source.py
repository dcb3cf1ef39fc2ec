"""The pre-trained network of a trial: trained here, or loaded from a file. Without torch."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from tailor.common.settings import Count, Rate, ReadIf, Seed, Settings
from tailor.facts import weights

TRAINED_HERE = ReadIf(lambda c: c.source.weights is None, "a source that is trained here", refused=True)
SOURCE_IMAGES = ReadIf(
    lambda c: c.source.weights is None or c.method.keeps_source_head,
    "a source that is trained here, or a method that trains on the source task",
    refused=True,
)
OF_SGD = ReadIf(
    lambda c: c.source.weights is None or (c.method.keeps_source_head and c.method.trains_by_sgd),
    "a source that is trained here, or a method that trains on the source task by SGD",
    refused=True,
)
OF_WEIGHTS = ReadIf(lambda c: c.source.weights is not None, "source.weights")


class SourceConfig(Settings):
    """The pre-trained network: trained on the data set's source task once per network and seed, or from a file."""

    weights: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """A `.safetensors` or `.pth` file of a state_dict, or an exact name of torchvision's, such as
    "MobileNet_V2_Weights.IMAGENET1K_V2"; None trains on the source task by the settings from `seed` on."""
    weights_sha256: Annotated[str | None, Field(json_schema_extra={"neutral": None})] = None
    """The file's SHA-256, which identifies it; of weights by name, the first digits are known. A plan does without it
    as long as the file is not there."""
    weights_folder: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The folder of weights by name, by default "weights": `transtailor fetch` writes them there."""
    pixel_mean: Annotated[tuple[float, ...], Field(json_schema_extra={"neutral": (0.5,)}, strict=False), OF_WEIGHTS] = (
        0.5,
    )
    """The normalisation that the weights expect of pixels in [0, 1]: (pixel - mean) / std, one number or one per
    channel. Weights by name have their own."""
    pixel_std: Annotated[tuple[float, ...], Field(json_schema_extra={"neutral": (0.5,)}, strict=False), OF_WEIGHTS] = (
        0.5,
    )
    """The standard deviation of that normalisation."""
    seed: Annotated[Seed, SOURCE_IMAGES] = 0
    """Of the weights before the source training, and of the order of its images."""
    epochs: Annotated[Count, TRAINED_HERE] = 12
    """Epochs of the source training, with a cosine schedule."""
    batch_size: Annotated[Count, SOURCE_IMAGES] = 32
    """Images per step of the source training."""
    learning_rate: Annotated[Rate, TRAINED_HERE] = 0.05
    """Of the source training."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0), OF_SGD] = 0.9
    """Of SGD in the source training."""
    weight_decay: Annotated[Rate, TRAINED_HERE] = 0.0005
    """Of the source training; it is part of the gradient."""

    @property
    def weights_file(self) -> Path | None:
        """The file of the weights; None if they are trained here."""
        if self.weights is None:
            return None
        if self.weights_folder is None:
            return Path(self.weights)
        return Path(self.weights_folder) / weights.find(self.weights).file

    @model_validator(mode="before")
    @classmethod
    def _add_facts_of_names(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        return weights.complete_source(raw)

    @field_validator("weights", "weights_folder")
    @classmethod
    def _path_is_absolute(cls, path_or_name: str | None) -> str | None:
        if path_or_name is None or weights.is_name(path_or_name):
            return path_or_name
        return str(Path(path_or_name).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _weights_are_pinned(self) -> "SourceConfig":
        if (self.weights is None) != (self.weights_sha256 is None):
            raise ValueError(
                "weights and weights_sha256 belong together: give the file and its SHA-256 (type: "
                f"{shlex.join(['sha256sum', self.weights or 'FILE'])})"
            )
        if self.weights is not None and self.weights_sha256 is not None:
            weights.check_pin(self.weights, self.weights_sha256)
        if self.weights_folder is not None and (self.weights is None or not weights.is_name(self.weights)):
            raise ValueError(
                "weights_folder is the folder of weights by name, and source.weights is no such name; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pixels_are_possible(self) -> "SourceConfig":
        if not all(std > 0.0 for std in self.pixel_std):
            raise ValueError(f"pixel_std = {list(self.pixel_std)}: pixels are divided by it; give numbers above 0")
        if any(mean > 1.0 for mean in self.pixel_mean):
            raise ValueError(
                f"pixel_mean = {list(self.pixel_mean)}: expected the mean of pixels in [0, 1]; divide pixel_mean and "
                "pixel_std of pixels up to 255 by 255"
            )
        return self
