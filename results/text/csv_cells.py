"""Texts as cells of a CSV file that may be opened in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of texts that a spreadsheet would run as a formula, which could send data elsewhere."""


def cell(value: object) -> object:
    """Return a value; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
