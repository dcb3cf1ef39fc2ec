"""Stages: the nodes of a trial's tree, as frozen records with content-addressed keys. Without torch.

A method yields stages; each names its parent with `of=`. A stage's key is the SHA-256 of its kind, the version of
that kind, its own settings in canonical JSON and its parent's key, so equal keys mean equal work, in any trial of any
sweep. What does not change the result (ranks, device, paths, logging) is in no stage.
"""

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, Protocol

from tailor.imports import digest_of_class
from tailor.settings import Settings

BACKWARD_WORK = 2.0  # a backward pass costs about two forward passes
STAGE_JSON_BYTES = 2_000

Placement = Literal["before_norm", "after_norm", "after_activation"]
"""Where a filter's factor sits: at its layer's output, behind the norm after it (if any), or behind the activation."""


class Outcome(Protocol):
    """What a method gets back for a stage: its key and, for an operating point, what decisions may read."""

    @property
    def key(self) -> str:
        """The stage's key, 64 hexadecimal digits."""
        ...

    @property
    def deciding_score(self) -> float:
        """What the trial decides by, the larger the better; NaN where it is not known (planning, other stages)."""
        ...

    @property
    def removed_macs_fraction(self) -> float:
        """Of a pruning, the share of the original MACs that is gone; NaN where it is not known."""
        ...


@dataclass(frozen=True, kw_only=True)
class GroupRule:
    """Which filters can be removed, the same for every method of a comparison."""

    residual: Literal["inside", "coupled"] = "inside"  # coupled: layers whose outputs are added lose filters together
    linear: bool = False  # whether hidden linear layers lose outputs, too


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the cost of a stage depends on, as a plan knows it."""

    macs: float  # of one image at the model's present width
    weights_bytes: int
    head_bytes: int
    train_images: int
    source_images: int
    measured_images: int  # of validation and test together

    @property
    def both_passes(self) -> float:
        """Work of one image forward and backward."""
        return self.macs * (1.0 + BACKWARD_WORK)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Expected work (forward passes of one image x MACs) and bytes on disk of a stage."""

    work: float = 0.0
    stored_bytes: int = 0


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
    crop_px: int | None = None  # side of the square that a network sees of each image; None: all of it


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
    optimiser: Literal["sgd", "adam"] = "sgd"


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

    def cost(self, size: Size) -> Cost:  # noqa: ARG002
        """What the stage is expected to cost; by default nothing but its description on disk."""
        return Cost(stored_bytes=STAGE_JSON_BYTES)

    def kept_fraction(self, before: float) -> float:
        """Share of the original MACs that a model has after this stage, if it had `before`."""
        return before

    def key(self) -> str:
        """SHA-256 over kind, version, settings and parents' keys, 64 hexadecimal digits."""
        identity = {
            "kind": self.kind,
            "version": self.version,
            "settings": self.settings(),
            "parents": list(self.parents),
        }
        values = (getattr(self, field.name) for field in fields(self))
        kinds = {type(self), *(type(value) for value in values if isinstance(value, Settings))}
        if brought := sorted(digest for kind in kinds if (digest := digest_of_class(kind)) is not None):
            identity["imports"] = brought  # code of a user's own modules
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which equal values are equal text; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.identity()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value
