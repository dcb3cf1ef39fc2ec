"""Measure the tests by planted faults: does the test that has found a fault still find it?

    python -m tools.fault_scale                                   # all faults, each by the test that its table names
    python -m tools.fault_scale 3 8                               # these two
    python -m tools.fault_scale --search 3 --coverage .coverage   # look for a test: of the line, of the room, any

tests/scale/faults.toml has the faults. Each is put into a copy of the checkout, never into the checkout. Exit code 1: a
test no longer finds its fault, fails without it, or is gone; or a fault's place is gone, and the fault is to be ported.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from tests.environment import build_wheel, environment, shell
from transtailor.sources import ROOT

FAULTS = Path("tests", "scale", "faults.toml")
NOT_FOUND = "not found"
TIERS = {"test": "not check and not long", "check": "check and not long"}
MOST_OF_LINE = 3  # tests that run a fault's line and are tried
GIT_LIMIT_S = 60.0
PASSED, FAILED, OUT_OF_TIME = 0, 1, 124  # pytest's exit codes, and that of `timeout`
RUN_BY = """
SELECT context, numbits
FROM line_bits JOIN file ON file_id = file.id JOIN context ON context_id = context.id
WHERE path LIKE '%/' || ? AND context <> ''
"""


class ScaleError(Exception):
    """A fault or a test is not as its table says."""


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """A fault, and the test that finds it."""

    number: int  # from 1, in the order of the tables
    what: str
    room: str
    file: str  # below the checkout
    old: str  # text that is there once
    new: str
    found_by: str  # node id of a test, or NOT_FOUND
    tier: str  # of that test

    def planted_in(self, source: str) -> str:
        """Return the source of the file with the fault. Raises ScaleError: `old` is not there once."""
        count = source.count(self.old)
        if count != 1:
            raise ScaleError(f"port it: {self.file} has {self.old!r} {count} times, expected once")
        return source.replace(self.old, self.new)


def faults_of(checkout: Path) -> list[PlantedFault]:
    """Return the faults of a checkout, in the order of their numbers."""
    tables = tomllib.loads((checkout / FAULTS).read_text(encoding="utf-8"))["faults"]
    return [PlantedFault(number=number, **table) for number, table in enumerate(tables, start=1)]


@contextmanager
def copied(checkout: Path) -> Iterator[Path]:
    """Give a copy of the files that git does not ignore, with an environment of its own in .venv."""
    with tempfile.TemporaryDirectory(prefix="fault-scale-") as folder:
        copy = Path(folder, "checkout")
        words = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=GIT_LIMIT_S).stdout
        for name in listed.split("\0")[:-1]:
            if (checkout / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, copy / name)
        wheels = Path(folder, "wheels")
        wheels.mkdir()
        environment(copy / ".venv", build_wheel(copy, wheels, editable=True))
        yield copy


@contextmanager
def planted(fault: PlantedFault, copy: Path) -> Iterator[None]:
    """Run a block with the fault in the copy."""
    path = copy / fault.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(fault.planted_in(source), encoding="utf-8")
        Path(cache_from_source(str(path))).unlink(missing_ok=True)  # of the same second, it may look up to date
        yield
    finally:
        path.write_text(source, encoding="utf-8")
        Path(cache_from_source(str(path))).unlink(missing_ok=True)


def failing(copy: Path, tests: Sequence[str], marks: str = "not long", limit_s: float = 0.0) -> list[str]:
    """Run tests in the copy; return the node ids of those that fail, of a search (`limit_s` above 0) only the first.

    Raises ScaleError: none was run.
    """
    python = copy / ".venv" / "bin" / "python"
    pytest = [
        python,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "-m",
        marks,
        *["-x"][: limit_s > 0],
        *tests,
    ]
    variables = shell(python.parent) | {"TAILOR_SHARED": os.environ.get("TAILOR_SHARED", str(ROOT.parent / "shared"))}
    command = ["timeout", "--kill-after=30", str(limit_s), *map(str, pytest)]
    run = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines() or [run.stderr]
    is_run = run.returncode in (FAILED, OUT_OF_TIME) or (run.returncode == PASSED and " passed" in lines[-1])
    if not is_run:
        raise ScaleError(f"no test was run of {' '.join(tests)}: {lines[-1]}")
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return [line.partition(" ")[2].split(" - ")[0] for line in failed]


def tests_of_line(fault: PlantedFault, checkout: Path, coverage: Path) -> list[str]:
    """Return tests that run a line of the fault, the nearest by their files first; from coverage data with contexts."""
    source = (checkout / fault.file).read_text(encoding="utf-8")
    first = source[: source.index(fault.old)].count("\n") + 1
    lines = range(first, first + fault.old.count("\n") + 1)
    with closing(sqlite3.connect(f"file:{coverage}?mode=ro", uri=True)) as data:
        rows = data.execute(RUN_BY, [fault.file]).fetchall()
    names = set()
    for context, numbits in rows:  # a bit for each line
        if any(int.from_bytes(numbits, "little") >> line & 1 for line in lines):
            names.add(context.partition("|")[0])
    mirrored = str(Path("tests", fault.file).parent / f"test_{Path(fault.file).name}")
    return sorted(names, key=lambda name: (-len(os.path.commonprefix([name, mirrored])), name))


def search(fault: PlantedFault, checkout: Path, copy: Path, coverage: Sequence[Path], limit_s: float) -> str:
    """Return the first test that finds a fault and its tier, as lines of its table."""
    of_line = [test for data in coverage for test in tests_of_line(fault, checkout, data)[:MOST_OF_LINE]]
    nearest = Path("tests", fault.file).parent
    with planted(fault, copy):
        for tests in (of_line, [str(nearest)] if (copy / nearest).is_dir() else [], [f"tests/{fault.room}"], ["tests"]):
            for tier, marks in TIERS.items() if tests else ():
                with suppress(ScaleError):  # none of that tier
                    for test in failing(copy, tests, marks, limit_s):
                        return f"found_by = {test!r}\ntier = {tier!r}"
    return f"found_by = {NOT_FOUND!r}\ntier = {NOT_FOUND!r}"


def check(fault: PlantedFault, copy: Path) -> str:
    """Return which test finds a fault. Raises ScaleError: its test does not find it, or is gone."""
    with planted(fault, copy):
        if fault.found_by != NOT_FOUND and not failing(copy, [fault.found_by]):
            raise ScaleError(f"{fault.found_by} does not find: {fault.what}")
    return f"found by {fault.found_by}" if fault.found_by != NOT_FOUND else "not found by any test"


def main(arguments: Sequence[str] | None = None, checkout: Path = ROOT) -> int:
    """Print what becomes of each fault; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="of a fault; none: all")
    parser.add_argument("--search", action="store_true", help="look for a test that finds it")
    parser.add_argument("--coverage", nargs="+", type=Path, default=[], metavar="FILE", help="with a context per test")
    parser.add_argument("--limit-s", type=float, default=300.0, help="of each group of tests of a search")
    given = parser.parse_args(arguments)
    faults = [fault for fault in faults_of(checkout) if not given.numbers or fault.number in given.numbers]
    tests = [] if given.search else [fault.found_by for fault in faults if fault.found_by != NOT_FOUND]
    errors = []
    with copied(checkout) as copy:
        try:
            errors += [f"{test} fails without a fault" for test in (failing(copy, tests) if tests else ())]
        except ScaleError as error:
            errors.append(str(error))
        for fault in faults:
            try:
                said = (
                    search(fault, checkout, copy, given.coverage, given.limit_s) if given.search else check(fault, copy)
                )
                print(f"{fault.number}: {said}", flush=True)
            except ScaleError as error:
                errors.append(f"{fault.number}: {error}")
    for line in errors:
        print(line, file=sys.stderr)
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
