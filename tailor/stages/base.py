"""Stages: the nodes of a trial's tree, as frozen records with content-addressed keys. Without torch.

A method yields stages; each names its parent with `of=`. A stage's key is the SHA-256 of its kind, the version of
that kind, its own settings in canonical JSON and its parent's key, so equal keys mean equal work, in any trial of any
sweep. What does not change the result (ranks, device, paths, logging) is in no stage.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints

from tailor.core.plugin_digests import anything_is_loaded, digest_of_class
from tailor.core.settings import Settings

BACKWARD_WORK = 2.0  # a backward pass costs about two forward passes
STAGE_JSON_BYTES = 2_000
PARENTS = ("of", "teacher")  # fields that hold an outcome, in the order of `Stage.parents`


def neutral(value: Any) -> Any:
    """A dataclass field with a default value with which it counts in no key ("as before it existed")."""
    return field(default=value, metadata={"neutral": value})


Placement = Literal["before_norm", "after_norm", "after_activation"]
"""Where a filter's factor sits: at its layer's output, behind the norm after it (if any), or behind the activation."""


class StageOutcome(Protocol):
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

    def narrowed(self, kept_fraction: float) -> "Size":
        """The same of a network of which a share of the MACs is left, and as much of the weights."""
        return replace(self, macs=self.macs * kept_fraction, weights_bytes=int(self.weights_bytes * kept_fraction))


@dataclass(frozen=True, kw_only=True)
class StageCost:
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
    augmentation_version: int = neutral(1)


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
    milestones: tuple[float, ...] = neutral(())  # of the schedule "step": shares of the epochs
    gamma: float = neutral(0.1)  # by which the rates are multiplied there
    warm_up_epochs: int = neutral(0)
    label_smoothing: float = neutral(0.0)
    ema_decay: float | None = neutral(None)  # None: no average of the weights
    clip_gradient_norm: float | None = neutral(None)
    norm: Literal["synchronised", "local", "frozen"] = neutral("synchronised")
    accumulation_steps: int = neutral(1)
    precision: Literal["float32", "bf16"] = neutral("float32")
    memory_format: Literal["contiguous", "channels_last"] = neutral("contiguous")
    compile: bool = neutral(False)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The base of all stages; `of` is the outcome of the parent, None at a root. A field `teacher` is a parent, too."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    of: StageOutcome | None

    def settings(self) -> dict[str, Any]:
        """The stage's own settings as plain JSON values, without its parents."""
        plain: dict[str, Any] = json.loads(_text_of_fields(self))
        return plain

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the stages that this one starts from."""
        found = [getattr(self, name, None) for name in PARENTS]
        return tuple([outcome.key for outcome in found if outcome is not None])

    def cost(self, size: Size) -> StageCost:  # noqa: ARG002
        """What the stage is expected to cost; by default nothing but its description on disk."""
        return StageCost(stored_bytes=STAGE_JSON_BYTES)

    def kept_fraction(self, before: float) -> float:
        """Share of the original MACs that a model has after this stage, if it had `before`."""
        return before

    def key(self) -> str:
        """SHA-256 over kind, version, settings and parents' keys, 64 hexadecimal digits."""
        remembered = self.__dict__  # a cached_property would take a lock for each of a plan's many stages
        if "_key" not in remembered:
            remembered["_key"] = self._hashed()
        known: str = remembered["_key"]
        return known

    def _hashed(self) -> str:
        brought = self._brought()
        parts = [f'"imports":{canonical_json(brought)}'] if brought else []
        parts.append(f'"kind":{encode_basestring_ascii(self.kind)}')
        parts.append(f'"parents":[{",".join(map(encode_basestring_ascii, self.parents))}]')
        parts.append(f'"settings":{_text_of_fields(self)}')
        parts.append(f'"version":{self.version}')
        return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()

    def _brought(self) -> list[str]:
        """The SHA-256 of the user's own modules whose code this stage is or is set by, sorted."""
        if not anything_is_loaded():  # as for nearly all of the many stages of a plan
            return []
        values = (getattr(self, field.name) for field in fields(self))
        kinds = {type(self), *(type(value) for value in values if isinstance(value, Settings))}
        return sorted(digest for kind in kinds if (digest := digest_of_class(kind)) is not None)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which equal values are equal text; NaN and infinities are refused."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _text_of_fields(record: object) -> str:
    """Canonical JSON of a record's fields, without parents and without those that have their neutral value.

    Put together here, since the encoder would have plain values made first, for each of a plan's many stages.
    """
    kind: type = type(record)
    parts = []
    for name, start, neutral in _counting(kind):
        value = getattr(record, name)
        if value != neutral:
            parts.append(start + _TEXTS.get(type(value), _text)(value))
    return f"{{{','.join(parts)}}}"


def _text(value: Any) -> str:
    if isinstance(value, Settings):
        return canonical_json(value.identity())
    if is_dataclass(value) and not isinstance(value, type):
        return _text_of_fields(value)
    return canonical_json(value)


def _text_of_float(value: float) -> str:
    # -0.0 becomes 0.0: records that are equal have one text, and with it one key.
    return float.__repr__(value + 0.0) if isfinite(value) else canonical_json(value)  # which refuses it


def _text_as_declared(record: GroupRule | Task | Training) -> str:
    """The text of a record whose whole numbers are floats where its class declares floats: 1 and 1.0 are equal."""
    kind: type = type(record)
    values = {name: getattr(record, name) for name in _floats(kind)}
    floats: Any = {name: float(value) for name, value in values.items() if type(value) is int}
    return _text_of_fields(replace(record, **floats))


@cache
def _floats(kind: type) -> tuple[str, ...]:
    """The fields that are declared as float, or as float or None."""
    return tuple(name for name, hint in get_type_hints(kind).items() if hint is float or float in get_args(hint))


# A plan's many stages have few tasks, trainings and rules.
_text_of_shared = lru_cache(maxsize=2**16)(_text_as_declared)

_TEXTS: dict[type, Callable[[Any], str]] = {
    GroupRule: _text_of_shared,
    Task: _text_of_shared,
    Training: _text_of_shared,
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: _text_of_float,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}
_ALWAYS = object()  # unlike every value


@cache
def _counting(kind: type) -> tuple[tuple[str, str, Any], ...]:
    """The fields that can count, sorted: name, its text, its neutral value; asked for with every stage of a plan."""
    counting = [field for field in fields(kind) if not (issubclass(kind, Stage) and field.name in PARENTS)]
    return tuple(sorted((field.name, f'"{field.name}":', field.metadata.get("neutral", _ALWAYS)) for field in counting))
