"""The lines of a text that someone else wrote: a log, the output of a command, a file of a user.

`str.splitlines` also ends a line at eight characters that names, paths and messages may have in their middle, such as
the form feed and U+2028; so whoever chose such a name would make two lines of one.
"""


def lines_of(text: str, *, only_ended: bool = False) -> list[str]:
    r"""Return the lines of a text, without their line feeds and the carriage returns before these.

    The last line may have no line feed, because its writer has not finished it; `only_ended` leaves it out.

    >>> lines_of("a\u2028b\r\nc\n")
    ['a\u2028b', 'c']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    has_unended_line = lines[-1] != ""
    if has_unended_line and not only_ended:
        return lines
    return lines[:-1]


def last_line(text: str) -> str:
    """Return the last line that is not blank, without white space around it; "" if there is none."""
    return next((line.strip() for line in reversed(lines_of(text)) if line.strip()), "")


def first_line(text: str) -> str:
    r"""Return the first line that is not blank, without white space around it; "" if there is none.

    >>> first_line("\nout of memory\nmore")
    'out of memory'
    """
    return next((line.strip() for line in lines_of(text) if line.strip()), "")


def hanging(text: str, columns: int) -> str:
    r"""Return a text whose lines after the first are indented by so many columns, without blank lines.

    >>> hanging("no scores\n\nsecond line\n", 4)
    'no scores\n    second line'
    """
    return f"\n{' ' * columns}".join(line for line in lines_of(text) if line.strip())
