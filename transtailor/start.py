"""Imported first by every command line: it ends here, in words, where another package lies in the place of ours.

The rooms have everyday names. A folder `results` with an `__init__.py` where somebody works, or another package of that
name from the package index, would be imported in the place of ours, and fail wherever it differs.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from transtailor.exit_codes import MISTAKE
from transtailor.shell import pip

HOME = Path(__file__).resolve().parents[1]
ROOMS = ("hpc", "tailor", "sweeps", "results")
MARK = "TransTailor"  # in the first lines of each room: a package installed later may lie in the same folder


def find_intruder() -> str | None:
    """Which package lies in the place of one of ours and what to do, in words; None where all are ours."""
    for room in ROOMS:
        spec = find_spec(room)
        place = None if spec is None or spec.origin is None else Path(spec.origin)
        if place is None:
            return f"the package {room!r} is missing in {HOME}; install transtailor-sweeps again"
        if place.resolve().parents[1] != HOME or MARK not in place.read_text(encoding="utf-8", errors="replace"):
            return f"{place} lies in the place of TransTailor's package {room!r}: {_remedy(room, place)}"
    return None


def _remedy(room: str, place: Path) -> str:
    if Path.cwd() in place.absolute().parents[:2]:
        return (
            "`python -m` takes what is in the working folder first; type `transtailor` in the place of `python -m ...`,"
            " or work in another folder"
        )
    from importlib.metadata import packages_distributions

    others = {*packages_distributions().get(room, ())} - {"transtailor-sweeps"}
    if not others:
        return f"rename it, or take {place.parents[1]} off PYTHONPATH"
    names = " ".join(sorted(others))
    return (
        f"it came with {names}; use an environment of its own, or install transtailor-sweeps again after this: "
        + pip("uninstall", *sorted(others))
    )


if (_text := find_intruder()) is not None:
    sys.stderr.write(f"error: {_text}\n")
    sys.exit(MISTAKE)
