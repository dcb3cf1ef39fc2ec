"""Comparisons: TransTailor at one budget, the tables of all arms, the tuning, all arms against fine-tuning."""

from collections.abc import Sequence

from results.arms import comparison, tuning
from results.arms.comparison import Arm, Pairing, Problem
from results.arms.counts import count_lines, trial_counts
from results.arms.shared_training import shared_training_lines, shared_trainings
from results.arms.verdict import verdict
from results.figures.rows import Line, Mark, rows_of_dots
from results.report.elements import tables
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, Words, answer, literal
from results.report.elements.findings import Findings
from results.report.elements.problems import problem_condition
from results.text.number_format import SCALES, percent

BUDGET = 0.20
"""The budget of the first comparison: share of the MACs that is removed."""
_MOST_BUDGETS = 4
_MOST_VERDICTS = 6
_FOLDED_ABOVE = 24

DIFFERENCES = """
WITH one_setting AS (
    SELECT point.* FROM compared_points AS point
    LEFT JOIN (SELECT DISTINCT ON (trial_id) trial_id, tuning_order FROM planned ORDER BY trial_id, written_at DESC)
        USING (trial_id)
    WHERE {problem}
    QUALIFY row_number() OVER (PARTITION BY trial_id, asked_removed_macs_fraction ORDER BY point DESC) = 1
        AND (tuning_order IS NULL OR rank() OVER (
            PARTITION BY label, method, seed, asked_removed_macs_fraction
            ORDER BY CASE WHEN isfinite(validation_score) THEN 0 ELSE 1 END, validation_score DESC, tuning_order) = 1)
), seeds AS (
    SELECT label, method, round(asked_removed_macs_fraction, 9) AS asked_removed_macs_fraction, seed,
        avg(test_score) AS test_score
    FROM one_setting WHERE isfinite(test_score) GROUP BY ALL
)
SELECT one.label, one.asked_removed_macs_fraction, seed, one.test_score,
    baseline.test_score AS baseline_test_score, one.test_score - baseline.test_score AS difference
FROM seeds AS one JOIN seeds AS baseline USING (seed)
WHERE baseline.label = {label} AND baseline.asked_removed_macs_fraction IS NOT DISTINCT FROM {asked}
    AND (one.label, one.asked_removed_macs_fraction) IS DISTINCT FROM
        (baseline.label, baseline.asked_removed_macs_fraction)
ORDER BY ALL
"""
"""Seed by seed, with the best setting of [tuning] if there is one."""


def named_section(found: Findings) -> Section:
    """Compare TransTailor at the budget with each arm of full fine-tuning, in each problem and pooled."""
    section = Section(
        "named",
        f"TransTailor's sub-model at {100 * BUDGET:g}% fewer MACs against full fine-tuning",
        "Scores on the test split, paired by seed. The verdict is “better” only if the interval of the difference"
        " excludes 0 and an exact sign-flip test agrees.",
        empty="No operating points of TransTailor at this budget and of full fine-tuning yet.",
        short="TransTailor against fine-tuning",
    )
    pairs_by_labels: dict[tuple[str, str, str], list[tuple[Arm, Arm]]] = {}
    for arm in comparison.transtailor_at(found.arms, BUDGET):
        for baseline in comparison.baselines_of(found.arms, arm.problem):
            pairs_by_labels.setdefault((arm.label, baseline.label, arm.metric), []).append((arm, baseline))
    pairings: list[Pairing] = []
    for pairs in pairs_by_labels.values():
        pairings += [comparison.compare([pair]) for pair in pairs]
        if len(pairs) > 1:
            pairings.append(comparison.compare(pairs))
    for pairing in pairings:
        where = str(pairing.problem) if pairing.problem else "Pooled over networks and seeds"
        if len(section.blocks) == _MOST_VERDICTS:
            section.blocks.append(Words(f"The table has {len(pairings) - _MOST_VERDICTS} more comparisons."))
            break
        words = verdict(pairing)
        if pairing.shares_models:
            words += " Several pairs have the same model, so n is smaller than it looks."
        section.blocks.append(Words(words, bold=f"{where}, against {pairing.second}"))
    if pairings:
        table = tables.pairings_table(pairings, comparison.POINTS, where=True)
        section.blocks.append(TableBlock(table, derived=True))
    return section


