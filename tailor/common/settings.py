"""The base of every settings class: frozen, keyword-only, no unknown keys, no silent conversion of types."""

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


@cache
def counting_fields(kind: type[Settings]) -> tuple[tuple[str, object], ...]:
    """Name and neutral value of each field that can count in an id or key; planning asks for them with every trial."""
    counted = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if not extra.get("in_no_id"):
            counted.append((name, extra.get("neutral", ALWAYS)))
    return tuple(counted)
