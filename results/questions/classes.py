"""Which classes pay: two arms class by class, paired by seed, and what their models take each class for."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

from results.arms.against import at_smallest_budget
from results.arms.class_names import class_names
from results.arms.comparison import Arm, baseline_of, compare, transtailor_at
from results.arms.counts import trials_line
from results.arms.findings import Findings
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.problem import Problem
from results.arms.selection import arm_called, arms_at_budget, check_budget, select_arms
from results.arms.verdict import no_verdict
from results.command_options import at_option
from results.errors import ResultsError
from results.question import question
from results.questions.confusion import confusion_chart, confusion_records, mistakes_lines, true_class
from results.render.blocks import Figure, Section, TableBlock, Words
from results.statistics.pairs import compare_pairs, doubts, holm
from results.store.reader import Run
from results.store.views import is_of_points, literal
from results.text.number_format import SCALES
from results.text.page import Heading, Part, Shown, Table, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL, FLAGS
from transtailor import cli

SCORES = """
SELECT trial_id, label, count(*) AS images, avg(CAST({is_right} AS DOUBLE)) AS score, bit_xor(hash(image_id)) AS digest
FROM predictions WHERE split = 'test' AND {points} GROUP BY trial_id, label ORDER BY trial_id, label
"""
SHOWN = (
    Shown("class_name", text=true_class), Shown("pairs", "seeds"), Shown("score", "first {mark}"),
    Shown("against_score", "second {mark}"), "difference", DIFFERENCE_INTERVAL, "p", "p_holm", "verdict", FLAGS,
)  # fmt: skip

Scores = dict[int, dict[int, float]]
"""By class and seed: the share of its test images that is right, the mean over the trials of the seed."""


def class_table(run: Run, first: Arm, second: Arm) -> Table:
    """Return a record for each class, over the seeds of which both arms have test images of it.

    Raises:
        ResultsError: the two were tested on different images at a seed.
    """
    first_scores, first_images = _scores(run, first)
    second_scores, second_images = _scores(run, second)
    for seed in sorted(first_images.keys() & second_images.keys()):
        if first_images[seed] != second_images[seed]:
            raise ResultsError(
                f"{first.problem}, seed {seed}: the two were tested on different images; compare within one split"
            )
    paired = {}
    for label in sorted(first_scores.keys() & second_scores.keys()):
        pairs = compare_pairs(first_scores[label], second_scores[label])
        if pairs.difference.n:
            paired[label] = pairs
    reason = no_verdict(compare([(first, second)]))
    corrected = holm([None if reason else pairs.p for pairs in paired.values()])
    names = class_names(run, first.problem.dataset)
    flags = flags_of([(first, second)], Facts(run))
    records: list[dict[str, Any]] = []
    for (label, pairs), p_holm in zip(paired.items(), corrected, strict=True):
        difference = pairs.difference
        seeds = sorted(first_scores[label].keys() & second_scores[label].keys())
        word = "better" if difference.mean is not None and difference.mean > 0 else "worse"
        records.append({
            **first.problem.record, "metric": first.metric, "arm": str(first), "against": str(second), "label": label,
            "class_name": names.get(label), "score": fmean(first_scores[label][seed] for seed in seeds),
            "against_score": fmean(second_scores[label][seed] for seed in seeds), "pairs": difference.n,
            "difference": difference.mean, "difference_low": difference.low, "difference_high": difference.high,
            "p": pairs.p, "smallest_p": pairs.smallest_p, "p_holm": p_holm,
            "verdict": reason or ("inconclusive" if doubts(pairs) else word), "flags": flags,
        })  # fmt: skip
    return answer_table("classes", records, shown=SHOWN, sql=_query(first))


def _query(arm: Arm) -> str:
    points = is_of_points((point.trial_id, point.point) for point in arm.points)
    return SCORES.format(is_right=SCALES[arm.metric].is_right, points=points)


def _scores(run: Run, arm: Arm) -> tuple[Scores, dict[int, set[tuple[int, int, int]]]]:
    """Return the scores of an arm, and what tells the test images of each seed: class, their number, their digest."""
    seed_of = {point.trial_id: point.seed for point in arm.points}
    of_trials: dict[int, dict[int, list[float]]] = {}
    images: dict[int, set[tuple[int, int, int]]] = {}
    for row in run.rows(_query(arm)):
        seed = seed_of[row["trial_id"]]
        of_trials.setdefault(row["label"], {}).setdefault(seed, []).append(row["score"])
        images.setdefault(seed, set()).add((row["label"], row["images"], row["digest"]))
    scores = {}
    for label, by_seed in of_trials.items():
        scores[label] = {seed: fmean(of_seed) for seed, of_seed in by_seed.items()}
    return scores, images


def section(findings: Findings) -> Section:
    """Compare, in each problem of classes, TransTailor's arm or the best one with fine-tuning, class by class."""
    section_classes = Section(
        "classes",
        "Which classes pay",
        "Two arms class by class, paired by seed, and what either takes each class for.",
        empty="No two arms of a classification problem have test predictions for a common seed yet.",
        short="Classes",
    )
    for problem, first, second in _pairs(findings):
        drawn = confusion_chart(findings.run, [first, second])
        if drawn is not None:
            section_classes.blocks.append(Figure(f"confusion{len(section_classes.blocks)}", drawn))
        try:
            table = class_table(findings.run, first, second)
        except ResultsError as error:
            section_classes.blocks.append(Words(str(error)))
            continue
        title = f"{problem}: {first} against {second}"
        section_classes.blocks.append(TableBlock(table, title, derived=True, folded=True))
    return section_classes


