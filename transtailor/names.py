"""What is said to somebody who typed a name that there is not."""

from collections.abc import Iterable

NAMES_SHOWN = 30
LEAST_LIKENESS = 0.5  # as difflib counts it, 1 for the same name


def nearest(given: str, valid: Iterable[str]) -> str:
    """The end of an error message: the nearest valid name if there is one, and the valid names, the first of many."""
    names = sorted(valid)
    close = closest(given, names)
    hint = f"; did you mean {close!r}?" if close is not None else ""
    rest = f", ... {len(names)} in all" if len(names) > NAMES_SHOWN else ""
    return f"{hint} (valid: {', '.join(names[:NAMES_SHOWN]) or 'none'}{rest})"


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """The middle of an error message that goes on with the valid names; empty where none is near."""
    close = closest(given, valid)
    return "" if close is None else f"did you mean {close!r}? "


def closest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like the one given; None where none is."""
    import difflib  # here, as a command that was typed right does without it

    return next(iter(difflib.get_close_matches(given, list(valid), n=1, cutoff=LEAST_LIKENESS)), None)
