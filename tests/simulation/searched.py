"""What must hold of a search after a simulated day, in addition to what holds of all trials."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.decisions import read_otherwise
from tests.faults.invariants import Written


def broken_of_search(run: Path, written: Written) -> Iterator[str]:
    """Decisions that were made twice, are missing, or read what no row says."""
    made = Counter(row["number"] for row in written.rows["proposals"])
    yield from (f"proposal {number} was decided {times} times" for number, times in made.items() if times > 1)
    if {*made} != {*range(len(made))}:
        yield f"the search has the proposals {sorted(made)}"
        return
    failed = {row["trial_id"] for row in written.last["attempts"].values() if row["status"] in ("failed", "died")}
    by_number = {row["number"]: row for row in written.last["proposals"].values()}
    for row in by_number.values():
        for other in _unscored(row):
            trials = by_number[other]["trial_ids"]
            if trials and failed.isdisjoint(trials):
                yield f"proposal {row['number']} was decided without the score of {other}, which had not failed"
    yield from read_otherwise(run)


def lacks_scores(written: Written) -> bool:
    """Whether a decision was made without the score of a trial that had failed: then others may follow from it."""
    return any(_unscored(row) for row in written.last["proposals"].values())


def _unscored(row: dict[str, Any]) -> list[int]:
    """The proposals that a decision read and that had no score."""
    return [other for other, score in zip(row["reads"], row["read_scores"], strict=True) if score is None]
