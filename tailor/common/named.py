"""Settings that are one of several kinds: the name says by which class they are validated."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BeforeValidator

from tailor.common.registry import Registry
from tailor.common.settings import Settings
from transtailor.names import nearest

S = TypeVar("S", bound=Settings)


def name_validator(kinds: Registry[type[S]]) -> BeforeValidator:
    """The validator for the annotation of a setting that is given by name; it calls `parse_named`."""
    return BeforeValidator(partial(parse_named, kinds))


def parse_named(kinds: Registry[type[S]], value: Any) -> Any:
    """Validate `value`, a table with a `name` or only the name; settings and None are returned as they are.

    Raises:
        ValueError: no name, or no such name (pydantic adds the place).
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    name = value.get("name")
    if not isinstance(name, str):
        raise ValueError(f"needs a name (valid: {', '.join(sorted(kinds))})")
    if name not in kinds:
        raise ValueError(f"no such {kinds.noun}: {name!r}{nearest(name, kinds)}")
    return kinds[name].model_validate(dict(value))
