"""Imported first by every command line: ends the program with an explanation if another package hides one of ours.

The rooms have everyday names. A folder `results` with an `__init__.py` in the working folder, or a package of that name
from the package index, would be imported instead of ours.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from transtailor.errors import MISTAKE
from transtailor.shell import pip

HOME = Path(__file__).resolve().parents[1]
ROOMS = ("hpc", "tailor", "sweeps", "results")
MARK = "TransTailor"  # in the first lines of each room: a package installed later may be in the same folder


def find_intruder() -> str | None:
    """A message that names the package that hides one of ours, and says what to do; None if all are ours."""
    for room in ROOMS:
        spec = find_spec(room)
        place = None if spec is None or spec.origin is None else Path(spec.origin)
        if place is None:
            return f"the package {room!r} is missing in {HOME}; install transtailor-sweeps again"
        if place.resolve().parents[1] != HOME or MARK not in place.read_text(encoding="utf-8", errors="replace"):
            return f"{place} hides TransTailor's package {room!r}: {_remedy(room, place)}"
    return None


def _remedy(room: str, place: Path) -> str:
    if Path.cwd() in place.absolute().parents[:2]:
        return (
            "`python -m` looks in the working folder first; type `transtailor` instead of `python -m ...`,"
            " or work in another folder"
        )
    from importlib.metadata import packages_distributions

    others = {*packages_distributions().get(room, ())} - {"transtailor-sweeps"}
    if not others:
        return f"rename it, or take {place.parents[1]} off PYTHONPATH"
    names = " ".join(sorted(others))
    return f"it came with {names}; use a separate environment, or install transtailor-sweeps again after this: " + pip(
        "uninstall", *sorted(others)
    )


if (_text := find_intruder()) is not None:
    sys.stderr.write(f"error: {_text}\n")
    sys.exit(MISTAKE)
