"""Numbers and many names in few words, as messages say them."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for nouns whose plural ends in s.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def times_as_fast(speed: float, than: str = "the whole network") -> str:
    """Say how fast something is beside another; slower is what rounds to less than 1.

    >>> times_as_fast(0.996), times_as_fast(0.5, "in float32")
    ('1.00 times as fast as the whole network', '0.50 times as fast as in float32, SLOWER')
    """
    return f"{speed:.2f} times as fast as {than}{', SLOWER' if round(speed, 2) < 1.0 else ''}"


def first_few(texts: Sequence[str], shown: int = 5, between: str = ", ") -> str:
    """Return the first texts in one, and the number of the others.

    >>> first_few("ab"), first_few("abcdefg"), first_few("abc", 1, "; ")
    ('a, b', 'a, b, c, d, e and 2 more', 'a and 2 more')
    """
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return f"{between.join(texts[:shown])}{more}"
