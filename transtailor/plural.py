"""A number with its noun, as messages say it."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for nouns whose plural ends in s.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
