"""What is said to somebody who typed a name that there is not."""

from collections.abc import Iterable

NAMES_SHOWN = 12
LEAST_LIKENESS = 0.5  # as difflib counts it, 1 for the same name
LIKENESS_LISTED = 0.3  # of the names listed where there are too many for all


def nearest(given: str, valid: Iterable[str]) -> str:
    """The end of an error message: the nearest valid name if there is one, and the valid names, of many some."""
    names = sorted(valid)
    close = closest(given, names)
    hint = f"; did you mean {close!r}?" if close is not None else ""
    if len(names) <= NAMES_SHOWN:
        return f"{hint} (valid: {', '.join(names) or 'none'})"
    listed = _alike(given, names, NAMES_SHOWN, LIKENESS_LISTED) or names[:NAMES_SHOWN]
    return f"{hint} (valid: {', '.join(listed)}, ... {len(names)} in all)"


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """The middle of an error message that goes on with the valid names; empty where none is near."""
    close = closest(given, valid)
    return "" if close is None else f"did you mean {close!r}? "


def closest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like the one given, in capitals or not; None where none is."""
    return next(iter(_alike(given, list(valid), 1, LEAST_LIKENESS)), None)


def _alike(given: str, names: list[str], count: int, least: float) -> list[str]:
    """The names that are most like the one given, the most like first."""
    import difflib  # here, as a command that was typed right does without it

    written = {name.casefold(): name for name in names}
    return [written[name] for name in difflib.get_close_matches(given.casefold(), written, n=count, cutoff=least)]
