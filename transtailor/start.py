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
    """Return a message that names the package that hides one of ours and says what to do; None if all are ours."""
    for room in ROOMS:
        spec = find_spec(room)
        if spec is None or spec.origin is None:
            return f"the package {room!r} is missing in {HOME}; install transtailor-sweeps again"
        init_file = Path(spec.origin)
        is_in_home = init_file.resolve().parents[1] == HOME
        if not is_in_home or MARK not in init_file.read_text(encoding="utf-8", errors="replace"):
            return f"{init_file} hides TransTailor's package {room!r}: {_remedy(room, init_file)}"
    return None


def _remedy(room: str, intruder: Path) -> str:
    """Return what to type against a package that is imported in place of a room; `intruder` is its `__init__.py`."""
    if Path.cwd() in intruder.absolute().parents[:2]:
        return (
            "`python -m` looks in the working folder first; type `transtailor` instead of `python -m ...`,"
            " or work in another folder"
        )
    from importlib.metadata import packages_distributions

    distributions = sorted(set(packages_distributions().get(room, ())) - {"transtailor-sweeps"})
    if not distributions:
        return f"rename it, or take {intruder.parents[1]} off PYTHONPATH"
    return (
        f"it came with {' '.join(distributions)}; use a separate environment, or install transtailor-sweeps again"
        f" after this: {pip('uninstall', *distributions)}"
    )


_message = find_intruder()
if _message is not None:
    sys.stderr.write(f"error: {_message}\n")
    sys.exit(MISTAKE)
