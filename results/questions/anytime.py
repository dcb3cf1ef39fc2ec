"""Comparisons whose intervals hold at every number of seeds at once, however often one has looked.

For runs to which seeds were added after looking at results, and for arms that a run with [settle] did not settle.
"""

import math
from collections.abc import Iterator

from results.arms.against import compared_arms
from results.arms.below_head import below_head_lines
from results.arms.comparison import Arm
from results.sign_flip import SIGNIFICANCE
from results.statistics.means import Mean
from results.statistics.sequential import anytime_interval
from results.store.reader import Run
from results.text.number_format import NOTHING, SCALES, percent
from results.text.page import Heading, Note, PageTable, Part

COLUMNS = ("budget %", "arm", "seeds", "difference", "95% at any time", "all together", "verdict", "against")
FEWEST = 10  # seeds; below, the interval's theory, of many seeds, is too far away
BEST_AT = 25
"""The number of seeds at which the intervals are narrowest; fixed, since it must not depend on the scores."""


def anytime_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield a table per problem: each arm against one, with intervals that hold at any time.

    Raises:
        ResultsError: as `versus_arm_page`.
    """
    for base, pairs in compared_arms(run, against, asked):
        yield Heading(str(base.problem))
        yield ""
        yield f"Compared with {base}."
        yield ""
        yield PageTable(
            columns=COLUMNS, rows=[_row(arm, control, len(pairs)) for arm, control in pairs], words=(1, 6, 7)
        )
        yield ""
        controls = {control.name for _, control in pairs}
        yield from map(Note, below_head_lines(run, [base.problem], controls))
    yield Note(
        "95% at any time: a confidence sequence (Waudby-Smith et al., Annals of Statistics 2024): it holds at all"
        f" numbers of seeds from {FEWEST} on at once, so you may look after each one. All together: the same at 0.05"
        " divided by the number of comparisons in the table; the verdicts use it. Both are wider than an interval for a"
        " fixed number of seeds."
    )


def _row(arm: Arm, control: Arm, comparisons: int) -> tuple[str, ...]:
    scale = SCALES[arm.metric]
    seeds = sorted(arm.test_by_seed.keys() & control.test_by_seed.keys())
    differences = [arm.test_by_seed[seed] - control.test_by_seed[seed] for seed in seeds]
    mean = math.fsum(differences) / len(seeds) if seeds else None
    alone = NOTHING
    together = NOTHING
    word = f"{FEWEST} seeds or more are needed"
    if len(seeds) >= FEWEST:
        image = _image(arm)
        low, high = anytime_interval(differences, SIGNIFICANCE, BEST_AT, image)
        alone = scale.interval(Mean(len(seeds), None, None, low, high), signed=True)
        low, high = anytime_interval(differences, SIGNIFICANCE / comparisons, BEST_AT, image)
        together = scale.interval(Mean(len(seeds), None, None, low, high), signed=True)
        word = "inconclusive"
        if low > 0 or high < 0:
            word = "better" if low > 0 else "worse"
    failed = arm.failed + control.failed
    if failed:
        word = f"incomplete, {failed} failed"
    compared = (percent(arm.asked, 1), arm.name, str(len(seeds)), scale.difference(mean))
    return (*compared, alone, together, word, str(control))


def _image(arm: Arm) -> float:
    """Return the smallest step of an accuracy; 0 for R squared."""
    return 1 / min(arm.test_images) if arm.metric == "accuracy" and arm.test_images else 0.0
