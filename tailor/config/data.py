"""The target data of a trial, as three splits. Without torch."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tailor.common.errors import ConfigError
from tailor.common.settings import Count, Seed, Settings
from tailor.facts import datasets
from tailor.facts.datasets import DataInfo
from tailor.facts.official import OFFICIAL
from tailor.facts.pool import split_sizes
from tailor.facts.preprocess import Step, steps_from_file
from transtailor.names import nearest
from transtailor.shell import command


class ExpectedData(Settings):
    """What a data set will hold that is not prepared yet: plans are made of it, and trials do not read it."""

    classes: Annotated[int, Field(ge=0)] = 0
    """Of the target; an official layout's classes and images are known."""
    images: Annotated[int, Field(ge=0)] = 0
    """Of the target, those of the test split included."""
    test_images: Annotated[int, Field(ge=0)] = 0
    """Of the target's images, those of the test split."""
    source_classes: Annotated[int, Field(ge=0)] = 0
    """Of the source task, where there is one."""
    source_images: Annotated[int, Field(ge=0)] = 0
    """Of the source task, where there is one."""
    prepare: str = ""
    """Words that `transtailor data prepare` needs beside name, pixels and folder, such as "--from photographs"."""

    @field_validator("prepare")
    @classmethod
    def _has_words(cls, prepare: str) -> str:
        try:
            shlex.split(prepare)
        except ValueError as error:
            raise ValueError(f"{prepare!r}: {error}; write the words as in a shell") from None
        return prepare


