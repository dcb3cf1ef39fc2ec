"""Comparisons whose intervals hold at every number of seeds at once, however often one has looked.

For runs to which seeds were added after looking at results, and for arms that a run with [settle] did not settle.
"""

from collections.abc import Iterator
from typing import Any

from results.arms.against import compared_arms
from results.arms.comparison import Arm, compare
from results.arms.counts import trials_line
from results.arms.findings import findings_of
from results.arms.flags import flag_lines, flags_of
from results.arms.selection import not_at_budget, without_control, without_score
from results.arms.verdict import no_verdict
from results.sign_flip import SIGNIFICANCE
from results.statistics.sequential import anytime_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from results.text.page import Heading, Note, Part, Shown, TableRecord, answer_table, notes
from results.text.shown import FLAGS, interval, verdict_text

FEWEST = 10  # seeds; below, the interval's theory, of many seeds, is too far away
BEST_AT = 25
"""The number of seeds at which the intervals are narrowest; fixed, since it must not depend on the scores."""


def _verdict_text(record: TableRecord) -> str:
    return f"{FEWEST} seeds or more are needed" if record["verdict"] == "too few seeds" else verdict_text(record)


SHOWN = (
    "asked_removed_macs_fraction", "arm", Shown("pairs", "seeds"), "difference",
    interval("difference_low", "difference", "95% at any time"), interval("together_low", "difference", "all together"),
    Shown("verdict", text=_verdict_text), "against", FLAGS,
)  # fmt: skip


def anytime_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield a table per problem: each arm against one, with intervals that hold at any time.

    Raises:
        ResultsError: as `versus_arm_page`.
    """
    findings = findings_of(run)
    tested = findings.tested
    compared = compared_arms(run, findings.arms, against, asked)
    flagged: list[dict[str, Any]] = []
    for base, pairs in compared:
        yield Heading(str(base.problem))
        yield ""
        yield f"Compared with {base}."
        yield ""
        records = [_record(*pair, len(pairs)) | {"flags": flags_of([pair], findings.facts)} for pair in pairs]
        flagged += records
        yield answer_table("compare --anytime", records, "anytime", shown=SHOWN)
        yield ""
    problems = {base.problem for base, _ in compared}
    yield from notes(flag_lines(flagged))
    yield from notes(not_at_budget([arm for arm in tested if arm.problem in problems], asked))
    yield from notes(without_control(tested, problems, compared[0][0].name))
    yield from notes([*without_score(findings.arms), trials_line(run)])
    yield Note(
        "95% at any time: a confidence sequence (Waudby-Smith et al., Annals of Statistics 2024): it holds at all"
        f" numbers of seeds from {FEWEST} on at once, so you may look after each one. All together: the same at 0.05"
        " divided by the number of comparisons in the table; the verdicts use it. Both are wider than an interval for a"
        " fixed number of seeds."
    )


def _record(arm: Arm, control: Arm, comparisons: int) -> dict[str, Any]:
    pairing = compare([(arm, control)])
    seeds = sorted(arm.test_by_seed.keys() & control.test_by_seed.keys())
    differences = [arm.test_by_seed[seed] - control.test_by_seed[seed] for seed in seeds]
    alone: tuple[float | None, float | None] = (None, None)
    together = alone
    verdict = "too few seeds"
    if len(seeds) >= FEWEST:
        image = _image(arm)
        alone = anytime_interval(differences, SIGNIFICANCE, BEST_AT, image)
        low, high = together = anytime_interval(differences, SIGNIFICANCE / comparisons, BEST_AT, image)
        verdict = "inconclusive"
        if low > 0 or high < 0:
            verdict = "better" if low > 0 else "worse"
    return {
        **arm.record, "against": str(control), "pairs": len(seeds), "difference": pairing.result.difference.mean,
        "difference_low": alone[0], "difference_high": alone[1],
        "together_low": together[0], "together_high": together[1],
        "verdict": no_verdict(pairing) or verdict, "failed_trials": pairing.failed,
        "trained_longer": pairing.trained_longer,
    }  # fmt: skip


def _image(arm: Arm) -> float:
    """Return the smallest step of a score that is a mean over images; 0 of others."""
    return 1 / min(arm.test_images) if SCALES[arm.metric].is_right and arm.test_images else 0.0
