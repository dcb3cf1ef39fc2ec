"""Every arm of a run against one of them, paired by seed, as a page of Markdown: what goes into a note or a paper."""

import math
from collections.abc import Iterator, Sequence

from results.comparison import Arm, arms_of, budget_order, compare, environments_of, points_of
from results.errors import ResultsError
from results.reader import Run
from results.scale import NOTHING, SCALES, percent
from results.verdict import says

COLUMNS = ("asked %", "removed %", "arm", "test", "difference", "95%", "won–lost–tied", "p", "it says")


def against_lines(run: Run, label: str, asked: float | None) -> Iterator[str]:
    """The lines of the page: one table per network, data set and number of training images.

    Args:
        run: an opened run.
        label: the arm that all others are compared with.
        asked: its budget as a fraction of the MACs, and the only one of the others that is shown; what has no point
            there (no pruning, or as a rule says) is shown as it is. None takes its smallest and shows all.

    Raises:
        ResultsError: no such arm has been tested.
    """
    arms = [arm for arm in arms_of(points_of(run), environments_of(run)) if arm.test.mean is not None]
    bases = {
        problem: base
        for problem in sorted({arm.problem for arm in arms})
        if (base := _base(arms, problem, label, asked))
    }
    if not bases:
        labels = ", ".join(sorted({arm.label for arm in arms})) or "none has been tested yet"
        at = "" if asked is None else f" at {percent(asked, 1)}% fewer MACs"
        raise ResultsError(f"no tested arm is called {label!r}{at}; arms: {labels}")
    for problem, base in bases.items():
        yield f"### {problem}"
        yield ""
        yield f"Against {base}: {SCALES[base.metric].value(base.test.mean)} over {base.test.n} seeds."
        yield ""
        yield from _table(_shown([arm for arm in arms if arm.problem == problem], asked), base)
        yield ""


def _base(arms: Sequence[Arm], problem: object, label: str, asked: float | None) -> Arm | None:
    """The arm that others are compared with, of those that would be shown."""
    shown = _shown([arm for arm in arms if arm.problem == problem], asked)
    return min((arm for arm in shown if arm.label == label), key=lambda arm: budget_order(arm.asked), default=None)


def _shown(arms: Sequence[Arm], asked: float | None) -> list[Arm]:
    """The arms at a budget, and those without any point there that prune nothing or as a rule says."""
    if asked is None:
        return list(arms)
    there = [arm for arm in arms if arm.asked is not None and math.isclose(arm.asked, asked, abs_tol=1e-6)]
    pruned = {arm.label for arm in arms if arm.asked}
    return there + [arm for arm in arms if not arm.asked and arm.label not in pruned]


def _table(arms: Sequence[Arm], base: Arm) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    for arm in sorted(arms, key=lambda arm: (budget_order(arm.asked), -(arm.test.mean or 0.0), arm.label)):
        if arm is base:
            continue
        scale, pairing = SCALES[arm.metric], compare([(arm, base)])
        found = pairing.result
        cells = (
            percent(arm.asked, 1),
            percent(arm.removed, 1),
            arm.label.replace("|", "\\|"),
            scale.value(arm.test.mean),
            scale.difference(found.difference.mean),
            scale.interval(found.difference, signed=True),
            f"{found.wins}–{found.losses}–{found.ties}",
            NOTHING if found.p is None else f"{found.p:.3g}",
            says(pairing),
        )
        yield f"| {' | '.join(cells)} |"
