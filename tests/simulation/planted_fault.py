"""A fault that is planted in the product as a change of a few words of its source, in memory."""

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType

from tests.simulation.kinds import Kind


@dataclass(frozen=True)
class Planted:
    """A fault.

    Attributes:
        what: in words.
        where: the function, "module:Class.function".
        old: a part of its source, which is there once.
        new: what stands for it.
        kind: the only kind of day that has it; None: all have.
    """

    what: str
    where: str
    old: str
    new: str
    kind: Kind | None = None

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Run a block with the fault.

        Raises:
            ValueError: the source has no such part any more; write the fault again.
        """
        function = self._function()
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            raise ValueError(f"{self.where} has {self.old!r} {source.count(self.old)} times, expected once")
        kept = "\n".join(line for line in source.replace(self.old, self.new).splitlines() if not line.startswith("@"))
        namespace: dict[str, object] = {}
        code = compile(f"from __future__ import annotations\n{kept}", self.where, "exec")
        exec(code, function.__globals__, namespace)  # noqa: S102  # our own source
        made = namespace[function.__name__]
        assert isinstance(made, FunctionType)
        before, function.__code__ = function.__code__, made.__code__
        try:
            yield
        finally:
            function.__code__ = before

    def _function(self) -> FunctionType:
        module, _, name = self.where.partition(":")
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = inspect.getattr_static(found, part)
            found = found.fget if isinstance(found, property) else found
        function = inspect.unwrap(found)  # type: ignore[arg-type]
        assert isinstance(function, FunctionType)
        return function
