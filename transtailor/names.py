"""Hints for error messages about a name that does not exist."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

NAMES_SHOWN = 12
LIKENESS_LISTED = 0.3  # of the names that are listed if there are too many to list all


def nearest(typed: str, valid: Iterable[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the end of an error message: the nearest valid name if one is near, and the valid names or some of them.

    >>> nearest("epoch", ["epochs", "batch_size"])
    "; did you mean 'epochs'? (valid: batch_size, epochs)"

    Args:
        elsewhere: further names, which are valid in other places -> as they are typed here. They are suggested, but
            not listed.
    """
    names = sorted(valid)
    close = closest(typed, [*names, *elsewhere])
    hint = ""
    if typed in elsewhere.values():
        hint = f"; quotes make one key of it: type {typed} without them"
    elif close is not None:
        suggestion = close if close in names else elsewhere[close]
        hint = f"; did you mean {suggestion!r}?"
    if len(names) <= NAMES_SHOWN:
        return f"{hint} (valid: {_joined(names) or 'none'})"
    listed = _alike(typed, names, NAMES_SHOWN, LIKENESS_LISTED) or names[:NAMES_SHOWN]
    return f"{hint} (valid: {_joined(listed)}, ... {len(names)} in all)"


def _joined(names: Sequence[str]) -> str:
    """Return names with commas between them; one that has a comma is in quotes."""
    return ", ".join(repr(name) if "," in name else name for name in names)


def did_you_mean(typed: str, valid: Iterable[str]) -> str:
    """Return "did you mean ...? " with the nearest valid name, for the middle of a message; "" if none is near."""
    close = closest(typed, valid)
    return "" if close is None else f"did you mean {close!r}? "


def nearest_folder(folder: Path) -> str:
    """Return "; did you mean ...?" with the folder of the nearest name beside one that is not there, or in runs/."""
    for parent in (folder.parent / "runs", folder.parent, folder.parent.parent / "runs"):
        names = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        close = closest(folder.name, names)
        if close is not None:
            return f"; did you mean {str(parent / close)!r}?"
    return ""


def closest(typed: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most like what was typed, ignoring case; None if none is near.

    >>> closest("ADAM", ["sgd", "adam"])
    'adam'
    """
    alike = _alike(typed, valid, count=1, least=0.6)  # at 0.5, `latency_ms` is like `batch_size`
    return alike[0] if alike else None


def _alike(typed: str, names: Iterable[str], count: int, least: float) -> list[str]:
    """Return up to `count` names whose likeness (difflib's ratio, ignoring case) is `least` or more; the best first."""
    from difflib import SequenceMatcher  # here, as a correct command does not need it

    matcher = SequenceMatcher(b=typed.casefold())
    likeness = {}
    for name in names:
        matcher.set_seq1(name.casefold())
        likeness[name] = matcher.ratio()
    close = [name for name in likeness if likeness[name] >= least]
    return sorted(close, key=likeness.__getitem__, reverse=True)[:count]
