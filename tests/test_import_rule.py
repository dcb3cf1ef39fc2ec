"""What may import what, read from the code: rooms, sub-packages, modules; how large a folder and a file may be."""

import sys
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.import_graph import PRODUCT, ROOMS, ROOT, circles, module_imports, modules, names_imported, package_imports

FORBIDDEN = {
    "transtailor": {"hpc", "tailor", "sweeps", "results", "torch", "ray", "submitit", "pandas", "pyarrow"},
    "hpc": {"tailor", "sweeps", "results"},
    "tailor": {"hpc", "sweeps", "results", "ray", "submitit"},
    "results": {"hpc", "tailor", "sweeps", "torch", "ray", "submitit"},
    "sweeps": set[str](),
}
MOST_MODULES = 15  # of a folder
MOST_LINES = 400  # of a file, tests and benchmarks included


def top_level_imports(path: Path) -> set[str]:
    """Top-level names of all that a file imports, wherever in the file the import is."""
    return {name.split(".")[0] for name in names_imported(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_imports_only_what_it_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    forbidden = FORBIDDEN[room] | {"tools", "tests", "benchmarks"}
    wrong = {
        path.relative_to(ROOT).as_posix(): found for path in files if (found := top_level_imports(path) & forbidden)
    }
    assert wrong == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(module_imports()) == []


def test_no_packages_import_each_other_in_a_circle() -> None:
    assert circles(package_imports()) == []


def test_a_folder_has_few_modules() -> None:
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules().values())
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def long_files(root: Path = ROOT) -> dict[str, int]:
    """The Python files with more lines than a reader keeps in mind, and their lines."""
    paths = [path for room in (*PRODUCT, "benchmarks", "tests") for path in sorted((root / room).rglob("*.py"))]
    lines = {path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return {name: number for name, number in lines.items() if number > MOST_LINES}


def test_no_file_is_long() -> None:
    assert long_files() == {}


def test_a_long_file_is_found(tmp_path: Path) -> None:
    for name, lines in (("hpc/long.py", 401), ("tests/hpc/long.py", 402), ("tools/short.py", 400)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("pass\n" * lines)
    assert long_files(tmp_path) == {"hpc/long.py": 401, "tests/hpc/long.py": 402}


@pytest.mark.parametrize(
    "planted",
    [
        "from tailor.config.trial import TrialConfig",
        "def later():\n    from tailor.config import trial",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tailor.config.trial import TrialConfig",
    ],
    ids=["eager", "lazy", "for types"],
)
def test_a_planted_circle_is_found(planted: str, tmp_path: Path) -> None:
    """A module that the trial's configuration imports, importing it: of each kind of import."""
    for room in PRODUCT:
        for path in (ROOT / room).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    with (tmp_path / "tailor" / "config" / "data.py").open("a") as file:
        file.write(f"\n{planted}\n")
    (circle,) = circles(module_imports(tmp_path))
    assert {"tailor.config.data", "tailor.config.trial"} <= set(circle)


def test_the_reference_of_the_groups_is_in_no_room() -> None:
    doors = [
        path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "torch_pruning" in top_level_imports(path)
    ]
    assert doors == []  # groups of filters are tested against it, so nothing of it may be in them


def test_no_module_of_ours_shadows_a_library() -> None:
    """`python sweeps/launch.py` puts that folder first on the path, so such a module would be found first."""
    libraries = set(packages_distributions()) | set(sys.stdlib_module_names)
    ours = {path.stem for path in (ROOT / "sweeps").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"launch", "driver"} <= ours
    assert (ours - {"__init__", "__main__", "__pycache__"}) & libraries == set()
    assert set(ROOMS) & set(sys.stdlib_module_names) == set()
