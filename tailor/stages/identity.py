"""The base of all stages, frozen records with content-addressed keys: kind, version, canonical JSON. Without torch.

A method yields stages; each names its parent with `of=`. A stage's key is the SHA-256 of its kind, its version, its
own settings in canonical JSON and its parent's key. So equal keys mean equal work, in any trial of any
sweep. What does not change the result (ranks, device, paths, logging) is in no stage.

The text of a record is put together here, field by field. The encoder of `json` would need all values as dictionaries
first, and the sections that many stages share would be encoded again for each of them. Measured, a stage's key then
takes 1.5 times as long (11 us instead of 7), and a trial's settings 3.5 times (23 us); a plan has thousands of both.
"""

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, ClassVar

from tailor.common.plugin_digests import anything_is_loaded, digest_of_class
from tailor.common.settings import ALWAYS, Settings, counting_fields
from tailor.stages.records import GroupRule, Size, StageCost, StageOutcome, Task
from tailor.stages.training import Training

PARENTS = ("of", "teacher", "unpruned", "donor")  # fields that hold an outcome, in the order of `Stage.parents`


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
        keys = []
        for name in _parent_fields(kind):
            outcome = getattr(self, name)
            if outcome is not None:
                keys.append(outcome.key)
        return tuple(keys)

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
        # As canonical_json would write it: sorted by name, without spaces.
        text = "{"
        plugins = self._plugin_digests()
        if plugins:
            text += f'"imports":{canonical_json(plugins)},'
        parents = [encode_basestring_ascii(key) for key in self.parents]
        text += f'"kind":{encode_basestring_ascii(self.kind)},'
        text += f'"parents":[{",".join(parents)}],'
        text += f'"settings":{_text_of_fields(self)},'
        text += f'"version":{self.version}}}'
        return hashlib.sha256(text.encode()).hexdigest()

    def _plugin_digests(self) -> list[str]:
        """The SHA-256 of the plugins that define this stage's class or the class of a setting, sorted."""
        if not anything_is_loaded():  # as for nearly all of the many stages of a plan
            return []
        classes: set[type] = {type(self)}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                classes.add(type(value))
        digests = [digest_of_class(kind) for kind in classes]
        return sorted(digest for digest in digests if digest is not None)


StageGenerator = Generator[Stage, StageOutcome, None]
"""The stages of a trial, as a method yields them; each `yield` gives the stage's outcome back."""
StageSubgenerator = Generator[Stage, StageOutcome, StageOutcome]
"""Some stages of a trial, for `yield from`, which gives the outcome of the last stage back."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


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


def _text_of_fields(record: object) -> str:
    """Canonical JSON of a record's fields, without parents and without those that have their neutral value."""
    kind: type = type(record)
    parts = []
    for name, neutral in _key_fields(kind):
        value = getattr(record, name)
        if neutral is ALWAYS or value != neutral:
            parts.append(f'"{name}":{_text(value)}')
    return f"{{{','.join(parts)}}}"


def _text(value: Any) -> str:
    """Canonical JSON of the value of a field."""
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is float:
        return _text_of_float(value)
    if kind is int:
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    if kind in (GroupRule, Task, Training):
        return _text_of_shared(value)
    if isinstance(value, Settings):
        return _text_of_section(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _text_of_fields(value)
    return canonical_json(value)


def _text_of_float(value: float) -> str:
    if not isfinite(value):
        return canonical_json(value)  # raises ValueError
    return repr(value + 0.0)  # -0.0 becomes 0.0: records that are equal have one text, and with it one key


def _text_of_section(settings: Settings) -> str:
    """Canonical JSON of settings inside a record, kept for the next record with equal ones."""
    if anything_is_loaded():  # settings of a user's module may be equal and have two texts (1 and 1.0)
        return _text_of_fields(settings)
    try:
        return _text_of_shared(settings)
    except TypeError:  # a user's settings with a list or a table have no hash
        return _text_of_fields(settings)


@lru_cache(maxsize=2**16)  # the thousands of trials and stages of a plan have few different ones
def _text_of_shared(record: object) -> str:
    return _text_of_fields(record)


@cache
def _parent_fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in PARENTS if name in kind.__dataclass_fields__)


@cache
def _key_fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Name and neutral value of each field that can count, sorted by name; used for every stage of a plan."""
    if issubclass(kind, Settings):
        return tuple(sorted(counting_fields(kind)))
    counted = []
    for field in fields(kind):
        is_parent = issubclass(kind, Stage) and field.name in PARENTS
        if not is_parent:
            counted.append((field.name, field.metadata.get("neutral", ALWAYS)))
    return tuple(sorted(counted))
