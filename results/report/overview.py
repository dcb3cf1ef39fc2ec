"""The first comparisons of the page: TransTailor at one budget, the tables of all arms, the tuning."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from results.arms import comparison
from results.arms.comparison import Arm, Pairing, Point
from results.arms.counts import failed_by_arm
from results.arms.findings import Findings
from results.arms.flags import flag_lines, flags_of
from results.arms.looks import RecordedLook, has_several_families, is_settled_run
from results.arms.problem import Problem
from results.arms.verdict import comparison_record, verdict
from results.columns import columns_from
from results.questions import settled
from results.questions.settled import look_record, settled_verdicts
from results.render import tables
from results.render.blocks import Section, TableBlock, Words
from results.render.style import PALETTE, SIGNS, order_arms
from results.text.number_format import SCALES, percent
from results.text.page import Shown, Table
from results.text.shown import DIFFERENCE_INTERVAL, PROBLEM, SCORE_INTERVAL, VERDICT, verdict_text
from transtailor.documents import read_json
from transtailor.plural import first_few

_MOST_VERDICTS = 6
_MOST_NAMED = 8
CHOSEN_SETTINGS = """
SELECT network, dataset, train_images, arm, seed, asked_removed_macs_fraction, tuning_json, validation_score
FROM points JOIN (SELECT trial_id, tuning_json FROM planned) USING (trial_id)
WHERE is_compared AND tuning_json IS NOT NULL ORDER BY ALL
"""
BUDGET_MISSED_FRACTION = 0.01
"""Arms that miss their asked budget by more than this are named."""


def headline(findings: Findings) -> str:
    """Write the verdicts of the first comparison, pooled if there are several problems."""
    return settled.headline(findings) if is_settled_run(findings.run) else _verdicts(findings)


def _verdicts(findings: Findings) -> str:
    """Write the verdict of the first comparison in full, and in a few words those at its other budgets."""
    pairings = _named_pairings(findings, findings.budget)
    if not pairings:
        return ""
    candidates = [pairing for pairing in pairings if pairing.problem is None] or pairings
    # Against what trained as long, if it is there, and over the most pairs.
    first = min(candidates, key=lambda pairing: (pairing.trained_longer, -pairing.result.difference.n))
    where = f"On {first.problem}" if first.problem else f"Pooled over {first.problems} problems"
    text = f"{verdict(first)} {where}."
    others = []
    for budget in findings.budgets:
        for pairing in _named_pairings(findings, budget):
            is_same = (pairing.problem, pairing.arm, pairing.second) == (first.problem, first.arm, first.second)
            if is_same and pairing.asked != first.asked:
                scale = SCALES[pairing.metric]
                difference = scale.difference(pairing.result.difference.mean)
                word = verdict_text(comparison_record(pairing))
                others.append(f"at {100 * budget:g}% {word} ({difference}{scale.difference_unit})")
    return f"{text} {first.arm} at its other budgets: {', '.join(others)}." if others else text


ARMS = columns_from(
    [
        "metric", "arm", "removed_macs_fraction", "score", "score_low", "score_high", "seeds", "difference",
        "difference_low", "difference_high", "verdict", "trained_longer", {"name": "rank", "type": "int64?"},
        "validation_score",
    ]
)  # fmt: skip
# What answers the question is first: a narrow window shows the first columns.
SHOWN = (
    "removed_macs_fraction", Shown("score", "test {mark}"), SCORE_INTERVAL, Shown("seeds", "n"),
    Shown("difference", "diff."), DIFFERENCE_INTERVAL, VERDICT, "rank", Shown("validation_score", "validation {mark}"),
)  # fmt: skip
NOT_COMPARED = dict.fromkeys(("difference", "difference_low", "difference_high", "verdict", "trained_longer"))


def overview(findings: Findings) -> list[TableBlock]:
    """List all arms with their test score, and their difference to full fine-tuning, for the first screen.

    Each record also has what stands beside its row: the sign and the colour of the arm, which of its trials failed, and
    whether it is the first budget of its arm, which is named there only.
    """
    failed = failed_by_arm(findings.run)
    looks = None
    if is_settled_run(findings.run):
        looks = {} if has_several_families(findings.run) else settled_verdicts(findings.run)
    numbers = {name: number for number, name in enumerate(order_arms(findings.methods))}
    blocks = []
    for problem in findings.problems:
        arms = [arm for arm in findings.arms if arm.problem == problem]
        metric = arms[0].metric if arms else "accuracy"
        compared = [triple for triple in findings.against_baseline if triple[0].problem == problem]
        records: list[dict[str, Any]] = []
        for arm in _best_first(arms):
            is_first = not records or records[-1]["arm"] != arm.name
            count = failed.get((problem, arm.name), Counter()).total() if is_first else 0
            comparison_of_arm = _compared(arm, compared) if looks is None else _settled(arm, looks)
            beside = _beside(numbers[arm.name], count, is_first=is_first)
            records.append({**comparison_of_arm, **arm.record, "rank": arm.rank, **beside})
        measured = {arm.name for arm in arms}
        for (problem_of_arm, name), by_seed in failed.items():
            if problem_of_arm == problem and name not in measured:
                nothing = dict.fromkeys(column.name for column in ARMS)
                of_arm = {"metric": metric, "arm": name}
                records.append({**nothing, **of_arm, **_beside(numbers[name], by_seed.total(), is_first=True)})
        control = str(compared[0][1]) if compared else ""
        if looks is not None:
            control = next((look.comparison.against for look in looks.values()), "")
        title = f"{problem}, difference to {control}" if control else str(problem)
        blocks.append(TableBlock(Table(columns=ARMS, records=records, shown=SHOWN), title))
    return blocks


def _best_first(arms: Sequence[Arm]) -> list[Arm]:
    """Order the arms of a problem by the test score of each at its best budget, and the budgets of an arm by size."""
    best: dict[str, float] = {}
    for arm in arms:
        if arm.test.mean is not None:
            best[arm.name] = max(arm.test.mean, best.get(arm.name, -math.inf))
    return sorted(arms, key=lambda arm: (-best.get(arm.name, -math.inf), arm.name, comparison.budget_order(arm.asked)))


def _compared(arm: Arm, compared: Sequence[tuple[Arm, Arm, Pairing]]) -> dict[str, Any]:
    """Return difference, interval and verdict of an arm at a budget, against full fine-tuning."""
    for of_arm, _, pairing in compared:
        if of_arm is arm:
            return comparison_record(pairing)
    return NOT_COMPARED


def _settled(arm: Arm, looks: Mapping[tuple[Problem, str, float | None], RecordedLook]) -> dict[str, Any]:
    """Return difference, interval and verdict of the last look at an arm at a budget."""
    look = looks.get((arm.problem, arm.name, arm.asked))
    return NOT_COMPARED if look is None else look_record(look)


def _beside(number: int, failed: int, *, is_first: bool) -> dict[str, Any]:
    """Return what stands beside the row of the arm with this number."""
    sign = SIGNS[number % len(SIGNS)]
    words = f"{failed} failed or NaN" if failed else ""
    return {"colour": number % len(PALETTE), "sign": sign, "failed": words, "is_first": is_first}


def named_section(findings: Findings) -> Section | None:
    """Compare TransTailor at the budget with full fine-tuning, in each problem and pooled.

    None if looks decided, and for a run without TransTailor.
    """
    if is_settled_run(findings.run) or comparison.TRANSTAILOR not in findings.methods.values():
        return None
    section = Section(
        "named",
        "TransTailor against fine-tuning",
        f"TransTailor's sub-model at {100 * findings.budget:g}% fewer MACs, and full fine-tuning of the whole network."
        " Scores on the test split, paired by seed. The verdict is “better” only if the interval of the difference"
        " excludes 0 and an exact sign-flip test agrees.",
        empty="No operating points of TransTailor at this budget and of full fine-tuning yet.",
        short="Verdicts",
    )
    pairings = _named_pairings(findings, findings.budget)
    for pairing in pairings:
        where = str(pairing.problem) if pairing.problem else f"Pooled over {pairing.problems} problems, by seed"
        if len(section.blocks) == _MOST_VERDICTS:
            section.blocks.append(Words(f"The table has {len(pairings) - _MOST_VERDICTS} more comparisons."))
            break
        section.blocks.append(Words(verdict(pairing), bold=f"{where}, against {pairing.second}"))
    if pairings:
        table = tables.pairings_table(pairings, findings.facts, comparison.POINTS_OF_ARMS, where=True)
        section.blocks.append(TableBlock(table, derived=True))
    return section


def _named_pairings(findings: Findings, budget: float) -> list[Pairing]:
    """TransTailor at a budget against each arm of full fine-tuning: in each problem, then pooled."""
    pairs_by_names: dict[tuple[str, str, str], list[tuple[Arm, Arm]]] = {}
    for arm in comparison.transtailor_at(findings.arms, budget):
        for baseline in comparison.baselines_of(findings.arms, arm.problem):
            pairs_by_names.setdefault((arm.name, baseline.name, arm.metric), []).append((arm, baseline))
    pairings: list[Pairing] = []
    for pairs in pairs_by_names.values():
        pairings += [comparison.compare([pair]) for pair in pairs]
        if len(pairs) > 1:
            pairings.append(comparison.compare(pairs))
    return pairings


def warnings(findings: Findings) -> list[str]:
    """Return the warnings about the comparisons."""
    lines = list(flag_lines({"flags": flags_of([(arm, None)], findings.facts)} for arm in findings.tested))
    if len({point.best_of for point in findings.points}) > 1:
        lines.append(f"{_tuned(findings)} Comparisons of such arms are marked and do not settle anything.")
    uneven = [arm for arm in findings.arms if len(arm.test_images) > 1]
    if uneven:
        lines.append(f"Arms whose trials have different numbers of test images: {'; '.join(map(str, uneven))}.")
    off = [
        arm for arm in findings.arms if arm.asked is not None and abs(arm.removed - arm.asked) > BUDGET_MISSED_FRACTION
    ]
    if off:
        named = first_few([f"{arm} ({percent(arm.removed, 1)}% removed)" for arm in off], _MOST_NAMED, "; ")
        lines.append(f"Arms that miss their budget by more than {percent(BUDGET_MISSED_FRACTION, 0)} point: {named}.")
    return lines


def tuning_section(findings: Findings) -> Section | None:
    """Show in how many seeds each setting of [tuning] was chosen, arm by arm."""
    groups: dict[tuple[Problem, str, float | None], list[Point]] = {}
    for point in findings.points:
        if point.setting:
            groups.setdefault((point.problem, point.arm, point.asked), []).append(point)
    records = []
    marks = []
    by_arm = sorted(groups.items(), key=lambda group: (*group[0][:2], comparison.budget_order(group[0][2])))
    for (problem, arm, asked), points in by_arm:
        best_of = sorted({point.best_of for point in points})
        if best_of == [1]:  # nothing was chosen, as for a head's fit
            continue
        for setting in sorted({point.setting for point in points}):
            chosen = ", ".join(f"{key} = {json.dumps(value)}" for key, value in read_json(setting).items())
            seeds = len({point.seed for point in points if point.setting == setting})
            records.append({
                **problem.record, "arm": arm, "asked_removed_macs_fraction": asked, "setting": chosen,
                "seeds": seeds, "best_of": best_of,
            })  # fmt: skip
            uneven = ["chosen from different numbers of settings: some trials are missing"]
            marks.append(uneven if len(best_of) > 1 else [])
    if not records:
        return None
    section = Section(
        "tuning", "What was tuned", f"{_tuned(findings)} The test split was not used to choose.", short="Tuning"
    )
    columns = columns_from(
        ["network", "dataset", "train_images", "arm", "asked_removed_macs_fraction",
         {"name": "setting", "type": "string"}, {"name": "seeds", "type": "int64", "heading": "chosen in seeds"},
         {"name": "best_of", "type": "list of int32"}]
    )  # fmt: skip
    best_of_text = Shown("best_of", text=lambda record: " or ".join(map(str, record["best_of"])))
    shown = (PROBLEM, "arm", "asked_removed_macs_fraction", "setting", "seeds", best_of_text)
    table = Table(columns=columns, records=records, shown=shown, marks=marks, sql=CHOSEN_SETTINGS)
    section.blocks.append(TableBlock(table, derived=True))
    return section


def _tuned(findings: Findings) -> str:
    numbers = sorted({point.best_of for point in findings.points})
    if len(numbers) == 1:
        return (
            f"Each arm is shown with the best of {numbers[0]} settings by validation, chosen for each seed and asked"
            " budget: all arms have the same tuning budget."
        )
    return (
        f"Arms are shown with the best of {', '.join(map(str, numbers))} settings by validation: their tuning"
        " budgets are not equal."
    )
