"""Texts as cells of a CSV file that somebody opens in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would compute, and so could send elsewhere."""


def cell(value: object) -> object:
    """A value; a text that a spreadsheet would compute has an apostrophe before it, which makes it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
