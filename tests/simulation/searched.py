"""What must hold of a search after a simulated day, in addition to what holds of all trials."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from results.store.reader import load
from sweeps.search.run_search import replay
from tests.faults.invariants import Written
from tests.simulation import trials


def broken_of_search(run: Path, written: Written) -> Iterator[str]:
    """Decisions that were made twice, are missing, or are made otherwise from the rows that they read."""
    made = Counter(row["number"] for row in written.rows["proposals"])
    yield from (f"proposal {number} was decided {times} times" for number, times in made.items() if times > 1)
    if {*made} != {*range(len(made))}:
        yield f"the search has the proposals {sorted(made)}"
    failed = {row["trial_id"] for row in written.last["attempts"].values() if row["status"] in ("failed", "died")}
    for row in written.last["proposals"].values():
        for trial_id in {*row["unscored"]} - failed:
            yield f"proposal {row['number']} was decided without the score of trial {trial_id}, which had not failed"
    with load(run) as tables:
        for old, new in replay(trials.search(), tables):
            yield f"proposal {old.number} was {old}, decided again {new}"


def lacks_scores(written: Written) -> bool:
    """Whether a decision was made without the score of a trial that had failed: then others may follow from it."""
    return any(row["unscored"] for row in written.last["proposals"].values())
