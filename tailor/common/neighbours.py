"""Loads a user's file, which finds the modules beside it behind libraries and this program. No torch.

Which of them a file imports is read from its code, as their contents count in keys; what was read is what runs.
"""

import ast
import hashlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tailor.common.errors import ConfigError
from transtailor.sources import PACKAGES, is_installed, line_of_user

PACKAGE = "user_modules"  # its modules are called user_modules.<stem>_<first 8 digits of the content's SHA-256>
ORIGIN = "origin.txt"  # beside a run's copy of a user's file: the path of the file that was copied
COPIES = "neighbours"  # beside such a copy: the folder with copies of its neighbours


@dataclass(frozen=True)
class UserFile:
    """A user's file and the modules of its folder that it imports, its neighbours."""

    path: Path  # that is read: the user's, or a run's copy of it
    origin: Path  # the user's
    root: Path  # its folder; of a package the folder around it
    module: str  # its name: of a file in a package the package's for it, else one that hides no other module
    is_copy: bool
    content: bytes
    neighbours: dict[str, bytes]  # path below the root -> content

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, followed by names and contents of the neighbours but for empty `__init__.py`."""
        digest = hashlib.sha256(self.content)
        for name, content in sorted(self.neighbours.items()):
            if content or not name.endswith("__init__.py"):
                digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


class _Source(SourceFileLoader):
    """Executes a source that was read before, so that the hashed source is what runs; writes no bytecode."""

    def __init__(self, fullname: str, path: Path, content: bytes) -> None:
        super().__init__(fullname, str(path))
        self._content = content

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib's interface
        """Return the compiled source; tracebacks name its file."""
        return self.source_to_code(self._content, self.path)


class _Finder(MetaPathFinder):
    """Finds users' files by the names of their modules, and their neighbours where Python finds them."""

    def __init__(self) -> None:
        self.sources: dict[str, _Source] = {}  # of users' files, by module; also for a package that imports its own
        self.folders: set[Path] = set()  # of neighbours
        self.contents: dict[Path, bytes] = {}  # of neighbours
        self.loading: UserFile | None = None  # whose neighbours can be added
        self.path_before: list[str] = []  # `sys.path` before it ran

    def find_spec(self, fullname: str, path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        """Return the spec of a user's module, None for any other one.

        Raises:
            ImportError: a neighbour that counts in no key.
        """
        if fullname in self.sources:
            return spec_from_loader(fullname, self.sources[fullname])
        roots = tuple(map(str, self.folders))
        if path is not None and not any(place.startswith(roots) for place in path):  # as of nearly all modules
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None or is_installed(spec.origin):
            return None
        file = Path(spec.origin)
        if not spec.origin.startswith(roots):  # a link in one of the folders may lead elsewhere
            file = file.parent.resolve() / file.name
        module = file.parent if file.name == "__init__.py" else file
        folders = set(module.parents[fullname.count(".") :][:1])  # the one in which its name was looked for
        if self.loading is not None:  # a file may add folders of its own to `sys.path`
            root = self.loading.root
            self.folders |= {f for f in folders if f.is_relative_to(root) and str(f) not in self.path_before}
        if folders.isdisjoint(self.folders):
            return None
        library = _spec_elsewhere(fullname, self.folders) if path is None and file not in self.contents else None
        return library or self._spec_of_neighbour(spec, file)

    def _spec_of_neighbour(self, spec: ModuleSpec, file: Path) -> ModuleSpec:
        if file not in self.contents:
            if self.loading is None or self.loading.is_copy:
                raise ImportError(
                    f"{file} counts in no key, because the file beside it was loaded without it: write `import "
                    f"{spec.name}` at the top of that one, and launch again with another --name"
                )
            self.contents[file] = b""  # now it may be opened
            self.contents[file] = file.read_bytes()
            self.loading.neighbours[file.relative_to(self.loading.root).as_posix()] = self.contents[file]
        spec.origin = str(file)
        if file.suffix == ".py":
            spec.loader = _Source(spec.name, file, self.contents[file])
        elif file.read_bytes() != self.contents[file]:  # compiled
            raise ImportError(f"{file} was changed since it was planned; launch again with another --name")
        return spec


_finder = _Finder()


def _refuse_uncounted(event: str, arguments: Any) -> None:
    """Raise ImportError where the code of a file beside a user's runs by its path, past the finder, and in no key.

    A file whose text is executed has no name then, so while a user's file is loaded it may not be opened either.
    """
    if event not in ("exec", "open") or not _finder.folders:
        return
    name = getattr(arguments[0], "co_filename", arguments[0] if _finder.loading is not None else None)
    if not isinstance(name, str) or not name.endswith(".py") or is_installed(name):
        return
    file = Path(os.path.realpath(name))
    counted = {*_finder.contents, *(Path(os.path.realpath(source.path)) for source in _finder.sources.values())}
    if file.parent in _finder.folders and counted.isdisjoint([file, file.with_suffix(".pyc")]):
        raise ImportError(f"{file} counts in no key, because it is not imported: write `import {file.stem}`")


def read_user_file(path: Path) -> UserFile:
    """Read a user's file and its neighbours, of a run's copy those that the run has.

    Raises:
        ConfigError: no such file, a neighbour has the name of another module, or was changed since it was imported.
    """
    for name in PACKAGES:
        importlib.import_module(name)  # a folder `results` beside the file hides none of them
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be imported: {error.strerror}; type the path of a .py file") from error
    is_copy = (path.parent / ORIGIN).is_file()
    origin = Path((path.parent / ORIGIN).read_text(encoding="utf-8")) if is_copy else path.resolve()
    root = next(folder for folder in origin.parents if not (folder / "__init__.py").is_file())
    module = f"{PACKAGE}.{path.stem}_{hashlib.sha256(content).hexdigest()[:8]}"
    if origin.parent != root:
        module = ".".join(origin.with_suffix("").relative_to(root).parts)
    user_file = UserFile(path, origin, root, module, is_copy, content, {})
    if is_copy:
        copies = path.parent / COPIES
        for file in filter(Path.is_file, copies.rglob("*")):
            user_file.neighbours[file.relative_to(copies).as_posix()] = file.read_bytes()
    else:
        _read_neighbours(user_file)
        if any(b"import_module" in code for code in (content, *user_file.neighbours.values())):
            loaded = [file for file in _finder.contents if file.is_relative_to(root)]  # by others: no finder is asked
            user_file.neighbours.update((file.relative_to(root).as_posix(), _finder.contents[file]) for file in loaded)
    for name, content in user_file.neighbours.items():
        if _finder.contents.get(root / name, content) != content:
            raise ConfigError(f"{root / name} was changed since it was imported; restart Python")
    return user_file


def imported(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the names of a file's import statements, each with its leading dots as a number; none of a faulty file."""
    with warnings.catch_warnings(action="ignore"):  # they come when it runs, as a fault does
        try:
            nodes = list(ast.walk(ast.parse(content)))
        except (SyntaxError, ValueError):
            return
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                start = node.module if isinstance(node, ast.ImportFrom) else None
                yield getattr(node, "level", 0), f"{start}.{alias.name}" if start else alias.name


def _read_neighbours(user_file: UserFile) -> None:
    """Add the neighbours that a user's file imports, also inside functions, and those that they import."""
    root = user_file.root
    package = ".".join(user_file.origin.parent.relative_to(root).parts)
    waiting = [(user_file.origin, [(0, package), *imported(user_file.content)])]
    while waiting:
        importer, names = waiting.pop()
        for level, name in names:
            place = importer.parents[level - 1] if level else root
            for part in name.split(".") if place.is_relative_to(root) else ():
                place /= part
                options = [place / "__init__.py", place.with_name(f"{part}.py")]
                file = next((option for option in options if part and option.is_file()), None)
                if file == importer or (file is None and not place.is_dir()):
                    break
                if file is None or is_installed(str(file)):
                    continue
                if place.parent == root:
                    _refuse_taken(part, file, importer)
                neighbour = file.relative_to(root).as_posix()
                if neighbour not in user_file.neighbours:
                    user_file.neighbours[neighbour] = file.read_bytes()
                    waiting.append((file, list(imported(user_file.neighbours[neighbour]))))


def _spec_elsewhere(name: str, folders: Set[Path]) -> ModuleSpec | None:
    """Return the spec of the module that has a name if these folders are not looked in; None: there is none."""
    path = [place for place in sys.path if Path(place).resolve() not in folders]
    finders = (finder for finder in sys.meta_path if finder is not _finder)
    return next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)


def _refuse_taken(name: str, file: Path, importer: Path) -> None:
    """Raise ConfigError if Python finds another module by the name of a neighbour."""
    root = file.parent.parent if file.name == "__init__.py" else file.parent
    spec = getattr(sys.modules.get(name), "__spec__", None) or _spec_elsewhere(name, {root})
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != file.resolve():
        raise ConfigError(
            f"{importer} imports {name!r}, which is both {file} and {spec.origin}, and Python imports a name once; "
            "rename the first one"
        )


def run_user_file(user_file: UserFile) -> ModuleType:
    """Execute a user's file; its module is in `sys.modules` meanwhile, and stays there unless it raises.

    Raises:
        ConfigError: it raises or exits, or it changes the working folder or a default of torch.
    """
    path = user_file.path
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE, "The modules of users."))
    package.__path__ = []  # so that Python looks for modules in it
    name = user_file.module
    sys.modules.pop(name, None)  # another version of it
    _finder.sources[name] = _Source(name, path, user_file.content)
    _finder.folders.add(user_file.root)
    _finder.contents |= {user_file.root / file: content for file, content in user_file.neighbours.items()}
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
        sys.addaudithook(_refuse_uncounted)
    if str(user_file.root) not in sys.path:
        sys.path.append(str(user_file.root))
    importlib.invalidate_caches()
    before = _finder.loading, _finder.path_before
    _finder.loading, _finder.path_before = user_file, list(sys.path)
    try:
        with unchanged_defaults("it"):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        advice = _advice_on(error, user_file.origin)
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        line = line_of_user(error)
        where = line if line.startswith(str(path)) else ": ".join(filter(None, (str(path), line)))
        raise ConfigError(f"{where}: {kind}{error}{advice}") from error
    finally:
        _finder.loading, _finder.path_before = before


