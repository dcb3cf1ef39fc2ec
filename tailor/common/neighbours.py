"""Where a user's file finds the modules beside it: as with `python FILE`, its folder is first on the path. No torch."""

import importlib
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tailor.common.errors import ConfigError

OWN_PACKAGES = ("hpc", "results", "sweeps", "tailor", "transtailor")
_searched: set[Path] = set()  # the folders of users that are on the path


def search_beside(file: Path) -> str:
    """Put a file's folder first on the path, of a file in a package the folder around the package.

    Returns the package's name, such as "src.models"; empty if the folder has no `__init__.py`.

    Raises:
        ConfigError: a module of another file's folder was imported by a name that this folder has, too.
    """
    folder = file.resolve().parent
    package: list[str] = []
    while (folder / "__init__.py").is_file():
        package.insert(0, folder.name)
        folder = folder.parent
    for name in OWN_PACKAGES:  # a folder `results` beside the file hides none of them
        import_module(name)
    _refuse_other_neighbours(folder)
    if folder not in _searched:
        _searched.add(folder)
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return ".".join(package)


def _refuse_other_neighbours(folder: Path) -> None:
    """Raise ConfigError if Python would give a file of this folder another folder's module: it imports a name once."""
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if "." in name or not isinstance(file, str):
            continue
        place = Path(file)
        home = place.parent.parent if place.name == "__init__.py" else place.parent
        is_here = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
        if home in _searched and home != folder and is_here:
            raise ConfigError(
                f"{home} and {folder} both have a module {name!r}, and Python imports a name once; rename one of them, "
                "or put the files into one folder"
            )


def advice_on(error: BaseException, file: Path) -> str:
    """Return what to do about an import in a user's file that failed; empty if the error is another one."""
    if not isinstance(error, ImportError):
        return ""
    if "no known parent package" in str(error):
        return (
            f"; {file.parent} has no __init__.py, so it is no package: add one, or write the import without the "
            "dot, as in: from blocks import block"
        )
    if isinstance(error, ModuleNotFoundError):
        return f"; put it beside {file.name}, in {file.parent}, or install it"
    return ""
