"""A trial's frozen configuration with its method, and the trial's id. Without torch."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Set
from functools import lru_cache
from inspect import isgeneratorfunction, signature
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator, model_validator

from tailor.common.named import name_validator
from tailor.common.plugin_digests import anything_is_loaded, digest_of_class, digests_in
from tailor.common.registry import Registry
from tailor.common.settings import Seed, Settings, not_read
from tailor.config.allocations import ToLatency
from tailor.config.data import DataConfig
from tailor.config.latency_table import read_table
from tailor.config.needs import refuse_missing
from tailor.config.optimisation import Optimisation, refuse_classes
from tailor.config.pruning import OF_TARGETS_DATA, PruningConfig
from tailor.config.source import SourceConfig
from tailor.facts import weights
from tailor.facts.metrics import LOWER_IS_BETTER, Metric, default_metric, unfit
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.stages import StageGenerator, canonical_json, settings_json
from transtailor.names import nearest
from transtailor.validation import list_faults

CLASSES = 2  # outputs of a task with classes, or more; one output is a real value
IMAGE_DIMS = 3

MethodT = TypeVar("MethodT", bound="Method")


class Method(Settings):
    """Settings of one method, and a generator that yields its stages in the order of its paper.

    Subclasses set `name` to a literal and are registered with `register`.

    >>> METHODS["transtailor"](steps=2).label()
    'transtailor'
    """

    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()
    """What a trial must have for it; tailor/config/needs.py has the words."""
    unread: ClassVar[frozenset[str]] = frozenset()
    """Dotted keys of the settings that it never reads, of whatever value; a table stands for all in it."""
    keeps_source_head: ClassVar[bool] = False
    """Whether it trains on the source task with the head of the pre-trained network, which must fit that task."""
    tunes_pruned: ClassVar[bool] = True
    """Whether it fine-tunes a pruned network, which an unpruned one can teach."""
    has_own_penalty: ClassVar[bool] = False
    """Whether it has a penalty of its own in place of optimisation.regulariser."""
    prunes_to_a_budget: ClassVar[bool] = True
    """Whether it reads pruning.width_multiple, of which `auto` is 1 if it does not."""
    rate: ClassVar[str] = "optimisation.learning_rate"
    """The setting that is the learning rate of its last training on the target: what `rate` in a spec means for it."""
    name: str

    @abstractmethod
    def walk(self, config: "TrialConfig") -> StageGenerator:
        """Yield the stages of a trial in order; each `yield` gives the stage's outcome back."""

    def resolve(self, network: str) -> "Method":  # noqa: ARG002
        """Return the same settings with each `auto` replaced by its value for the network, as the tables have it."""
        return self

    def check(self, config: "TrialConfig") -> None:
        """Raise ValueError for settings that cannot be combined, before anything is trained."""

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """What is chosen in it, as messages name it, with what each needs."""
        return {f"method {self.name!r}": self.needs}

    @property
    def removes(self) -> bool:
        """Whether it removes anything by a surgery."""
        return True

    @property
    def scores_by_images(self) -> bool:
        """Whether it scores filters by the images of pruning.scores_from."""
        return True

    @property
    def trains_by_sgd(self) -> bool:
        """Whether something in it is trained by SGD, whatever optimisation.optimiser is."""
        return False

    def latency_budgets(self) -> tuple[ToLatency, ...]:
        """Return the budgets in milliseconds of its path by a table; by default none."""
        return ()

    def label(self) -> str:
        """Return its name in comparisons, which a spec can replace."""
        return self.name


METHODS: Registry[type[Method]] = Registry("method", built_in="tailor.methods")


def register(method: type[MethodT]) -> type[MethodT]:
    """Make a method usable by its name (class decorator).

    >>> METHODS["head_only"].__name__  # a class decorated with @register
    'HeadOnly'

    Raises:
        TypeError: it is no class of methods, or has no generator `walk` of one argument.
    """
    if not issubclass(method, Method):
        raise TypeError(f"{method.__name__} is no method: write class {method.__name__}(Method)")
    if not isgeneratorfunction(method.walk) or len(signature(method.walk).parameters) != len(("self", "config")):
        raise TypeError(f"{method.__name__} has no generator walk(self, config), which yields stages")
    METHODS.add(method.model_fields["name"].default, method)
    return method


