"""The base of every settings class: frozen, keyword-only, no unknown keys, no silent conversion of types."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

ALWAYS = object()  # in place of a neutral value: unlike every value
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Settings(BaseModel):
    """Frozen settings; a field may declare a neutral value, with which it counts in no id ("as before it existed").

    A field that declares `in_no_id` says where something is, not what it is, and never counts.

    >>> class Example(Settings):
    ...     epochs: int = 2
    ...     warm_up: Annotated[int, Field(json_schema_extra={"neutral": 0})] = 0
    >>> Example().identity(), Example(warm_up=1).identity()
    ({'epochs': 2}, {'epochs': 2, 'warm_up': 1})
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    def identity(self) -> dict[str, object]:
        """The settings as plain JSON values, without those that count in no id."""
        plain: dict[str, object] = {}
        for name, neutral in counting_fields(type(self)):
            value = getattr(self, name)
            if value != neutral:
                plain[name] = value.identity() if isinstance(value, Settings) else value
        return plain

    def replace(self, **changes: Any) -> Self:
        """The same but for these settings, which are validated."""
        return type(self).model_validate(dict(self) | changes)


@dataclass(frozen=True)
class ReadIf:
    """When a setting is read, in the annotation of its field; a field may have several, all of which must hold."""

    holds: Callable[[Any], bool]
    """Whether a trial reads it, of its `TrialConfig`."""
    when: str
    """The same in words: "is read only with ..."."""
    refused: bool = False
    """Whether another value than the default is refused where it is not read. What arms of one comparison share is not,
    and counts as not read."""
    harmless: tuple[Any, ...] = ()
    """Values that are not refused either."""


@dataclass(frozen=True)
class NotRead:
    """A setting that a trial does not read."""

    key: str  # dotted
    value: Any
    default: Any
    condition: ReadIf

    @property
    def is_refused(self) -> bool:
        """Whether the value says something that would have no effect."""
        return self.condition.refused and self.value not in (self.default, *self.condition.harmless)


def not_read(trial: Settings, settings: Settings, prefix: str = "") -> Iterator[NotRead]:
    """Yield the settings of a trial, nested ones too, whose conditions do not hold."""
    for name, default, condition in _conditions(type(settings)):
        if not condition.holds(trial):
            yield NotRead(f"{prefix}{name}", getattr(settings, name), default, condition)
    for name, value in vars(settings).items():
        if isinstance(value, Settings):
            yield from not_read(trial, value, f"{prefix}{name}.")


@cache
def _conditions(kind: type[Settings]) -> tuple[tuple[str, Any, ReadIf], ...]:
    found = []
    for name, field in kind.model_fields.items():
        found += [(name, field.default, one) for one in field.metadata if isinstance(one, ReadIf)]
    return tuple(found)


@cache
def counting_fields(kind: type[Settings]) -> tuple[tuple[str, object], ...]:
    """Name and neutral value of each field that can count in an id or key; planning asks for them with every trial."""
    counted = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if not extra.get("in_no_id"):
            counted.append((name, extra.get("neutral", ALWAYS)))
    return tuple(counted)
