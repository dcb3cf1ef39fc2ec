"""Comparisons over data sets, of which each is one observation: does it hold on a data set like these?"""

from collections.abc import Iterator, Sequence
from typing import Any

from results.arms.against import Pair, compared_arms, control_lines
from results.arms.below_head import below_head_lines
from results.arms.comparison import budget_order, compare, repeats_lines
from results.arms.extensions import extension_notes
from results.arms.findings import findings_of
from results.arms.one_class import one_class_lines
from results.arms.over_datasets import OverDataSets
from results.arms.problem import Problem
from results.arms.selection import nan_lines, not_at_budget
from results.arms.shared_training import support_lines
from results.arms.verdict import comparison_record
from results.errors import ResultsError
from results.statistics.pairs import holm
from results.store.reader import Run
from results.text.page import Heading, Note, Part, Shown, answer_table
from results.text.shown import DIFFERENCE_INTERVAL, VERDICT, interval

FEWEST_SETS = 2
SHOWN = (
    "network", "asked_removed_macs_fraction", "arm", "datasets", "difference", DIFFERENCE_INTERVAL, "p", "p_holm",
    VERDICT, interval("new_set_low", "difference", "a new set"), Shown("pairs", "seeds"),
    interval("these_sets_low", "difference", "these sets"), "these_sets_p", "these_sets_p_holm", "against",
)  # fmt: skip
USUAL = ("arm", "asked_removed_macs_fraction", "datasets", "difference", "difference_low", "verdict", "new_set_low")
READ = (
    "The mean over data sets, with its interval and p, takes each data set as one observation, and these as drawn from"
    " the sets that are meant: a t interval of their mean differences. A new set: where the difference on one more such"
    " set is expected in 95% of the cases. Both suppose sets that are alike, and say little with few of them.",
    "These sets: the same mean for these very data sets, each with the same weight; the seeds that all of them have are"
    " the observations, as in the table without --across. It says nothing about other data sets.",
)


class _Row:
    """An arm and its control on one network: the pair of each data set."""

    def __init__(self, network: str, pairs: Sequence[Pair]) -> None:
        self.network = network
        self.arms = [arm for pair in pairs for arm in pair]
        self.sets = OverDataSets(tuple(compare([pair]) for pair in pairs))
        self.these = compare(pairs)

    def record(self, p_holm: float | None, these_p_holm: float | None) -> dict[str, Any]:
        """Return its row."""
        these = self.these.result
        return {
            **comparison_record(self.these), **self.sets.record, "network": self.network,
            "datasets": len(self.sets.pairings),
            "pairs": min(pairing.result.difference.n for pairing in self.sets.pairings), "p_holm": p_holm,
            "these_sets_low": these.difference.low, "these_sets_high": these.difference.high,
            "these_sets_p": self.these.p_of_family, "these_sets_p_holm": these_p_holm,
        }  # fmt: skip


def across_datasets_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield the page: for each network a row for each arm that all its data sets have; notes name what is left out.

    Raises:
        ResultsError: as `versus_arm_page`; a data set is there twice, no arm is on two, or metrics differ.
    """
    findings = findings_of(run)
    tested = findings.tested
    compared = compared_arms(run, findings.arms, against, asked)
    by_network: dict[str, list[tuple[Problem, list[Pair]]]] = {}
    for base, pairs in compared:
        by_network.setdefault(base.problem.network, []).append((base.problem, pairs))
    rows: list[_Row] = []
    left_out: list[str] = []
    for network, of_sets in by_network.items():
        if len(of_sets) < FEWEST_SETS:
            left_out.append(f"{network}, which has {against} on {of_sets[0][0].dataset} alone")
            continue
        if len({problem.dataset for problem, _ in of_sets}) < len(of_sets):
            raise ResultsError(
                f"--across datasets: {network} has one data set with several numbers of training images, which are no"
                f" independent observations: {', '.join(str(problem) for problem, _ in of_sets)}; give one run for each"
                " number"
            )
        rows += _rows(network, of_sets, left_out)
    have_control = {base.problem for base, _ in compared}
    for problem in sorted({arm.problem for arm in tested} - have_control):
        left_out.append(f"{problem}, which has no {against}")
    if not rows:
        raise ResultsError(
            f"--across datasets needs an arm that all data sets of a network have, two or more; {'; '.join(left_out)};"
            " add data sets or arms to the spec (transtailor run SPEC --extend), or leave --across out"
        )
    corrected = holm([row.sets.p for row in rows] + [row.these.p_of_family for row in rows])
    yield Heading("Across data sets")
    yield ""
    yield f"Compared with {compared[0][0]}."
    yield ""
    p_of_rows = zip(corrected[: len(rows)], corrected[len(rows) :], strict=True)
    records = [row.record(*both) for row, both in zip(rows, p_of_rows, strict=True)]
    yield answer_table("compare --across", records, "across", shown=SHOWN, usual=USUAL)
    yield ""
    if left_out:
        yield Note(f"Left out: {'; '.join(left_out)}.")
    for base, pairs in compared:
        yield from (Note(f"{base.problem}: {line}") for line in control_lines(base, pairs))
    controls = {control.name for _, pairs in compared for _, control in pairs}
    lines = [*not_at_budget(tested, asked), *below_head_lines(run, have_control, controls)]
    lines += [*repeats_lines(row.these for row in rows), *nan_lines(findings.best, asked)]
    arms = [arm for row in rows for arm in row.arms]
    lines += [*one_class_lines(arms), *extension_notes(run, [arm.name for arm in arms])]
    yield from map(Note, [*lines, *READ, *support_lines(run, have_control)])
    tests = sum(p is not None for p in corrected)
    yield Note(f"p (Holm): all {tests} tests of this table are one family. Verdicts are uncorrected.")


def _rows(network: str, of_sets: Sequence[tuple[Problem, list[Pair]]], left_out: list[str]) -> list[_Row]:
    """Return a row for each arm that all data sets of a network have, and add the others to `left_out`."""
    pairs_by_arm: dict[tuple[tuple[bool, float], str], dict[str, Pair]] = {}
    for problem, pairs in of_sets:
        for pair in pairs:
            arm, _ = pair
            pairs_by_arm.setdefault((budget_order(arm.asked), arm.name), {})[problem.dataset] = pair
    every = {problem.dataset: pairs[0][0].metric for problem, pairs in of_sets if pairs}
    if len(set(every.values())) > 1:
        scores = ", ".join(f"{dataset} ({metric})" for dataset, metric in every.items())
        raise ResultsError(
            f"--across datasets averages scores of one kind, and these differ: {scores}; give their runs apart"
        )
    rows = []
    for _, by_set in sorted(pairs_by_arm.items()):
        absent = [problem.dataset for problem, _ in of_sets if problem.dataset not in by_set]
        arm, _ = next(iter(by_set.values()))
        if absent:
            left_out.append(f"{arm} of {network} has no scores on {', '.join(absent)}")
        elif len({str(control) for _, control in by_set.values()}) > 1:
            left_out.append(f"{arm} of {network} has other controls on other data sets")
        else:
            rows.append(_Row(network, list(by_set.values())))
    return rows
