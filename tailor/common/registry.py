"""Named, frozen records that specs refer to (networks, data sets, methods); importing this never imports torch."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from tailor.common.errors import ConfigError
from transtailor.names import nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from name to record. A second record of the same name raises; a miss names the nearest name.

    >>> colours = Registry[int]("colour")
    >>> colours.add("green", 2)
    2
    >>> colours["gren"]
    Traceback (most recent call last):
    tailor.common.errors.ConfigError: no such colour: 'gren'; did you mean 'green'? (valid: green)

    Args:
        noun: what a record is, for messages.
        built_in: a module that registers this program's records; it imports users of this registry, so it is imported
            when a record is first looked up.
    """

    elsewhere = ""  # what a message says of names that are registered by other means

    def __init__(self, noun: str, built_in: str | None = None) -> None:
        self.noun = noun
        self._built_in = built_in
        self._records: dict[str, T] = {}

    def add(self, name: str, record: T) -> T:
        """Register `record` under `name` and return it. Raises ValueError: the name is taken; choose another one."""
        if name in self._records:
            raise ValueError(
                f"{self.noun} {name!r} is registered already; choose another name, or restart Python, if this file was "
                "edited"
            )
        self._records[name] = record
        return record

    @contextmanager
    def borrow(self, name: str, record: T) -> Iterator[T]:
        """Register `record` under `name` until the context ends. Raises ValueError: the name is taken."""
        self.add(name, record)
        try:
            yield record
        finally:
            self.remove(name)

    def remove(self, name: str) -> None:
        """Forget the record of this name."""
        del self._records[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._records and not self._can_be_added(name):  # plans ask this many times for every trial
            raise ConfigError(f"no such {self.noun}: {name!r}{nearest(name, list(self))}{self.elsewhere}")
        return self._records[name]

    def __contains__(self, name: object) -> bool:
        return name in self._records or self._can_be_added(name)

    def __iter__(self) -> Iterator[str]:
        self._import_built_in()
        return iter(self._records)

    def __len__(self) -> int:
        self._import_built_in()
        return len(self._records)

    def _can_be_added(self, name: object) -> bool:
        """Import the built-in records, if that has not happened yet; True if the name is registered now."""
        self._import_built_in()
        return name in self._records

    def _import_built_in(self) -> None:
        if self._built_in is not None:
            module = self._built_in
            self._built_in = None  # first, because the module may look records up while it is imported
            importlib.import_module(module)


def function_of(function_or_path: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function in a record; one that is written as "module:function" is imported now."""
    if not isinstance(function_or_path, str):
        return function_or_path
    module, name = function_or_path.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
