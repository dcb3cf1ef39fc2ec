"""What a trial is: one frozen configuration, its id, and errors that name the key, the value and the nearest name."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from tailor import datasets, optimisation, weights
from tailor.allocations import ALLOCATIONS
from tailor.catalog import NETWORKS, DataInfo
from tailor.errors import ConfigError
from tailor.imports import digests_in
from tailor.methods import METHODS, Method
from tailor.named import by_name
from tailor.optimisation import Optimisation
from tailor.registry import nearest
from tailor.regularisation import REGULARISERS
from tailor.settings import Count, Fraction, Rate, Seed, Settings
from tailor.stages import canonical_json


class DataConfig(Settings):
    """The target data, as three splits of which the test split never moves."""

    name: str = "digits"
    root: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The folder below which `python -m tailor data prepare` put the data set; None for those of the catalog."""
    train_images: Count = 200
    """Training images of the target; what is neither these nor test is validation."""
    images_per_class: Count | None = None
    """Draw only so many training images of each class, by the trial's seed; None takes all."""
    split_seed: Seed = 0
    """Which images are train, validation and test; fixed by default, so that seeds share their test set."""
    augmentation: Literal["none", "shift", "crop_flip"] = "none"
    """`shift` moves each training image by up to one pixel; `crop_flip` cuts a random square, mirrors half."""
    crop_px: Annotated[int | None, Field(ge=1, json_schema_extra={"neutral": None})] = None
    """Side of the square that the network sees, from the centre unless training augments; None shows all of it."""

    @property
    def info(self) -> DataInfo:
        """What is known of the data set."""
        return datasets.info(self.name, self.root)

    @field_validator("root")
    @classmethod
    def _root_is_absolute(cls, root: str | None) -> str | None:
        return None if root is None else str(Path(root).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _data_exists(self) -> "DataConfig":
        try:
            datasets.info(self.name, self.root)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def sha256(self) -> str:
        """By what the samples are known."""
        found = self.info.sha256
        assert found is not None  # or the user's module has it
        return found

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the network sees of a sample."""
        shape = self.info.input_shape
        return shape if self.crop_px is None else (shape[0], self.crop_px, self.crop_px)

    @model_validator(mode="after")
    def _crop_is_possible(self) -> "DataConfig":
        shape = self.info.input_shape
        if self.crop_px is None and self.augmentation == "crop_flip":
            raise ValueError("augmentation = 'crop_flip' needs crop_px, the side of the square in pixels; give it")
        if self.augmentation != "none" and len(shape) == 1:
            raise ValueError(
                f"augmentation = {self.augmentation!r} moves pixels, and {self.name} has rows of numbers; choose 'none'"
            )
        if self.crop_px is not None and (len(shape) != 3 or self.crop_px > min(shape[1:])):
            raise ValueError(f"crop_px = {self.crop_px} does not fit into {self.name}, whose samples are {shape}")
        return self

    @model_validator(mode="after")
    def _splits_are_possible(self) -> "DataConfig":
        info = self.info
        pool = info.target_images - info.test_images
        if self.train_images >= pool:
            raise ValueError(
                f"train_images = {self.train_images} leaves no validation image: {self.name} has {pool} target images "
                f"beside its {info.test_images} test images; choose at most {pool - 1}"
            )
        return self


class SourceConfig(Settings):
    """The pre-trained network: trained on the data set's source task once per network and seed, or read from a file."""

    weights: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """A `.safetensors` or `.pth` file of a state_dict, or torchvision's by their exact name, such as
    "MobileNet_V2_Weights.IMAGENET1K_V2"; None trains on the source task, and the settings from `seed` on count."""
    weights_sha256: Annotated[str | None, Field(json_schema_extra={"neutral": None})] = None
    """The file's SHA-256, by which it is known; of weights by name, the first digits are known."""
    weights_folder: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """Where weights by name lie, "weights" where nothing is said: `python -m tailor fetch` puts them there."""
    pixel_mean: Annotated[tuple[float, ...], Field(json_schema_extra={"neutral": (0.5,)}, strict=False)] = (0.5,)
    """What the weights expect of pixels in [0, 1], one number or one per channel: (pixel - mean) / std. Weights by name
    bring theirs."""
    pixel_std: Annotated[tuple[float, ...], Field(json_schema_extra={"neutral": (0.5,)}, strict=False)] = (0.5,)
    seed: Seed = 0
    epochs: Count = 12
    batch_size: Count = 32
    learning_rate: Rate = 0.05
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Rate = 0.0005

    @property
    def weights_file(self) -> Path | None:
        """The file that the weights are read from; None: they are trained."""
        if self.weights is None or self.weights_folder is None:
            return None if self.weights is None else Path(self.weights)
        return Path(self.weights_folder) / weights.find(self.weights).file

    @model_validator(mode="before")
    @classmethod
    def _names_stand_for_facts(cls, raw: Any) -> Any:
        return weights.with_facts(raw) if isinstance(raw, dict) else raw

    @field_validator("weights", "weights_folder")
    @classmethod
    def _place_is_absolute(cls, place: str | None) -> str | None:
        if place is None or weights.is_name(place):
            return place
        return str(Path(place).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _weights_are_pinned(self) -> "SourceConfig":
        if (self.weights is None) != (self.weights_sha256 is None):
            raise ValueError(
                "weights and weights_sha256 belong together: give the file and its SHA-256 (type: sha256sum FILE)"
            )
        if self.weights is not None and self.weights_sha256 is not None:
            weights.check_pin(self.weights, self.weights_sha256)
        if self.weights_folder is not None and (self.weights is None or not weights.is_name(self.weights)):
            raise ValueError(
                "weights_folder is where weights by name lie, and source.weights is no such name; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pixels_are_possible(self) -> "SourceConfig":
        if not all(std > 0.0 for std in self.pixel_std):
            raise ValueError(f"pixel_std = {list(self.pixel_std)}: pixels are divided by it; give numbers above 0")
        return self


class PruningConfig(Settings):
    """What all methods that prune have in common."""

    residual: Literal["inside", "coupled"] = "inside"
    """`inside` prunes what can be pruned alone; `coupled` also layers whose outputs are added, as one group."""
    linear: bool = False
    """Whether hidden linear layers lose outputs, too."""
    minimum_filters_fraction: Fraction = 0.1
    """Share of each layer's original filters that always stay, at least one."""
    width_multiple: Annotated[Count, Field(json_schema_extra={"neutral": 1})] = 1
    """Each layer that loses filters keeps a multiple of so many (8 suits GPUs), or all that it has."""
    measure_norms: bool = False
    """Whether the norms' running statistics are measured again after each pruning."""
    optimiser_state: Literal["reset", "kept"] = "reset"
    """Whether momentum is kept over a pruning, from one fine-tuning to the next."""


class TrialConfig(Settings):
    """One complete prune-and-fine-tune trial; everything that changes its result, and nothing else."""

    network: str = "digits_vgg"
    data: DataConfig = DataConfig()
    source: SourceConfig = SourceConfig()
    method: SerializeAsAny[Method]
    optimisation: Optimisation = Optimisation()
    pruning: PruningConfig = PruningConfig()
    seed: Seed = 0
    """Head, order of the images, augmentation, subset, random scores: one stream each."""
    protocol: Literal["validation", "paper"] = "validation"
    """The split that decides inside the trial: `paper` is Acc(D_t) of TransTailor, read as the training images (C).
    The test split never decides."""
    last_point: Annotated[int | None, Field(ge=0, json_schema_extra={"neutral": None})] = None
    """Walk the path no further than this operating point; None walks it all."""

    @property
    def train_images(self) -> int:
        """Training images that the trial may use: fewer are used where a class has less than `images_per_class`."""
        data = self.data
        classes = max(1, data.info.target_classes)
        return (
            data.train_images
            if data.images_per_class is None
            else min(data.train_images, data.images_per_class * classes)
        )

    @property
    def deciding_images(self) -> int:
        """Images of the split that the trial's decisions read."""
        info = self.data.info
        if self.protocol == "paper":
            return self.train_images
        return info.target_images - info.test_images - self.data.train_images

    def warnings(self) -> tuple[str, ...]:
        """What a user should know before she starts the trial."""
        return self.method.warnings(self)

    @field_validator("network")
    @classmethod
    def _network_exists(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"no such network{nearest(name, NETWORKS)}")
        return name

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, method: Any) -> Any:
        return by_name(METHODS, method)

    @model_validator(mode="after")
    def _images_fit_the_network(self) -> "TrialConfig":
        wanted, given = NETWORKS[self.network].input_shape, self.data.input_shape
        is_flexible = NETWORKS[self.network].any_size and wanted[:1] == given[:1] and len(wanted) == len(given)
        if wanted != given and not is_flexible:
            raise ValueError(f"network {self.network} reads inputs of shape {wanted}, {self.data.name} has {given}")
        return self

    @model_validator(mode="after")
    def _source_is_there(self) -> "TrialConfig":
        if self.source.weights is None and not self.data.info.source_images:
            raise ValueError(
                f"data set {self.data.name} has no source task to pre-train on; give source.weights, or prepare it "
                "with --source-classes"
            )
        weights.refuse_other_network(self.source.weights, self.network)
        return self

    @model_validator(mode="after")
    def _pixels_fit_the_images(self) -> "TrialConfig":
        channels = self.data.input_shape[0]
        for name, values in (("pixel_mean", self.source.pixel_mean), ("pixel_std", self.source.pixel_std)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"source.{name} has {len(values)} numbers, and {self.data.name} has {channels} channels; give one "
                    "number, or one per channel"
                )
        return self

    @model_validator(mode="after")
    def _regulariser_is_possible(self) -> "TrialConfig":
        if self.optimisation.regulariser is not None:
            self.optimisation.regulariser.check(self.network)
        return self

    @model_validator(mode="after")
    def _optimisation_is_possible(self) -> "TrialConfig":
        optimisation.check(self)
        return self

    @model_validator(mode="after")
    def _there_is_momentum_to_keep(self) -> "TrialConfig":
        if self.pruning.optimiser_state == "kept" and (
            self.optimisation.optimiser == "adam" or not self.optimisation.momentum
        ):
            raise ValueError(
                "pruning.optimiser_state = 'kept' keeps the momentum of SGD over a pruning, and this trial has none; "
                "set optimisation.optimiser = 'sgd' and a momentum, or leave optimiser_state out"
            )
        return self

    @model_validator(mode="after")
    def _method_is_possible(self) -> "TrialConfig":
        self.method.check(self)
        return self


def trial_id(config: TrialConfig, stage_versions: dict[str, int]) -> str:
    """The trial's id, 16 hexadecimal digits: a hash of its settings and of the versions of all that it uses."""
    identity: dict[str, Any] = {
        "config": config.identity(),
        "data_sha256": config.data.sha256,
        "method_version": config.method.version,
        "stage_versions": stage_versions,
    }
    if brought := digests_in(identity["config"]):  # what of it comes from the user's own modules
        identity["imports"] = brought
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


def parse_trial(raw: dict[str, Any], where: str) -> TrialConfig:
    """The configuration in `raw`, a nested table as TOML gives it.

    Args:
        raw: the trial's settings.
        where: file and table that they come from, for the message.

    Raises:
        ConfigError: every mistake in `raw`, one per line, each with its key, the value given and what is valid.
    """
    try:
        return TrialConfig.model_validate(raw)
    except ValidationError as error:
        lines = [f"{where}: {_explain(mistake, raw)}" for mistake in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _explain(mistake: Any, raw: dict[str, Any]) -> str:
    path = [str(part) for part in mistake["loc"]]
    key = ".".join(path) or "settings"
    if mistake["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path[-1], _valid_keys(path[:-1], raw))}"
    if mistake["type"] == "missing":
        return f"{key} is missing"
    problem = mistake["msg"].removeprefix("Value error, ")
    given = mistake["input"]
    return f"{key}: {problem}" + ("" if isinstance(given, dict) else f" (given: {given!r})")


def _valid_keys(path: list[str], raw: dict[str, Any]) -> list[str]:
    """Names of the settings in the table at `path`."""
    model: type[Settings] = TrialConfig
    for part in path:
        raw = raw.get(part, {})
        model = _model_of(model, part, raw.get("name"))
    return list(model.model_fields)


def _model_of(parent: type[Settings], part: str, name: Any) -> type[Settings]:
    """The settings model of the table `part` of `parent`; a table with a name is one of a registry's."""
    if part == "method":
        return METHODS[name]
    if part == "allocation":
        return ALLOCATIONS[name]
    if part in ("regulariser", "first_regulariser"):
        return REGULARISERS[name]
    default: Settings = parent.model_fields[part].get_default()
    return type(default)
