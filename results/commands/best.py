"""The best sub-model under a limit."""

import sys
from collections.abc import Iterator
from pathlib import Path

from transtailor import cli
from transtailor.terminal import say


@cli.command(example="runs/demo --under macs=0.8")
@cli.run_argument
@cli.option("--by", default="validation_score", metavar="SCORE", help="validation_score, or test_score, which warns")
@cli.option(
    "--under", multiple=True, metavar="COLUMN=LIMIT",
    help="macs=0.8 (up to 1: of the original's), macs=2e6, params=100000, latency_ms=2 (repeatable)",
)  # fmt: skip
def best(run: Path, by: str, under: tuple[str, ...]) -> Iterator[str]:
    """Print the best operating point of a run under a limit, and how to save its sub-model."""
    from results.best import Limit, best_lines
    from results.store.reader import load

    if by == "test_score":
        say(
            "warning: the test score of a point chosen by it is too optimistic and is no estimate for new images;"
            " for an estimate, choose by validation_score",
            to=sys.stderr,
        )
    limits = [Limit.parse(text) for text in under]
    with load(run) as tables:
        yield from best_lines(tables, by, limits)
