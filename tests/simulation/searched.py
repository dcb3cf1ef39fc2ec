"""What must hold of a search after a simulated day, in addition to what holds of all trials."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.decisions import read_otherwise
from tests.faults.invariants import Rows


def broken_of_search(run: Path, rows: Rows) -> Iterator[str]:
    """Decisions that are missing, or read what no row says."""
    by_number = {row["number"]: row for row in rows.by_key["proposals"].values()}
    if {*by_number} != {*range(len(by_number))}:
        yield f"the search has the proposals {sorted(by_number)}"
        return
    failed = {row["trial_id"] for row in rows.by_key["attempts"].values() if row["status"] in ("failed", "died")}
    for row in by_number.values():
        for other in _unscored(row):
            trials = by_number[other]["trial_ids"]
            if trials and failed.isdisjoint(trials):
                yield f"proposal {row['number']} was decided without the score of {other}, which had not failed"
    yield from read_otherwise(run)


def lacks_scores(rows: Rows) -> bool:
    """Whether a decision was made without the score of a trial that had failed: then others may follow from it."""
    return any(_unscored(row) for row in rows.by_key["proposals"].values())


def _unscored(row: dict[str, Any]) -> list[int]:
    """The proposals that a decision read and that had no score."""
    return [other for other, score in zip(row["reads"], row["read_scores"], strict=True) if score is None]
