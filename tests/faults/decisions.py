"""What the decisions of a search say that they read, beside the rows of the run."""

from collections.abc import Iterator
from pathlib import Path

from results.store.reader import load
from sweeps.search.records import result_of
from sweeps.search.run_search import read_proposals, read_scores


def read_otherwise(run: Path) -> Iterator[str]:
    """Scores that a decision read and that no row has; trials may have got a score since, but never another one."""
    with load(run) as tables:
        proposals, scores = read_proposals(tables), read_scores(tables)
        decisions = tables.rows("SELECT number, reads, read_scores FROM proposals")
    for decision in decisions:
        for other, score in zip(decision["reads"], decision["read_scores"], strict=True):
            now = result_of(proposals[other], scores).score
            if score not in (None, now):
                yield f"proposal {decision['number']} read {score} of proposal {other}, which has {now}"
