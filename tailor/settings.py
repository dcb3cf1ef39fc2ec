"""The base of every settings model: frozen, keyword-only, no unknown keys, no silent conversion of types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Settings(BaseModel):
    """Frozen settings; a field may declare a neutral value, with which it counts in no id ("as before it existed").

    A field that declares `in_no_id` says where something is, not what it is, and never counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    def identity(self) -> dict[str, object]:
        """The settings as plain JSON values, without those that count in no id."""
        plain: dict[str, object] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            extra = field.json_schema_extra
            if isinstance(extra, dict) and (extra.get("in_no_id") or extra.get("neutral", plain) == value):
                continue
            plain[name] = value.identity() if isinstance(value, Settings) else value
        return plain