class DataConfig(Settings):
    """The target data, as three splits; the sizes of test and training split are the same for all trials.

    >>> DataConfig(name="digits", train_images=100).input_shape
    (1, 8, 8)
    """

    name: str = "digits"
    """An embedded data set, a prepared one (then with `root`), or your own."""
    root: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The folder in which `transtailor data prepare` made the data set; None for those of the catalogue."""
    layout: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The official layout that it is prepared from (`transtailor data prepare --layout`). With it and `image_px` a
    sweep can be planned before the data are there, and the plan says what to type."""
    expected: Annotated[ExpectedData | None, Field(json_schema_extra={"in_no_id": True})] = None
    """What your own data set will hold, with `image_px`: such a sweep can be planned before the data are there, too."""
    image_px: Annotated[int | None, Field(ge=16, le=2048, json_schema_extra={"in_no_id": True})] = None
    """Side of the prepared images (`--image-px`); a set of another size is refused. None: any size."""
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$", json_schema_extra={"in_no_id": True})] = None
    """The digest of files that the prepared set must have, as `transtailor data check` shows it; each launch then
    reads them all. None: any."""
    train_images: Count = 200
    """Training images of the target; the others, without the test images, are the validation split."""
    images_per_class: Count | None = None
    """Draw at most this many training images of each class, by the trial's seed; None takes all."""
    split_seed: Seed = 0
    """Which images are train, validation and test; fixed by default, so that seeds share their test set. A data set
    that was prepared with a test split keeps it for every seed; pools and the embedded data sets draw it, too."""
    augmentation: Literal["none", "shift", "crop_flip"] = "none"
    """`shift` moves each training image by up to one pixel; `crop_flip` cuts a random square, mirrors half."""
    crop_px: Annotated[int | None, Field(ge=1, json_schema_extra={"neutral": None})] = None
    """Side of the square that the network sees, from the centre unless training augments; None: the whole image."""

    @property
    def info(self) -> DataInfo:
        """The data set's entry in the catalogue, or what the manifest of a prepared one says.

        Of one that is not there yet, what is known or expected of the complete one; `is_there` is False then.
        """
        counts = self._expected_counts()
        if counts is None or self.root is None or self.image_px is None:
            return datasets.info(self.name, self.root)
        return datasets.info_or_expected(self.name, self.root, self.image_px, **counts)

    def _expected_counts(self) -> dict[str, int] | None:
        """Return what is known of the layout, and what is expected; None: it is not enough to plan trials."""
        counts: dict[str, int] = {}
        if self.layout is not None:
            official = OFFICIAL[self.layout]
            counts.update(classes=official.classes, images=official.images, test_images=official.test_images)
        if self.expected is not None:
            counts.update(self.expected.model_dump(exclude_defaults=True, exclude={"prepare"}))
        return counts if {"classes", "images"} <= counts.keys() else None

    def unexpected_text(self) -> str:
        """Return a sentence about a prepared data set that is not as expected; "" if it is so, or not there yet."""
        info = self.info
        found = {"classes": info.target_classes, "images": info.target_images, "test_images": info.test_images}
        found |= {"source_classes": info.source_classes, "source_images": info.source_images}
        expected = (self._expected_counts() or {}) if info.is_there else {}
        wrong = [f"{key} = {found[key]}, expected {count}" for key, count in expected.items() if found[key] != count]
        if not wrong:
            return ""
        return f"data set {self.name} has {'; '.join(wrong)}: correct the spec, or prepare the images again"

    @field_validator("root")
    @classmethod
    def _root_is_absolute(cls, root: str | None) -> str | None:
        if root is None:
            return None
        return str(Path(root).expanduser().resolve())  # ranks run in other folders

    @field_validator("layout")
    @classmethod
    def _layout_is_official(cls, layout: str | None) -> str | None:
        if layout is not None and layout not in OFFICIAL:
            raise ValueError(f"no such official layout{nearest(layout, OFFICIAL)}; leave it out for your own images")
        return layout

    @model_validator(mode="after")
    def _data_exists(self) -> "DataConfig":
        for name in ("layout", "expected", "image_px", "sha256"):
            if getattr(self, name) is not None and self.root is None:
                raise ValueError(
                    f"{name} is of a prepared data set, and there is no data.root; give it, or leave it out"
                )
        if (self.layout is not None or self.expected is not None) and self.image_px is None:
            given = "expected" if self.layout is None else f"layout = {self.layout!r}"
            raise ValueError(f"{given} needs image_px, the side of the prepared images; give it")
        try:
            info = self.info
        except ConfigError as error:
            is_half_expected = self.expected is not None and self._expected_counts() is None
            wish = "\nto plan before it is there, give expected.classes and expected.images, or its official layout"
            raise ValueError(f"{error}{wish if is_half_expected else ''}") from error
        if info.is_there:
            self._check_prepared(info)
        return self

    def _check_prepared(self, info: DataInfo) -> None:
        """Raise ValueError if the prepared data set has other pixels than asked for."""
        folder = f"{self.root}/{self.name}"
        if self.image_px is not None and info.input_shape[-1] != self.image_px:
            raise ValueError(
                f"image_px = {self.image_px}, and {folder} was prepared with --image-px {info.input_shape[-1]}; "
                "prepare it again under another name, or in another folder"
            )
        if self.sha256 is not None and info.files_sha256 != self.sha256:
            raise ValueError(
                f"sha256 = {self.sha256}, and {folder} has the digest of files "
                f"{info.files_sha256 or '(none: prepared by an earlier version)'} ({info.target_images:,} images of "
                f"{info.target_classes:,} classes, {info.input_shape[-1]} pixels): other files, labels, another split "
                f"or another crop; {command('data', 'check', folder)} shows them"
            )

    @property
    def samples_sha256(self) -> str:
        """The digest that identifies the samples; of a data set that is not there, one that no data set has."""
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
            most = "fewer" if info.pool else f"at most {images_left - 1}"
            advice = (
                f"choose {most}" if images_left > 1 else "the data set needs more images, or fewer of them for testing"
            )
            raise ValueError(
                f"train_images = {self.train_images} leaves no validation image: {self.name} has {images_left} target "
                f"images in addition to its {info.test_images} test images; {advice}"
            )
        try:
            split_sizes(info.pool, self.train_images, info.test_images)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self
