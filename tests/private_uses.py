"""The private names of some libraries that the product code uses, read from its source.

A name is private if one of its dotted parts begins with an underscore and is not a `__word__`. In any file, it finds:

- imports of such names from the libraries, and as words in `import_module("...")`;
- attributes `x._name` of anything but `self`, `cls` and what was imported from elsewhere, unless the same file binds
  `_name` itself: this includes objects of unknown type, such as a tensor that is an argument;
- keywords `f(_name=...)`;
- texts "_name" in files with a `getattr`, `setattr`, `delattr` or `hasattr`, unless some file of ours binds that name;
- in classes that inherit from a class of the libraries, directly or through our classes: methods `_name` that override
  one of theirs, and `self._name` of theirs. The library's class is imported to check this.

It does not find: names that are built at run time; a private name of a library that the file also binds itself;
attributes that a library sets outside of a class and its `__init__`; internals without an underscore.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.product import ROOT, modules

LIBRARIES = ("ray", "submitit", "torch", "torchvision")
PRIVATE = re.compile(r"_(?!_\w*__$)[A-Za-z_]\w*")
BY_TEXT = {"getattr", "setattr", "delattr", "hasattr"}


@dataclass(frozen=True)
class Use:
    """One private name in one file."""

    module: str
    line: int
    name: str


def private_uses(root: Path = ROOT) -> list[Use]:
    """All uses in the product code below a folder."""
    sources = {name: Source(name, path.read_text()) for name, path in modules(root).items()}
    return [use for source in sources.values() for use in source.uses(sources)]


class Source:
    """One file of the product."""

    def __init__(self, module: str, text: str) -> None:
        self.module, self._nodes = module, list(ast.walk(ast.parse(text)))

    def uses(self, sources: "dict[str, Source]") -> list[Use]:
        """Each private name of this file, with its first line."""
        found = [*self._imports(), *self._attributes(), *self._words(sources), *self._inherited(sources)]
        lines: dict[str, int] = {}
        for line, name in sorted(found):
            lines.setdefault(name, line)
        return [Use(self.module, line, name) for name, line in lines.items()]

    @cached_property
    def imported(self) -> dict[str, str]:
        """Name in this file -> the imported name that it stands for, including aliases of aliases."""
        found: dict[str, str] = {}
        for node in self._nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in self._nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in found:
                found |= {target.id: found[node.value.id] for target in node.targets if isinstance(target, ast.Name)}
        return found

    @cached_property
    def _bound(self) -> set[str]:
        """Names that this file binds itself: functions, classes, variables, and attributes of its own objects."""
        found = set()
        for node in self._nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                found.add(ast.unparse(node.slice).strip("'"))  # of an object's dictionary
        return found

    def _imports(self) -> Iterator[tuple[int, str]]:
        for node in self._nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names = [str(word.value) for word in node.args if isinstance(word, ast.Constant)]
            for name in names:
                if _is_theirs(name):
                    yield from ((node.lineno, part) for part in name.split(".") if PRIVATE.fullmatch(part))

    def _attributes(self) -> Iterator[tuple[int, str]]:
        for node in self._nodes:
            if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
                root = _root(node)
                elsewhere = root in self.imported and not _is_theirs(self.imported[root])
                if not (elsewhere or _is_own(node) or node.attr in self._bound):
                    yield node.lineno, node.attr

    def _words(self, sources: "dict[str, Source]") -> Iterator[tuple[int, str]]:
        calls = [node for node in self._nodes if isinstance(node, ast.Call)]
        for call in calls:
            yield from ((call.lineno, word.arg) for word in call.keywords if word.arg and PRIVATE.fullmatch(word.arg))
        if any(isinstance(call.func, ast.Name) and call.func.id in BY_TEXT for call in calls):
            ours = set().union(*(source._bound for source in sources.values()))
            texts = [node for node in self._nodes if isinstance(node, ast.Constant)]
            found = [(text.lineno, text.value) for text in texts if isinstance(text.value, str)]
            yield from (use for use in found if PRIVATE.fullmatch(use[1]) and use[1] not in ours)

    def _inherited(self, sources: "dict[str, Source]") -> Iterator[tuple[int, str]]:
        for node in self._classes.values():
            theirs = {word for base in self._their_bases(node, sources) for word in _private_words(base)}
            for part in ast.walk(node) if theirs else ():
                if isinstance(part, ast.FunctionDef) and part.name in theirs:
                    yield part.lineno, part.name
                elif isinstance(part, ast.Attribute) and _is_own(part) and part.attr in theirs:
                    yield part.lineno, part.attr

    @cached_property
    def _classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self._nodes if isinstance(node, ast.ClassDef)}

    def _their_bases(self, node: ast.ClassDef, sources: "dict[str, Source]") -> Iterator[type]:
        """The libraries' classes that a class inherits from."""
        for base in node.bases:
            named = base.value if isinstance(base, ast.Subscript) else base
            first, _, rest = ast.unparse(named).partition(".")
            if first in self._classes:
                yield from self._their_bases(self._classes[first], sources)
                continue
            dotted = f"{self.imported.get(first, first)}.{rest}".rstrip(".")
            module, _, name = dotted.rpartition(".")
            if _is_theirs(dotted):
                yield _imported(dotted)
            elif module in sources:
                yield from sources[module]._of_name(name, sources)

    def _of_name(self, name: str, sources: "dict[str, Source]") -> Iterator[type]:
        if name in self._classes:
            yield from self._their_bases(self._classes[name], sources)
        elif _is_theirs(self.imported.get(name, "")):
            yield _imported(self.imported[name])


def _is_theirs(dotted: str) -> bool:
    return dotted.split(".")[0] in LIBRARIES


def _root(node: ast.expr) -> str:
    """The name that a chain of attributes, calls and indices begins with; empty where it begins with no name."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _imported(dotted: str) -> type:
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:  # `torch.nn.Module` written as an attribute of a class, not of a module
        found = getattr(_imported(module), name)
    assert isinstance(found, type), dotted
    return found


def _private_words(base: type) -> set[str]:
    """Private names that a library's class and its bases have, or set when they are made."""
    words: set[str] = set()
    for one in base.__mro__:
        if _is_theirs(one.__module__):
            code = getattr(one.__dict__.get("__init__"), "__code__", None)
            words |= {*vars(one), *vars(one).get("__annotations__", {}), *(code.co_names if code else ())}
    return {word for word in words if PRIVATE.fullmatch(word)}
