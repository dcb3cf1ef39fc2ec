"""Hints for error messages about a name that does not exist."""

from collections.abc import Iterable

NAMES_SHOWN = 12
LEAST_LIKENESS = 0.5  # difflib's ratio, 1 for the same name
LIKENESS_LISTED = 0.3  # of the names that are listed if there are too many to list all


def nearest(given: str, valid: Iterable[str]) -> str:
    """The end of an error message: the nearest valid name if one is near, and the valid names, or some of many.

    >>> nearest("epoch", ["epochs", "batch_size"])
    "; did you mean 'epochs'? (valid: batch_size, epochs)"
    """
    names = sorted(valid)
    close = closest(given, names)
    hint = f"; did you mean {close!r}?" if close is not None else ""
    if len(names) <= NAMES_SHOWN:
        return f"{hint} (valid: {', '.join(names) or 'none'})"
    listed = _alike(given, names, NAMES_SHOWN, LIKENESS_LISTED) or names[:NAMES_SHOWN]
    return f"{hint} (valid: {', '.join(listed)}, ... {len(names)} in all)"


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """The middle of an error message that continues with the valid names; empty if none is near."""
    close = closest(given, valid)
    return "" if close is None else f"did you mean {close!r}? "


def closest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like the given one, ignoring case; None if none is near.

    >>> closest("ADAM", ["sgd", "adam"])
    'adam'
    """
    return next(iter(_alike(given, list(valid), 1, LEAST_LIKENESS)), None)


def _alike(given: str, names: list[str], count: int, least: float) -> list[str]:
    """The names that are most like the given one, the best first."""
    import difflib  # here, as a correct command does not need it

    written = {name.casefold(): name for name in names}
    return [written[name] for name in difflib.get_close_matches(given.casefold(), written, n=count, cutoff=least)]
