"""The target data of a trial, as three splits. Without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tailor.common.errors import ConfigError
from tailor.common.settings import Count, Seed, Settings
from tailor.facts import datasets
from tailor.facts.datasets import DataInfo
from tailor.facts.pool import split_sizes
from tailor.facts.preprocess import Step, steps_from_file


class DataConfig(Settings):
    """The target data, as three splits; the sizes of test and training split are the same for all trials.

    >>> DataConfig(name="digits", train_images=100).input_shape
    (1, 8, 8)
    """

    name: str = "digits"
    """An embedded data set, a prepared one (then with `root`), or your own."""
    root: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The folder in which `transtailor data prepare` made the data set; None for those of the catalogue."""
    train_images: Count = 200
    """Training images of the target; the others, without the test images, are the validation split."""
    images_per_class: Count | None = None
    """Draw this many training images of each class, by the trial's seed; None takes all."""
    split_seed: Seed = 0
    """Which images are train, validation and test; fixed by default, so that seeds share their test set. A data set
    that was prepared with a test split keeps it for every seed; pools and the embedded data sets draw it, too."""
    augmentation: Literal["none", "shift", "crop_flip"] = "none"
    """`shift` moves each training image by up to one pixel; `crop_flip` cuts a random square, mirrors half."""
    crop_px: Annotated[int | None, Field(ge=1, json_schema_extra={"neutral": None})] = None
    """Side of the square that the network sees, from the centre unless training augments; None: the whole image."""

    @property
    def info(self) -> DataInfo:
        """The data set's entry in the catalogue, or what the manifest of a prepared one says."""
        return datasets.info(self.name, self.root)

    @field_validator("root")
    @classmethod
    def _root_is_absolute(cls, root: str | None) -> str | None:
        if root is None:
            return None
        return str(Path(root).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _data_exists(self) -> "DataConfig":
        try:
            datasets.info(self.name, self.root)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def sha256(self) -> str:
        """The digest that identifies the samples."""
        sha256 = self.info.sha256
        assert sha256 is not None  # `datasets.info` takes that of the user's module if the samples have none
        return sha256

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the network sees of a sample."""
        shape = self.info.input_shape
        if self.crop_px is None:
            return shape
        channels = shape[0]
        return (channels, self.crop_px, self.crop_px)

    @property
    def preprocess(self) -> list[Step] | None:
        """How an image file becomes what the network sees; None: the samples are not from image files."""
        if self.root is None:
            return None
        return steps_from_file(self.info.input_shape[1], self.crop_px)

    @model_validator(mode="after")
    def _crop_is_possible(self) -> "DataConfig":
        shape = self.info.input_shape
        has_rows_of_numbers = len(shape) == 1
        has_images = len(shape) == 3
        if self.crop_px is None and self.augmentation == "crop_flip":
            raise ValueError("augmentation = 'crop_flip' needs crop_px, the side of the square in pixels; give it")
        if self.augmentation != "none" and has_rows_of_numbers:
            raise ValueError(
                f"augmentation = {self.augmentation!r} moves pixels, and {self.name} has rows of numbers; choose 'none'"
            )
        if self.crop_px is not None and (not has_images or self.crop_px > min(shape[1:])):
            raise ValueError(f"crop_px = {self.crop_px} does not fit into {self.name}, whose samples are {shape}")
        return self

    @model_validator(mode="after")
    def _splits_are_possible(self) -> "DataConfig":
        info = self.info
        images_left = info.target_images - info.test_images
        if self.train_images >= images_left:
            raise ValueError(
                f"train_images = {self.train_images} leaves no validation image: {self.name} has {images_left} target "
                f"images in addition to its {info.test_images} test images; choose at most {images_left - 1}"
            )
        try:
            split_sizes(info.pool, self.train_images, info.test_images)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self
