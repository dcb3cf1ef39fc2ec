"""The base of all stages, frozen records with content-addressed keys: kind, version, canonical JSON. Without torch.

A method yields stages; each names its parent with `of=`. A stage's key is the SHA-256 of its kind, its version, its
own settings in canonical JSON and its parent's key. So equal keys mean equal work, in any trial of any
sweep. What does not change the result (ranks, device, paths, logging) is in no stage.
"""

import hashlib
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, ClassVar

from tailor.core.plugin_digests import anything_is_loaded, digest_of_class
from tailor.core.settings import ALWAYS, Settings, counting_fields
from tailor.stages.records import GroupRule, Size, StageCost, StageOutcome, Task
from tailor.stages.training import Training

PARENTS = ("of", "teacher", "unpruned")  # fields that hold an outcome, in the order of `Stage.parents`


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The base of all stages; `of` is the outcome of the parent, None at a root; see PARENTS for others."""

    kind: ClassVar[str]
    of: StageOutcome | None

    @property
    def version(self) -> int:
        """Raised if the result of a stage with these settings changes: part of its key and of its trials' ids."""
        return 1

    def settings(self) -> dict[str, Any]:
        """The stage's own settings as plain JSON values, without its parents."""
        plain: dict[str, Any] = json.loads(_text_of_fields(self))
        return plain

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the stages that this one starts from."""
        kind: type = type(self)
        outcomes = [getattr(self, name) for name in _parent_fields(kind)]
        return tuple([outcome.key for outcome in outcomes if outcome is not None])

    def cost(self, size: Size) -> StageCost:  # noqa: ARG002
        """The expected cost; by default none but the description on disk."""
        return StageCost()

    def kept_fraction(self, before: float) -> float:
        """Share of the original MACs that a model has after this stage, if it had `before`."""
        return before

    def key(self) -> str:
        """SHA-256 over kind, version, settings and parents' keys, 64 hexadecimal digits.

        >>> from tailor.stages import Reinitialise
        >>> Reinitialise(of=None, seed=1).key()[:8], Reinitialise(of=None, seed=2).key()[:8]
        ('2234946e', '065a161e')
        """
        remembered = self.__dict__  # a cached_property would take a lock for each of a plan's many stages
        if "_key" not in remembered:
            remembered["_key"] = self._hash()
        known: str = remembered["_key"]
        return known

    def _hash(self) -> str:
        plugins = self._plugin_digests()
        parts = [f'"imports":{canonical_json(plugins)}'] if plugins else []
        parts.append(f'"kind":{encode_basestring_ascii(self.kind)}')
        parts.append(f'"parents":[{",".join(map(encode_basestring_ascii, self.parents))}]')
        parts.append(f'"settings":{_text_of_fields(self)}')
        parts.append(f'"version":{self.version}')
        return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()

    def _plugin_digests(self) -> list[str]:
        """The SHA-256 of the plugins that define this stage's class or the class of a setting, sorted."""
        if not anything_is_loaded():  # as for nearly all of the many stages of a plan
            return []
        values = (getattr(self, field.name) for field in fields(self))
        kinds = {type(self), *(type(value) for value in values if isinstance(value, Settings))}
        return sorted(digest for kind in kinds if (digest := digest_of_class(kind)) is not None)


StageGenerator = Generator[Stage, StageOutcome, None]
"""The stages of a trial, as a method yields them; each `yield` gives the stage's outcome back."""
StageSubgenerator = Generator[Stage, StageOutcome, StageOutcome]
"""Some stages of a trial, for `yield from`, which gives the outcome of the last stage back."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which equal values are equal text; NaN and infinities are refused.

    >>> canonical_json({"seed": 0, "data": {"name": "digits"}})
    '{"data":{"name":"digits"},"seed":0}'
    """
    return _CANONICAL.encode(value)


def settings_json(settings: Settings) -> str:
    """Canonical JSON of `settings.identity()`; that of a section which many trials share is made once.

    >>> settings_json(GroupRule(linear=True))
    '{"linear":true,"residual":"inside"}'
    """
    return _text_of_fields(settings)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def _text_of_fields(record: object) -> str:
    """Canonical JSON of a record's fields, without parents and without those that have their neutral value.

    Written by hand, because for the encoder all values of a plan's many stages would have to be converted first.
    """
    kind: type = type(record)
    parts = []
    for name, start, neutral in _key_fields(kind):
        value = getattr(record, name)
        if neutral is ALWAYS or value != neutral:
            parts.append(start + _TEXTS.get(type(value), _text)(value))
    return f"{{{','.join(parts)}}}"


def _text(value: Any) -> str:
    # Settings of a user's module may be equal and have two texts (1 and 1.0), so they share none.
    if isinstance(value, Settings) and not anything_is_loaded():
        try:
            return _text_of_shared(value)
        except TypeError:  # a user's settings with a list or a table have no hash
            return _text_of_fields(value)
    is_record = isinstance(value, Settings) or (is_dataclass(value) and not isinstance(value, type))
    return _text_of_fields(value) if is_record else canonical_json(value)


def _text_of_float(value: float) -> str:
    # -0.0 becomes 0.0: records that are equal have one text, and with it one key.
    return float.__repr__(value + 0.0) if isfinite(value) else canonical_json(value)  # which refuses it


# A plan's many trials and stages have few sections, tasks, trainings and rules.
_text_of_shared = lru_cache(maxsize=2**16)(_text_of_fields)

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


@cache
def _parent_fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in PARENTS if name in kind.__dataclass_fields__)


@cache
def _key_fields(kind: Any) -> tuple[tuple[str, str, Any], ...]:
    """The fields that can count, sorted: name, its text, its neutral value; used for every stage of a plan."""
    if issubclass(kind, Settings):
        counting = counting_fields(kind)
    else:
        names = [field for field in fields(kind) if not (issubclass(kind, Stage) and field.name in PARENTS)]
        counting = tuple((field.name, field.metadata.get("neutral", ALWAYS)) for field in names)
    return tuple(sorted((name, f'"{name}":', neutral) for name, neutral in counting))