def methods_section(found: Findings) -> Section:
    """List all arms of each problem, by rank."""
    section = Section(
        "methods",
        "Methods at each budget",
        "Ranked by the score on the validation split. The score on the test split is shown and ranks nothing. One row"
        " is one label at one asked budget; “removed” is the mean share of the MACs that was really removed, “models”"
        " counts the distinct models of the seeds.",
        empty="No operating point is written yet.",
        short="Methods",
    )
    for problem in sorted({arm.problem for arm in found.arms}):
        arms = [arm for arm in found.arms if arm.problem == problem]
        table = tables.methods_table(arms, comparison.POINTS)
        section.blocks.append(TableBlock(table, str(problem), derived=True, folded=len(arms) > _FOLDED_ABOVE))
    if found.arms:
        problems = {arm.problem for arm in found.arms}
        (whole, *_) = count_lines(trial_counts(found.run), problems)
        shared = shared_training_lines(shared_trainings(found.run), problems)
        section.blocks += [Words(line) for line in (f"{whole} Failed and missing trials are in no mean.", *shared)]
    return section


def warnings(found: Findings) -> list[str]:
    """Return the warnings about the comparisons."""
    lines = []
    if "budgets are not equal" in (text := _tuned(found)):
        lines.append(f"{text} Comparisons of such arms are marked and do not settle anything.")
    if lost := sum(arm.not_finite for arm in found.arms):
        lines.append(
            f"Operating points whose validation score is not a number: {lost}; the means leave them out, so their"
            " arms look better than they are."
        )
    return lines


def tuning_section(found: Findings) -> Section | None:
    """Show which settings of [tuning] were chosen, and the comparisons with only the first of them."""
    counts = tuning.counts_of(found.best)
    if not counts:
        return None
    section = Section("tuning", "What was tuned", f"{_tuned(found)} The test split was not used to choose.")
    section.blocks.append(TableBlock(tables.settings_table(counts, tuning.CHOSEN_SETTINGS), derived=True))
    of_first = sorted({tuning.setting_text(point.setting) for point in found.first if point.setting is not None})
    pairs = comparison.against_baseline(comparison.arms_of(found.first, found.environments))
    pairings = [comparison.compare([pair]) for pair in pairs]
    for problem in sorted({pairing.problem for pairing in pairings if pairing.problem}):
        its = [pairing for pairing in pairings if pairing.problem == problem]
        table = tables.pairings_table(its, comparison.POINTS, where=False)
        title = f"{problem}, all at the first setting: {', '.join(of_first)}. The comparison below, without tuning"
        section.blocks.append(TableBlock(table, title, derived=True))
    return section


def baseline_section(found: Findings) -> Section:
    """Compare all arms with full fine-tuning, in a figure and a table for each problem."""
    pairings = [comparison.compare([pair]) for pair in comparison.against_baseline(found.arms)]
    text = "Paired by seed on the test split: small dots are seeds, large ones their mean with its 95% interval."
    text += " Full dots are settled differences, rings are not."
    if len(pairings) > 1:
        text += (
            f" These are {len(pairings)} comparisons, each tested on its own at 0.05: without any true difference,"
            f" about {0.05 * len(pairings):.1f} of them would look settled."
        )
    section = Section(
        "against", "All arms against full fine-tuning", text,
        empty="No arm to compare with full fine-tuning yet.",
        short="All against fine-tuning",
    )  # fmt: skip
    for place, problem in enumerate(sorted({pairing.problem for pairing in pairings if pairing.problem})):
        its = [pairing for pairing in pairings if pairing.problem == problem]
        shown = [pairing for pairing in its if pairing.result.difference.mean is not None]
        if shown:
            section.blocks.append(_differences(found, f"against{place}", problem, shown))
            table = tables.pairings_table(its, comparison.POINTS, where=False)
            section.blocks.append(TableBlock(table, f"{problem}: the means", derived=True, folded=True))
    return section