@contextmanager
def unchanged_defaults(who: str) -> Iterator[None]:
    """Put back what a user's code has changed of `_defaults`, and raise ConfigError that names `who` ran it."""
    before = _defaults()
    try:
        yield
    finally:
        now = _defaults()
        torch = sys.modules.get("torch")
        if torch is not None and len(before) < len(now):  # this code imported it
            new = {"default_dtype": torch.float32, "default_device": torch.device("cpu"), "grad_enabled": True}
            before |= {f"torch.set_{name}": value for name, value in new.items()}
        changes = {name: value for name, value in before.items() if now[name] != value}
        for name, value in changes.items():
            module, _, function = name.partition(".")
            getattr(sys.modules[module], function)(value)
    if changes:
        raise ConfigError(f"{who} calls {', '.join(changes)}, which acts on all that follows; leave it out")


def _defaults() -> dict[str, Any]:
    """Return what acts on all that follows: name of the function that sets it -> value; of torch if it is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"os.chdir": Path.cwd()}
    return {
        "os.chdir": Path.cwd(),
        "torch.set_default_dtype": torch.get_default_dtype(),
        "torch.set_default_device": torch.get_default_device(),
        "torch.set_grad_enabled": torch.is_grad_enabled(),
    }


def _advice_on(error: BaseException, file: Path) -> str:
    """Return what to do about an import in a user's file that failed; empty if the error is another one."""
    if not isinstance(error, ImportError):
        return ""
    if str(error.name).partition(".")[0] == PACKAGE:
        return (
            f"; {file.parent} has no __init__.py, so it is no package: add one, or write the import without the "
            "dot, as in: from blocks import block"
        )
    if isinstance(error, ModuleNotFoundError):
        return f"; put it beside {file.name}, in {file.parent}, or install it"
    return ""
