"""A number with its noun, and many names in few words, as messages say them."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for nouns whose plural ends in s.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(texts: Sequence[str], shown: int = 5, between: str = ", ") -> str:
    """Return the first texts in one, and the number of the others.

    >>> first_few("ab"), first_few("abcdefg"), first_few("abc", 1, "; ")
    ('a, b', 'a, b, c, d, e and 2 more', 'a and 2 more')
    """
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return f"{between.join(texts[:shown])}{more}"