def _differences(found: Findings, name: str, problem: Problem, pairings: Sequence[Pairing]) -> Figure:
    """Draw one row for each label and one panel for each budget."""
    (baseline, *_) = comparison.baselines_of(found.arms, problem)
    asked = "NULL" if baseline.asked is None else repr(baseline.asked)
    sql = DIFFERENCES.format(problem=problem_condition(problem), label=literal(baseline.label), asked=asked)
    data = answer(found.run, sql)
    scale = SCALES[baseline.metric]
    budgets = _budgets(pairings)
    seeds = _by_arm(data, scale.factor)
    lines = []
    for label in sorted({pairing.label for pairing in pairings if pairing.asked in budgets}):
        of_label = {pairing.asked: pairing for pairing in pairings if pairing.label == label}
        lines.append(
            Line(label, [
                [_mark(found, of_label[asked], seeds.get((label, asked), []))] if asked in of_label else []
                for asked in budgets
            ])
        )  # fmt: skip
    panels = [f"{_at(asked)} ({scale.difference_unit.strip()})" for asked in budgets]
    title = f"{problem}: difference in test {scale.noun} to {baseline}"
    left = len({pairing.asked for pairing in pairings}) - len(budgets)
    note = f"{left} more budgets are in the tables." if left else ""
    return Figure(
        name, title, rows_of_dots(title, panels, lines, zero=True, shared=True), data,
        titled_by=("label",), note=note,
    )  # fmt: skip


def _mark(found: Findings, pairing: Pairing, dots: Sequence[tuple[float, int]]) -> Mark:
    scale, mean = SCALES[pairing.metric], pairing.result.difference
    interval = "" if mean.low is None else f" [{scale.interval(mean, signed=True)}]"
    doubts = f"; {'; '.join(pairing.doubts)}" if pairing.doubts else "; settled"
    return Mark(
        value=scale.factor * (mean.mean or 0.0),
        series=found.labels.number(pairing.label),
        colour=found.labels.colours[pairing.label],
        words=f"{pairing.first}: {scale.difference(mean.mean)}{scale.difference_unit}{interval}, n = {mean.n}{doubts}",
        low=None if mean.low is None else scale.factor * mean.low,
        high=None if mean.high is None else scale.factor * mean.high,
        dots=dots,
        hollow=bool(pairing.doubts),
    )


def _by_arm(data: Answer, factor: float) -> dict[tuple[str, float | None], list[tuple[float, int]]]:
    found: dict[tuple[str, float | None], list[tuple[float, int]]] = {}
    for place, row in enumerate(data.records()):
        arm = (row["label"], row["asked_removed_macs_fraction"])
        found.setdefault(arm, []).append((factor * row["difference"], place))
    return found


def _budgets(pairings: Sequence[Pairing]) -> list[float | None]:
    """Choose the budgets to draw: those of most arms, in order."""
    counts: dict[float | None, int] = {}
    for pairing in pairings:
        counts[pairing.asked] = counts.get(pairing.asked, 0) + 1
    most = sorted(counts, key=lambda asked: (-counts[asked], comparison.budget_order(asked)))[:_MOST_BUDGETS]
    return sorted(most, key=comparison.budget_order)


def _at(asked: float | None) -> str:
    if asked is None:
        return "decided by a rule"
    return "nothing removed" if asked == 0 else f"{percent(asked, 0)}% removed"


def _tuned(found: Findings) -> str:
    numbers = sorted({point.best_of for point in found.best})
    if len(numbers) == 1:
        return (
            f"Each arm is shown with the best of {numbers[0]} settings by validation, chosen for each seed and asked"
            " budget: all arms have the same tuning budget."
        )
    return (
        f"Arms are shown with the best of {', '.join(map(str, numbers))} settings by validation: their tuning"
        " budgets are not equal."
    )
