"""Stages: the nodes of a trial's tree, as frozen records with content-addressed keys. Without torch.

A method yields stages; each names its parent with `of=`. A stage's key is the SHA-256 of its kind, the version of
that kind, its own settings in canonical JSON and its parent's key, so equal keys mean equal work, in any trial of any
sweep. What does not change the result (ranks, device, paths, logging) is in no stage.
"""

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, Protocol


class Outcome(Protocol):
    """What a method gets back for a stage: its key and, for an operating point, what decisions may read."""

    @property
    def key(self) -> str:
        """The stage's key, 64 hexadecimal digits."""
        ...

    @property
    def validation_accuracy(self) -> float:
        """Accuracy on the validation split, in [0, 1]; NaN where it is not known (planning, other stages)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """The images that a stage reads, as far as they are part of its identity."""

    name: str
    sha256: str
    train_images: int
    images_per_class: int | None
    split_seed: int
    subset_seed: int | None  # None unless a subset is drawn
    augmentation: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a training stage trains; the batch size is the global one, over all ranks."""

    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    momentum: float
    weight_decay: float
    schedule: str
    seed: int  # order of the images and augmentation


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The base of all stages; `of` is the outcome of the parent, None at a root."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    of: Outcome | None

    def settings(self) -> dict[str, Any]:
        """The stage's own settings as plain JSON values, without its parent."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "of"}

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the stages that this one starts from."""
        return () if self.of is None else (self.of.key,)

    def key(self) -> str:
        """SHA-256 over kind, version, settings and parents' keys, 64 hexadecimal digits."""
        identity = {
            "kind": self.kind,
            "version": self.version,
            "settings": self.settings(),
            "parents": list(self.parents),
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TrainSource(Stage):
    """The network trained from scratch on the source task; the pre-trained network of the embedded data set."""

    kind = "train_source"
    network: str
    data_name: str
    data_sha256: str
    initial_seed: int
    training: Training


@dataclass(frozen=True, kw_only=True)
class FitHead(Stage):
    """A new last layer for the target's classes, trained on frozen features (Algorithm 1, line 1)."""

    kind = "fit_head"
    task: Task
    head_seed: int
    training: Training


@dataclass(frozen=True, kw_only=True)
class TrainFactors(Stage):
    """Scaling factors alpha at the filters' outputs, trained while every weight is frozen (Eq. 3)."""

    kind = "train_factors"
    task: Task
    training: Training


@dataclass(frozen=True, kw_only=True)
class ScoreFilters(Stage):
    """One score per prunable filter; the smaller, the sooner it goes."""

    kind = "score_filters"
    criterion: str
    task: Task | None  # None: the criterion reads no data
    batch_size: int | None
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Prune(Stage):
    """The lowest-scored filters of the whole network removed until a budget is reached."""

    kind = "prune"
    removed_macs_fraction: float  # of the original network with the target's head
    minimum_filters_fraction: float  # of each layer's original filters that stay, at least one


@dataclass(frozen=True, kw_only=True)
class AttachImportance(Stage):
    """The scores put into the model as frozen factors for importance-aware fine-tuning (Eq. 6)."""

    kind = "attach_importance"
    mode: Literal["fold", "sqrt", "grad", "raw", "off"]


@dataclass(frozen=True, kw_only=True)
class FoldImportance(Stage):
    """The factors multiplied into the weights, so that the function stays and the next iteration starts plain."""

    kind = "fold_importance"


@dataclass(frozen=True, kw_only=True)
class FineTune(Stage):
    """All weights trained on the target."""

    kind = "fine_tune"
    task: Task
    training: Training


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Stage):
    """A sub-model that the trial reached: its cost, its validation accuracy, its predictions."""

    kind = "operating_point"
    task: Task
    asked_removed_macs_fraction: float


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which equal values are equal text; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value
