"""What a trial is: one frozen configuration, its id, and errors that name the key, the value and the nearest name."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from tailor.catalog import DATASETS, NETWORKS
from tailor.errors import ConfigError
from tailor.methods import METHODS, Method
from tailor.registry import nearest
from tailor.settings import Count, Rate, Seed, Settings
from tailor.stage import canonical_json


class DataConfig(Settings):
    """The target data, as three splits of which the test split never moves."""

    name: str = "digits"
    train_images: Count = 200
    """Training images of the target; what is neither these nor test is validation."""
    images_per_class: Count | None = None
    """Draw only so many training images of each class, by the trial's seed; None takes all."""
    split_seed: Seed = 0
    """Which images are train, validation and test; fixed by default, so that seeds share their test set."""
    augmentation: Literal["none", "shift"] = "none"
    """`shift` moves each training image by up to one pixel."""

    @model_validator(mode="after")
    def _splits_are_possible(self) -> "DataConfig":
        info = DATASETS[self.name]
        pool = info.target_images - info.test_images
        if self.train_images >= pool:
            raise ValueError(
                f"train_images = {self.train_images} leaves no validation image: {self.name} has {pool} target images "
                f"beside its {info.test_images} test images; choose at most {pool - 1}"
            )
        return self


class SourceConfig(Settings):
    """How the embedded source network is trained, once per network and source seed."""

    seed: Seed = 0
    epochs: Count = 12
    batch_size: Count = 32
    learning_rate: Rate = 0.05
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Rate = 0.0005


class Optimisation(Settings):
    """How the target is trained; the same for every method (the printed settings of TransTailor by default)."""

    epochs: Count = 25
    """Epochs of each fine-tuning."""
    head_epochs: Count = 40
    """Epochs of the first fit of the new head."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images per step over all ranks together."""
    learning_rate: Rate = 0.0005
    """For all layers but the head."""
    head_learning_rate: Rate = 0.005
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Rate = 0.005
    schedule: Literal["constant", "cosine"] = "constant"


class TrialConfig(Settings):
    """One complete prune-and-fine-tune trial; everything that changes its result, and nothing else."""

    network: str = "digits_vgg"
    data: DataConfig = DataConfig()
    source: SourceConfig = SourceConfig()
    method: SerializeAsAny[Method]
    optimisation: Optimisation = Optimisation()
    seed: Seed = 0
    """Head, order of the images, augmentation, subset, random scores: one stream each."""
    protocol: Literal["validation"] = "validation"
    """The split that decides inside the trial; the test split never does."""
    last_point: Annotated[int | None, Field(ge=0, json_schema_extra={"neutral": None})] = None
    """Walk the path no further than this operating point; None walks it all."""

    @field_validator("network")
    @classmethod
    def _network_exists(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"no such network{nearest(name, NETWORKS)}")
        return name

    @field_validator("data", mode="before")
    @classmethod
    def _data_exists(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("name", "digits") not in DATASETS:
            raise ValueError(f"no such data set: {data['name']!r}{nearest(str(data['name']), DATASETS)}")
        return data

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, method: Any) -> Any:
        if not isinstance(method, dict):
            return method
        name = method.get("name")
        if not isinstance(name, str):
            raise ValueError(f"needs a name (valid: {', '.join(sorted(METHODS))})")
        if name not in METHODS:
            raise ValueError(f"no such method: {name!r}{nearest(name, METHODS)}")
        return METHODS[name].model_validate(method)

    @model_validator(mode="after")
    def _images_fit_the_network(self) -> "TrialConfig":
        wanted, given = NETWORKS[self.network].image_shape, DATASETS[self.data.name].image_shape
        if wanted != given:
            raise ValueError(f"network {self.network} reads images of shape {wanted}, {self.data.name} has {given}")
        return self


def trial_id(config: TrialConfig, stage_versions: dict[str, int]) -> str:
    """The trial's id, 16 hexadecimal digits: a hash of its settings and of the versions of all that it uses."""
    identity = {
        "config": config.identity(),
        "method_version": config.method.version,
        "stage_versions": stage_versions,
    }
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
        if part == "method":
            model = METHODS[raw["method"]["name"]]
        else:
            model = type(getattr(TrialConfig(method=METHODS["head_only"].model_validate({})), part))
    return list(model.model_fields)
