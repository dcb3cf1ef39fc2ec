"""The names of classes, which the rows have as numbers."""

from results.store.reader import Run

NAMES = """
SELECT label, any_value(name) AS name, count(DISTINCT name) AS names FROM classes WHERE dataset = ? GROUP BY label
"""


def class_names(run: Run, dataset: str) -> dict[int, str]:
    """Return the names of a data set's classes by their numbers.

    Empty if none is known, or if several runs have different names for a number, as after the data set was prepared
    again.
    """
    rows = run.rows(NAMES, [dataset])
    if any(row["names"] > 1 for row in rows):
        return {}
    return {row["label"]: row["name"] for row in rows}