class TrialConfig(Settings):
    """One complete prune-and-fine-tune trial: all settings that change its result, and no others.

    >>> TrialConfig(method="fine_tune", network="digits_resnet").optimisation.epochs
    25
    """

    network: str = "digits_vgg"
    """An embedded network, one of torchvision's or timm's, or your own, by name."""
    data: DataConfig = DataConfig()
    """The target task."""
    source: SourceConfig = SourceConfig()
    """The pre-trained network."""
    method: Annotated[SerializeAsAny[Method], name_validator(METHODS)]
    """How the trial prunes and trains: a name, or a table with the name and its settings."""
    optimisation: Optimisation = Optimisation()
    """How the target is trained, whatever the method."""
    pruning: PruningConfig = PruningConfig()
    """What can be removed, whatever the method."""
    seed: Seed = 0
    """Of head, order of the images, augmentation, subset, random scores, each with its own stream."""
    protocol: Literal["validation", "paper"] = "validation"
    """The split that the trial's decisions read: `paper` is Acc(D_t) of TransTailor, read as the training images (C).
    Decisions never read the test split."""
    metric: Annotated[Metric | None, Field(json_schema_extra={"neutral": None})] = None
    """The score that decides, and that the tables compare; None is accuracy, of real values R squared."""
    validate_every: Annotated[int | None, Field(ge=1, json_schema_extra={"in_no_id": True})] = None
    """Epochs after which a fine-tuning measures the validation split, for learning curves; it changes no result."""

    @property
    def latency_table(self) -> Path | None:
        """The file of the table that the method's allocation reads; None if it reads none."""
        budgets = self.method.latency_budgets()
        return Path(budgets[0].table) if budgets and budgets[0].table is not None else None

    @property
    def unread(self) -> frozenset[str]:
        """Dotted keys of the settings that have no effect on this trial; a table stands for all in it.

        Wherever the settings of a trial are listed, these are left out or null. Of a method that is the user's own, all
        count as read.

        >>> sorted(key for key in TrialConfig(method="prune").unread if key.startswith("method."))
        ['method.alpha_epochs', 'method.alpha_learning_rate', 'method.first_regulariser']
        """
        is_users_method = digest_of_class(type(self.method)) is not None
        return frozenset() if is_users_method else self.method.unread | {one.key for one in not_read(self, self)}

    @property
    def network_info(self) -> NetworkInfo:
        """What is known of the network."""
        return NETWORKS[self.network]

    @property
    def donor(self) -> DataConfig | None:
        """The data set whose images score the filters; None: the target's own, or what is made of it.

        It has the target's numbers of images and pixels, and lies beside the target.

        Raises:
            ValueError: there is no such data set, or it has too few images.
        """
        name = self.pruning.scores_from
        if name == "target" or name in OF_TARGETS_DATA:
            return None
        return _data_named(name, self.data)

    @property
    def train_images(self) -> int:
        """Most training images that the trial can use; it uses fewer if a class has less than `images_per_class`."""
        data = self.data
        if data.images_per_class is None:
            return data.train_images
        classes = max(1, data.info.target_classes)
        return min(data.train_images, data.images_per_class * classes)

    def warnings(self) -> tuple[str, ...]:
        """Return what a user should know before starting the trial."""
        lines: list[str] = []
        uncounted = NETWORKS[self.network].uncounted
        if uncounted:
            lines.append(f"MACs of network {self.network!r} do not count {', '.join(uncounted)}")
        table = self.latency_table
        if table is not None and table.is_file():  # the launch refuses a trial whose table is absent
            lines += read_table(table).warnings()
        return tuple(lines)

    @field_validator("network")
    @classmethod
    def _network_exists(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"no such network{nearest(name, NETWORKS)}{NETWORKS.elsewhere}")
        NETWORKS[name]  # finds its facts: what is wrong with them is said of this setting, not of one that reads them
        return name

    @field_validator("metric", mode="before")
    @classmethod
    def _metric_can_decide(cls, metric: object) -> object:
        if metric in LOWER_IS_BETTER:
            raise ValueError(
                f"{metric} decides nothing, because the larger score wins everywhere; it is in the tables as "
                f"validation_{metric} and test_{metric} whatever decides. Type accuracy, balanced_accuracy or macro_f1"
            )
        return metric

    @field_validator("metric")
    @classmethod
    def _metric_fits_the_task(cls, metric: Metric | None, info: ValidationInfo) -> Metric | None:
        """Replace the usual metric of the task by None, which counts in no id."""
        data: DataConfig | None = info.data.get("data")
        if data is None or metric is None:
            return metric
        classes = data.info.target_classes
        reason = unfit(metric, classes)
        if reason is not None:
            raise ValueError(reason)
        return None if metric == default_metric(classes) else metric

    @field_validator("pruning")
    @classmethod
    def _multiple_is_a_number(cls, pruning: PruningConfig, info: ValidationInfo) -> PruningConfig:
        """Replace the `auto` of width_multiple by its number, which depends on nothing but network and method."""
        if "network" not in info.data or "method" not in info.data:
            return pruning  # one of them is wrong, which is an error of its own
        network: str = info.data["network"]
        method: Method = info.data["method"]
        if pruning.width_multiple == "auto":
            multiple = NETWORKS[network].width_multiple if method.prunes_to_a_budget else 1
            pruning = _with_multiple(pruning, multiple)
        return pruning

    @field_validator("pruning")
    @classmethod
    def _own_name_is_the_target(cls, pruning: PruningConfig, info: ValidationInfo) -> PruningConfig:
        """Replace the target's own name in `scores_from`, so that one axis over donors serves all targets."""
        data: DataConfig | None = info.data.get("data")
        if data is not None and pruning.scores_from == data.name:
            return pruning.model_copy(update={"scores_from": "target"})
        return pruning

    @model_validator(mode="after")
    def _images_fit_the_network(self) -> "TrialConfig":
        network = NETWORKS[self.network]
        network_shape = network.input_shape
        data_shape = self.data.input_shape
        differ_only_in_size = len(network_shape) == len(data_shape) and network_shape[:1] == data_shape[:1]
        fits = network_shape == data_shape or (network.any_size and differ_only_in_size)
        if not fits:
            own_shape = self.data.info.input_shape
            advice = "choose another network, see docs/networks.md, or another data.name"
            if differ_only_in_size and len(own_shape) == 3:
                px = max(network_shape[1:])
                advice = (
                    f"set data.crop_px = {px}" if px <= min(own_shape[1:]) else f"prepare them with --image-px {px}"
                )
            cut = "" if own_shape == data_shape else f", cut to {data_shape}"
            raise ValueError(
                f"network {self.network} reads inputs of shape {network_shape}, and samples of {self.data.name} are "
                f"{own_shape}{cut}; {advice}"
            )
        return self

    @model_validator(mode="after")
    def _source_exists(self) -> "TrialConfig":
        if self.source.weights is None and not self.data.info.source_images:
            raise ValueError(
                f"data set {self.data.name} has no source task to pre-train on; give source.weights, or prepare it "
                "with --source-classes"
            )
        weights.refuse_other_network(self.source.weights, self.network)
        return self

    @model_validator(mode="after")
    def _settings_are_read(self) -> "TrialConfig":
        for one in not_read(self, self):
            if one.is_refused:
                raise ValueError(
                    f"{one.key} = {one.value!r} has no effect: it is read only with {one.condition.when}; leave it "
                    f"out, also of tied_to_seed, or give {one.default!r} for method {self.method.name!r}"
                )
        return self

    @model_validator(mode="after")
    def _needs_are_met(self) -> "TrialConfig":
        parts = self.method.parts
        regulariser = self.optimisation.regulariser
        if regulariser is not None:
            parts = parts | {f"regulariser {regulariser.name!r}": regulariser.needs}
        refuse_missing(self, parts)
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
    def _classes_have_weights(self) -> "TrialConfig":
        refuse_classes(self.optimisation.class_weights, self.data)
        return self

    @model_validator(mode="after")
    def _donor_is_possible(self) -> "TrialConfig":
        name = self.pruning.scores_from
        if name == "target":
            return self
        given = f"pruning.scores_from = {name!r}"
        target = self.data.info
        if target.target_classes < CLASSES:
            raise ValueError(f"{given} needs a target with classes, and {self.data.name} has real values; leave it out")
        has_other_classes = name == "source" or name not in OF_TARGETS_DATA
        if has_other_classes and isinstance(self.optimisation.class_weights, dict):
            raise ValueError(
                f"{given} has other classes than those that optimisation.class_weights names, and its head is fitted "
                "by them, too; set class_weights = 'balanced'"
            )
        images = self.data.train_images
        if name == "source" and (target.source_classes < CLASSES or target.source_images < images):
            raise ValueError(
                f"{given}: {self.data.name} has {target.source_images} source images of {target.source_classes} "
                f"classes, and train_images = {images}; choose another donor"
            )
        if name in ("noise", "scrambled") and len(self.data.input_shape) != IMAGE_DIMS:
            raise ValueError(f"{given} is made of images, and {self.data.name} has rows of numbers; choose 'shuffled'")
        try:
            donor = self.donor
        except ValueError as error:  # of pydantic, too
            reason = list_faults(error)[0].expected if isinstance(error, ValidationError) else error
            raise ValueError(f"{given}: {reason}") from error
        if donor is not None:
            self._check_data_of(donor, given)
        return self

    def _check_data_of(self, donor: DataConfig, given: str) -> None:
        if donor.samples_sha256 == self.data.samples_sha256:
            raise ValueError(f"{given} is the target itself, {self.data.name}; leave scores_from out")
        if donor.info.target_classes < CLASSES:
            raise ValueError(f"{given}: a head for it needs two classes or more; choose another donor")
        if donor.input_shape != self.data.input_shape:
            raise ValueError(
                f"{given} has samples of shape {donor.input_shape}, and {self.data.name} of {self.data.input_shape}; "
                "prepare it again with the same --image-px, or choose another donor"
            )

    @model_validator(mode="after")
    def _method_is_possible(self) -> "TrialConfig":
        self.method.check(self)
        return self


