"""The doors between the rooms, read from the code; see the README's tour."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("hpc", "tailor", "sweeps", "results")
FORBIDDEN = {
    "hpc": {"tailor", "sweeps", "results"},
    "tailor": {"hpc", "sweeps", "results", "ray", "submitit"},
    "results": {"hpc", "tailor", "sweeps", "torch", "ray", "submitit"},
    "sweeps": set[str](),
}


def imports(path: Path) -> set[str]:
    """Top-level names of all that a file imports, wherever in the file it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value.split(".")[0] for arg in node.args if isinstance(arg, ast.Constant)}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_imports_only_what_it_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {path.relative_to(ROOT).as_posix(): found for path in files if (found := imports(path) & FORBIDDEN[room])}
    assert wrong == {}


def test_the_reference_of_the_groups_is_in_no_room() -> None:
    doors = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "torch_pruning" in imports(path)]
    assert doors == []  # groups of filters are tested against it, so nothing of it may be in them


def test_no_module_of_ours_shadows_a_library() -> None:
    """`python sweeps/launch.py` puts that folder first on the path, so such a module would be found first."""
    libraries = set(packages_distributions()) | set(sys.stdlib_module_names)
    modules = {path.stem for path in (ROOT / "sweeps").glob("*.py")} - {"__init__", "__main__"}
    assert "launch" in modules
    assert modules & libraries == set()
    assert set(ROOMS) & set(sys.stdlib_module_names) == set()
