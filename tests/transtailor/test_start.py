"""Where another package lies in the place of one of ours, every command line says which, and what to do."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.product import ROOMS, ROOT

FOREIGN = 'raise RuntimeError("the foreign package was imported")\n'


def said_by(*words: str, folder: Path, path: str | None = None) -> str:
    """What `python -m ...` says as it ends with 2."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = path
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def foreign(folder: Path, room: str) -> Path:
    package = folder / room / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(FOREIGN)
    return package


def test_a_package_in_the_working_folder(tmp_path: Path) -> None:
    package = foreign(tmp_path, "results")
    said = said_by("transtailor", "--help", folder=tmp_path)
    assert said.startswith(f"error: {package} hides TransTailor's package 'results'")
    assert "type `transtailor`" in said


def test_a_package_on_the_path(tmp_path: Path) -> None:
    package = foreign(tmp_path / "lib", "sweeps")
    said = said_by("transtailor", "--help", folder=tmp_path.parent, path=str(tmp_path / "lib"))
    assert str(package) in said and f"take {tmp_path / 'lib'} off PYTHONPATH" in said


def test_a_package_that_was_installed_over_ours_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for room in ROOMS:
        (site / room).mkdir(parents=True)
        shutil.copy(ROOT / room / "__init__.py", site / room)
    for path in (ROOT / "transtailor").glob("*.py"):
        shutil.copy(path, site / "transtailor")
    (site / "tailor" / "__init__.py").write_text(FOREIGN)
    (site / "tailor_of_suits-9.dist-info").mkdir()
    (site / "tailor_of_suits-9.dist-info" / "METADATA").write_text("Name: tailor-of-suits\nVersion: 9\n")
    (site / "tailor_of_suits-9.dist-info" / "top_level.txt").write_text("tailor\n")
    said = said_by("transtailor", "--help", folder=tmp_path, path=str(site))
    assert "python -m pip uninstall tailor-of-suits" in said


def test_no_module_of_ours_hides_a_library() -> None:
    """`python sweeps/launch.py` puts that folder first on the path, so that its modules are found first."""
    libraries = set(packages_distributions()) | set(sys.stdlib_module_names)
    ours = {path.stem for path in (ROOT / "sweeps").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"launch", "driver"} <= ours
    assert (ours - {"__init__", "__main__", "__pycache__"}) & libraries == set()
    assert set(ROOMS) & set(sys.stdlib_module_names) == set()