def compared_predictions(findings: Findings) -> str:
    """Return the SQL condition on the rows of `predictions` that `section` can read."""
    trials: set[str] = set()
    for _, first, second in _pairs(findings):
        trials.update(point.trial_id for point in first.points + second.points)
    return f"trial_id IN ({', '.join(map(literal, sorted(trials))) or 'NULL'})"


def _pairs(findings: Findings) -> Iterator[tuple[Problem, Arm, Arm]]:
    """Yield each problem of classes with the two arms to compare, which have a seed in common."""
    for problem in findings.problems:
        arms = [arm for arm in findings.arms if arm.problem == problem and SCALES[arm.metric].is_right]
        baseline = baseline_of(arms, problem)
        others = [arm for arm in transtailor_at(arms, findings.budget) or arms if arm is not baseline]
        if baseline and others and others[0].test_by_seed.keys() & baseline.test_by_seed.keys():
            yield problem, others[0], baseline


@question(example="runs/demo transtailor fine_tune")
@cli.argument("first", metavar="ARM")
@cli.argument("second", metavar="ARM")
@at_option
def classes(run: Run, first: str, second: str, at: float | None = None) -> Iterator[Part]:
    """Two arms class by class, paired by seed, and what they take each class for.

    An arm is given by its name, or by a label that only it has.
    """
    arms = select_arms(run).arms
    names = [arm_called(run, arms, text) for text in (first, second)]
    if names[0] == names[1]:
        raise ResultsError(f"{names[0]!r} is given twice; type two arms")
    check_budget(arms, at)
    compared: list[tuple[Arm, Arm, Table]] = []
    for problem in sorted({arm.problem for arm in arms}):
        shown = arms_at_budget([arm for arm in arms if arm.problem == problem], at)
        first_arm, second_arm = (at_smallest_budget(shown, name) for name in names)
        if first_arm is not None and second_arm is not None and SCALES[first_arm.metric].is_right:
            compared.append((first_arm, second_arm, class_table(run, first_arm, second_arm)))
    if not compared:
        raise ResultsError(
            f"{names[0]!r} and {names[1]!r} have no problem in common that is compared by accuracy, so there are no"
            f" classes to compare; by seeds, type: {run.to_type('compare', '--against', names[1])}"
        )
    for first_arm, second_arm, table in compared:
        problem = first_arm.problem
        yield Heading(f"{first_arm} against {second_arm}, {problem}")
        yield ""
        yield table
        yield ""
        seeds = first_arm.test_by_seed.keys() & second_arm.test_by_seed.keys()
        confused = []
        for arm in (first_arm, second_arm):
            paired = replace(arm, points=tuple(point for point in arm.points if point.seed in seeds))
            confused.append(confusion_records(run, paired, class_names(run, problem.dataset)))
        yield answer_table("classes", [*confused[0], *confused[1]], "confusion")
        lines = [*mistakes_lines(confused)]
        yield from notes(lines, problem)
        yield ""
    yield from notes([*flag_lines(row for *_, table in compared for row in table.records), trials_line(run)])