def settings_read(settings: Mapping[str, Any], unread: Set[str], prefix: str = "") -> dict[str, Any]:
    """Return nested settings without those that `TrialConfig.unread` names: what a list of a trial's settings shows.

    >>> settings_read({"seed": 0, "method": {"name": "prune", "alpha_epochs": 10}}, {"method.alpha_epochs", "pruning"})
    {'seed': 0, 'method': {'name': 'prune'}}

    Args:
        prefix: dotted key of the table that the settings are, with a dot at its end; "" for a whole trial.
    """
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if key not in unread:
            kept[name] = settings_read(value, unread, f"{key}.") if isinstance(value, dict) else value
    return kept


@lru_cache(maxsize=1024)  # a plan asks for the few donors of its thousands of trials again and again
def _data_named(name: str, like: DataConfig) -> DataConfig:
    """Return another data set, with the same numbers of images and pixels. Raises ValueError: it cannot have them."""
    expected = None  # beside a layout they complete it, and the other data set has no layout
    if like.layout is None and like.expected is not None:
        expected = like.expected.model_copy(update={"prepare": ""})
    own = {"name": name, "layout": None, "sha256": None, "expected": expected}
    return DataConfig.model_validate(like.model_dump() | own)


@lru_cache(maxsize=1024)  # the thousands of trials of a plan share their sections
def _with_multiple(pruning: PruningConfig, multiple: int) -> PruningConfig:
    return pruning.model_copy(update={"width_multiple": multiple})


def trial_id(config: TrialConfig, stage_versions: dict[str, int]) -> str:
    """Return the trial's id, 16 hexadecimal digits: a hash of its settings and the versions of all parts it uses.

    >>> trial_id(TrialConfig(method="head_only"), stage_versions={"fit_head": 1})
    '7ddae798332d3fca'
    """
    parts: dict[str, Any] = {
        "data_sha256": config.data.samples_sha256,
        "method_version": config.method.version,
        "stage_versions": stage_versions,
    }
    donor = config.donor
    if donor is not None:
        parts["donor_sha256"] = donor.samples_sha256
    if anything_is_loaded():
        plugin_digests = digests_in(config.identity())  # of the user's modules that the settings name
        if plugin_digests:
            parts["imports"] = plugin_digests
    # The text of one JSON object whose keys are sorted: "config" comes first, the parts follow.
    text = f'{{"config":{settings_json(config)},{canonical_json(parts)[1:]}'
    return hashlib.sha256(text.encode()).hexdigest()[:16]
