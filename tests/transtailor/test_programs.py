"""How programs end: exit codes, readers that leave, errors without a traceback, and the version."""

import subprocess
import sys
import tomllib

import pytest

import transtailor
import transtailor.errors
from hpc.errors import ClusterError, GpuHoursSpentError, SiteError, SlurmError
from results.errors import ResultsError
from sweeps.errors import RunFolderError, SpecError
from tailor.common.errors import ConfigError, TrainingError
from tests.product import ROOT
from transtailor.errors import UserError

MISTAKES = [ConfigError, GpuHoursSpentError, ResultsError, RunFolderError, SiteError, SpecError]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_user_can_mend_is_a_user_error(mistake: type[Exception]) -> None:
    assert issubclass(mistake, UserError)


@pytest.mark.parametrize("event", [ClusterError, SlurmError, TrainingError])
def test_what_may_go_away_by_itself_is_none(event: type[Exception]) -> None:
    """A controller begins again after these, and ends for good after a user's mistake."""
    assert not issubclass(event, UserError)


def test_exit_codes_are_told_apart() -> None:
    codes = {name: code for name, code in vars(transtailor.errors).items() if name[0].isupper() and name.isupper()}
    assert codes == {"SUCCESS": 0, "FAILED": 1, "MISTAKE": 2, "TRY_AGAIN": 75, "INTERRUPTED": 130}


def test_a_reader_that_leaves_ends_a_program_quietly() -> None:
    code = """
from transtailor.terminal import ignore_closed_stdout
with ignore_closed_stdout():
    while True:
        print("a line that nobody reads" * 100)
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout is not None and program.stderr is not None
    assert program.stdout.readline().startswith("a line")
    program.stdout.close()
    assert (program.stderr.read(), program.wait()) == ("", 0)


def test_other_errors_pass_through() -> None:
    from transtailor.terminal import ignore_closed_stdout

    with pytest.raises(FileNotFoundError), ignore_closed_stdout():
        raise FileNotFoundError


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (transtailor.DISTRIBUTION, transtailor.__version__) == (project["name"], project["version"])
    with pytest.raises(AttributeError, match="has no attribute 'version'"):
        transtailor.version  # type: ignore[attr-defined]  # noqa: B018


def test_nothing_heavy_is_imported() -> None:
    """Neither other packages nor what takes long to import: every command pays for it."""
    code = "import sys; before = set(sys.modules); from transtailor import errors, files, names, validation; "
    code += "print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    added = set(done.stdout.split())
    assert {name.partition(".")[0] for name in added} - {"transtailor"} <= set(sys.stdlib_module_names)
    assert not added & {"importlib.metadata", "difflib", "asyncio"}
