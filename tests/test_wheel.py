"""The installed package has everything that its commands need, and finds it in any working folder."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.environment import build_wheel, environment, shell, sources
from tests.faults.whole_files import write_run
from tests.product import ROOMS, ROOT
from tests.test_readme import SHORTER, blocks

WHERE = "import hpc, results, sweeps, tailor; print({m.__file__ for m in (hpc, results, sweeps, tailor)})"
USES = {
    "the embedded sweep is planned": ["transtailor", "plan"],
    "a trial is planned": ["transtailor", "trial", "run", "trial.toml", "--plan"],
    "the shipped site is found": ["python", "-c", "from hpc.sites.site import find_site; find_site('example')"],
    "a run's status is shown, by the room": ["python", "-m", "transtailor", "status", "runs/kept"],
    "a run is asked, by the room": ["python", "-m", "transtailor", "query", "runs/kept", "SELECT 1"],
}
"""What the README does not show."""
pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, copied."""
    return sources(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel."""
    return environment(tmp_path_factory.mktemp("environment"), wheel)


def test_it_holds_the_rooms_and_nothing_else(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == set(ROOMS)


def test_every_file_of_the_rooms_is_in_it(wheel: Path) -> None:
    suffixes = {".py", ".json", ".toml", ".j2", ".css", ".js", ".html", ".typed"}
    files = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.*")
             if path.suffix in suffixes}  # fmt: skip
    assert files - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to work in, where folders of the user's own have the rooms' names."""
    for name in ("results", "sweeps", "hpc", "tailor"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    return tmp_path


def output(words: list[str], programs: Path, folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, env=shell(programs), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_its_commands_work(programs: Path, folder: Path) -> None:
    (folder / "trial.toml").write_text('[method]\nname = "head_only"\n')
    write_run(folder / "runs" / "kept")
    assert output(["python", "-c", WHERE], programs, folder).count(str(programs.parent)) == 4
    for words in USES.values():
        output(words, programs, folder)


def test_an_editable_install_works_too(source: Path, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> None:
    editable = build_wheel(source, tmp_path_factory.mktemp("editable"), editable=True)
    programs = environment(tmp_path_factory.mktemp("environment"), editable)
    assert output(["python", "-c", WHERE], programs, folder).count(str(source)) == 4
    assert "--against" in output(["python", "-m", "transtailor", "compare", "--help"], programs, folder)
    # A package of that name comes first for `python -m`; the command does not look there.
    (folder / "results" / "__init__.py").write_text('raise RuntimeError("not ours")\n')
    assert "--against" in output(["transtailor", "compare", "--help"], programs, folder)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("sweep", ["shorter", pytest.param("shipped", marks=pytest.mark.long)])
def test_the_readme_runs_as_it_is_pasted(sweep: str, programs: Path, tmp_path: Path) -> None:
    """All blocks in one new shell, in a folder of the user's that has a package `results`."""
    if sweep == "shorter":
        (tmp_path / "tour").write_text(SHORTER)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "__init__.py").write_text('raise RuntimeError("not ours")\n')
    output(["bash", "-c", "set -e\n" + "\n".join(blocks("bash"))], programs, tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert not_ignored({*written, "new.py"} - {"results/__init__.py", "tour"}) == {"new.py"}
    assert (tmp_path / "runs" / "shorter" / "report.html").is_file()


def not_ignored(files: set[str]) -> set[str]:
    """Of files below the working folder, those that git would show to a user who works in the checkout."""
    words = ["git", "check-ignore", "--no-index", *files]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return files - set(done.stdout.splitlines())
