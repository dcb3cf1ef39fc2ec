"""Two arms on the same test images.

McNemar's test for each seed, seeds and images together, and class by class.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from results.arms import comparison
from results.arms.against import at_smallest_budget
from results.arms.class_names import class_names
from results.arms.comparison import Arm, Point
from results.arms.findings import Findings
from results.arms.problem import Problem
from results.arms.selection import arm_called, arms_at_budget, check_budget, select_arms
from results.arms.shared_training import support_lines
from results.arms.verdict import no_verdict
from results.command_options import at_option, complete_arms
from results.errors import ResultsError
from results.question import question
from results.questions.confusion import confusion_chart, confusion_records, mistakes_lines, true_class
from results.render.blocks import Figure, Section, Words, listing
from results.sign_flip import SIGNIFICANCE
from results.statistics.images import Crossed, McNemar, crossed_difference, mcnemar
from results.statistics.pairs import holm
from results.store.reader import Run
from results.store.views import is_of_points, literal
from results.text.number_format import SCALES, p_text
from results.text.page import Heading, Note, Part, Shown, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL
from transtailor import cli
from transtailor.plural import counted

CLAIMED_FROM_SEEDS = 5
"""With 3 seeds the interval over seeds and images covers 93% (docs/results/evidence/coverage.md)."""
PREDICTIONS = """
SELECT image_id, label, {is_right} AS is_right FROM predictions
WHERE split = 'test' AND trial_id = ? AND point = ? ORDER BY image_id
"""


@dataclass(frozen=True)
class Answers:
    """The answers of one model on the test images: (images,) ids, classes, and whether each prediction is right."""

    images: np.ndarray
    classes: np.ndarray
    is_right: np.ndarray


@dataclass(frozen=True)
class ByImage:
    """Two arms in one problem."""

    problem: Problem
    first: Arm
    second: Arm
    by_seed: Mapping[int, McNemar]  # McNemar's test for each seed that both have; the two models of one seed are a pair
    overall: Crossed | None  # over seeds and images, of which each seed may have its own; None without common seeds
    by_class: Mapping[int, Crossed]  # the same for each class: the difference in the share of right predictions
    scores_of_classes: Mapping[int, tuple[float, float]]  # this share of either arm, the mean over seeds
    unpaired: int  # seeds that only one of the two has
    partial_classes: Sequence[int]  # those that not all seeds have test images of; they are in no `by_class`
    other_budgets: Sequence[str]  # the arms at the budgets that are not compared


def compare_by_image(run: Run, first: str, second: str, asked: float | None = None) -> list[ByImage]:
    """Compare two arms in every classification problem that has both.

    Args:
        first, second: names of arms, or labels that only one arm has; each is taken at its smallest budget that is
            shown.
        asked: share of the MACs to remove; arms without points there are taken as they are.

    Raises:
        ResultsError: no such arm, or several with that label; a seed of an arm has several trials; or the models of a
            pair were tested on different images.
    """
    arms = select_arms(run).arms
    first_name = arm_called(run, arms, first)
    second_name = arm_called(run, arms, second)
    if first_name == second_name:
        raise ResultsError(f"{first_name!r} is given twice; type two arms")
    check_budget(arms, asked)
    comparisons = []
    for problem in sorted({arm.problem for arm in arms}):
        of_problem = [arm for arm in arms if arm.problem == problem and SCALES[arm.metric].is_right]
        shown = arms_at_budget(of_problem, asked)
        first_arm = at_smallest_budget(shown, first_name)
        second_arm = at_smallest_budget(shown, second_name)
        if first_arm is not None and second_arm is not None:
            named = [arm for arm in shown if arm.name in (first_name, second_name)]
            others = sorted(str(arm) for arm in named if arm not in (first_arm, second_arm))
            comparisons.append(_compare_problem(run, problem, first_arm, second_arm, others))
    if not comparisons:
        names = f"{first_name!r} and {second_name!r}"
        raise ResultsError(f"{names} {_no_problem(run, arms, second_name, asked)}")
    return comparisons


def _no_problem(run: Run, arms: Sequence[Arm], second: str, asked: float | None) -> str:
    """Say why two arms, of which the second has this name, cannot be compared image by image."""
    scales = [SCALES[arm.metric] for arm in arms]
    for scale in scales:
        if not scale.is_right and scale.factor != 1.0:
            return (
                f"are compared by {scale.noun}, which is no mean over images: that a model is right on an image says "
                f"nothing of it. To compare them by seeds, type: {run.to_type('compare', '--against', second)}"
            )
    at = "" if asked is None else f" at {asked:g} of the MACs removed"
    return f"have no problem of classes in common{at}; to see their points, type: {run.to_type('table')}"


def _points(arm: Arm) -> dict[int, Point]:
    """Return the one point of each seed. Raises ResultsError: a seed has several."""
    by_seed = {point.seed: point for point in arm.points}
    if len(by_seed) < len(arm.points):
        raise ResultsError(f"{arm}, {arm.problem}: several trials have one seed, so images cannot be paired")
    return by_seed


def _compare_problem(run: Run, problem: Problem, first: Arm, second: Arm, other_budgets: Sequence[str]) -> ByImage:
    first_points = _points(first)
    second_points = _points(second)
    pairs: list[tuple[Answers, Answers]] = []
    by_seed: dict[int, McNemar] = {}
    for seed in sorted(first_points.keys() & second_points.keys()):
        first_answers = _answers(run, first_points[seed])
        second_answers = _answers(run, second_points[seed])
        if not np.array_equal(first_answers.images, second_answers.images):
            raise ResultsError(
                f"{problem}, seed {seed}: the two models were tested on different images; compare within one split"
            )
        pairs.append((first_answers, second_answers))
        by_seed[seed] = mcnemar(first_answers.is_right, second_answers.is_right)
    overall, by_class = _compare_over_seeds(pairs)
    return ByImage(
        problem=problem,
        first=first,
        second=second,
        by_seed=by_seed,
        overall=overall,
        by_class=by_class,
        scores_of_classes={number: _scores_of_class(pairs, number) for number in by_class},
        unpaired=len(first_points.keys() ^ second_points.keys()),
        partial_classes=sorted({int(label) for answers, _ in pairs for label in answers.classes} - by_class.keys()),
        other_budgets=other_budgets,
    )


def _answers(run: Run, point: Point) -> Answers:
    rows = run.rows(PREDICTIONS.format(is_right=SCALES[point.metric].is_right), [point.trial_id, point.point])
    return Answers(
        images=np.array([row["image_id"] for row in rows]),
        classes=np.array([row["label"] for row in rows]),
        is_right=np.array([row["is_right"] for row in rows]),
    )


def _compare_over_seeds(pairs: Sequence[tuple[Answers, Answers]]) -> tuple[Crossed | None, dict[int, Crossed]]:
    """Compare over all seeds, and for each class that all of them have; (None, {}) without seeds or images."""
    if not pairs or any(not first.images.size for first, _ in pairs):
        return None, {}
    all_images = np.concatenate([first.images for first, _ in pairs])
    images, index = np.unique(all_images, return_index=True)
    classes = np.concatenate([first.classes for first, _ in pairs])[index]
    differences = np.full((len(pairs), len(images)), np.nan)
    for row, (first, second) in zip(differences, pairs, strict=True):
        row[np.searchsorted(images, first.images)] = first.is_right.astype(float) - second.is_right.astype(float)
    by_class = {}
    for number in np.unique(classes):
        of_class = differences[:, classes == number]
        is_in_all_seeds = not np.isnan(of_class).all(axis=1).any()
        if is_in_all_seeds:
            by_class[int(number)] = crossed_difference(of_class)
    return crossed_difference(differences), by_class


def _scores_of_class(pairs: Sequence[tuple[Answers, Answers]], number: int) -> tuple[float, float]:
    first, second = (
        [float(of.is_right[of.classes == number].mean()) for of in arm] for arm in zip(*pairs, strict=True)
    )
    return float(np.mean(first)), float(np.mean(second))


def image_page(run: Run, first: str, second: str, asked: float | None = None) -> Iterator[Part]:
    """Yield for each problem the table of seeds, that of classes, and the notes. Raises as `compare_by_image`."""
    comparisons = compare_by_image(run, first, second, asked)
    for compared in comparisons:
        yield Heading(f"{compared.first} against {compared.second}, {compared.problem}")
        yield ""
        yield answer_table("images", _seed_records(compared), "seeds", shown=SHOWN_SEEDS)
        yield ""
        names = class_names(run, compared.problem.dataset)
        records = list(_class_records(compared, names))
        if records:
            yield answer_table("images", records, "classes", shown=SHOWN_CLASSES)
            yield ""
        else:
            yield answer_table("images", [], "classes")
        yield answer_table("images", _overall_records(compared), "together")
        confused = [
            confusion_records(
                run, replace(arm, points=tuple(p for p in arm.points if p.seed in compared.by_seed)), names
            )
            for arm in (compared.first, compared.second)
        ]
        yield answer_table("images", [*confused[0], *confused[1]], "confusion")
        yield from notes([*_notes(compared, names), *mistakes_lines(confused)], compared.problem)
        yield ""
    problems = {compared.problem for compared in comparisons}
    names_of_arms = (comparisons[0].first.name, comparisons[0].second.name)
    left_out = {arm.problem for arm in select_arms(run).arms if arm.name in names_of_arms} - problems
    if left_out:
        yield Note(f"Not compared: {'; '.join(map(str, sorted(left_out)))}, where not both can be, image by image.")
    yield from map(Note, support_lines(run, problems))


def _pair_record(compared: ByImage) -> dict[str, Any]:
    of_pair = {"metric": compared.first.metric, "arm": str(compared.first), "against": str(compared.second)}
    return {**compared.problem.record, **of_pair}


def _seed_records(compared: ByImage) -> list[dict[str, Any]]:
    records = []
    for seed, test in sorted(compared.by_seed.items()):
        records.append({
            **_pair_record(compared), "seed": seed, "images": test.images, "only_first_right": test.first_only,
            "only_second_right": test.second_only, "p": test.p, "mid_p": test.mid_p, "smallest_p": test.smallest_p,
        })  # fmt: skip
    return records


def _class_records(compared: ByImage, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    corrected = holm([crossed.p for crossed in compared.by_class.values()])
    for (number, crossed), p_holm in zip(compared.by_class.items(), corrected, strict=True):
        score, against_score = compared.scores_of_classes[number]
        yield {
            **_crossed_record(compared, crossed), "label": number, "class_name": names.get(number), "p_holm": p_holm,
            "score": score, "against_score": against_score,
        }  # fmt: skip


def _overall_records(compared: ByImage) -> list[dict[str, Any]]:
    """Return the one record of all seeds and images; none without common seeds."""
    if compared.overall is None:
        return []
    return [{**_crossed_record(compared, compared.overall), "seeds": compared.overall.seeds}]


def _crossed_record(compared: ByImage, crossed: Crossed) -> dict[str, Any]:
    return {
        **_pair_record(compared), "images": crossed.images, "difference": crossed.difference,
        "difference_low": crossed.low, "difference_high": crossed.high, "p": crossed.p,
    }  # fmt: skip


SHOWN_SEEDS = ("seed", "images", "only_first_right", "only_second_right", "p", "mid_p", "smallest_p")
SHOWN_CLASSES = (
    Shown("class_name", text=true_class), "images", Shown("score", "first {mark}"),
    Shown("against_score", "second {mark}"), "difference", DIFFERENCE_INTERVAL, "p", "p_holm",
)  # fmt: skip


def _notes(compared: ByImage, names: Mapping[int, str]) -> list[str]:
    lines = []
    if compared.other_budgets:
        lines.append(f"Not compared here: {'; '.join(compared.other_budgets)}; to choose a budget, type --at.")
    overall = compared.overall
    if overall is None:
        lines.append("No seed has both arms, so they cannot be compared.")
    elif overall.low is None:
        lines.append("Only one seed: McNemar's test compares this pair of models on these images; no interval for the"
                     " methods can be given.")  # fmt: skip
    else:
        scale = SCALES[compared.first.metric]
        is_valid = overall.seeds >= CLAIMED_FROM_SEEDS
        settled = is_valid and overall.p is not None and overall.p <= SIGNIFICANCE
        reason = no_verdict(comparison.compare([(compared.first, compared.second)]))
        lines.append(
            f"Over {overall.seeds} seeds and {counted(overall.images, 'image')}, both as samples:"
            f" {scale.difference(overall.difference)} points, 95% {scale.difference(overall.low)} …"
            f" {scale.difference(overall.high)}, p = {p_text(overall.p)}:"
            f" {reason or ('the two differ' if settled else 'inconclusive')}."
        )
        if not is_valid:
            few = counted(overall.seeds, "seed")
            lines.append(
                f"With {few} that interval covers less than 95%; a verdict needs {CLAIMED_FROM_SEEDS} or more."
            )
    if compared.partial_classes:
        left_out = "; ".join(names.get(label, str(label)) for label in compared.partial_classes)
        lines.append(f"Classes that are in no row, as not every seed has test images of them: {left_out}.")
    lines.append(f"McNemar's p is about one pair of models.{_shared_images(compared)}")
    if compared.unpaired:
        lines.append(f"Left out, as only one of the two arms has them: {counted(compared.unpaired, 'seed')}.")
    if len(compared.first.environments | compared.second.environments) > 1:
        lines.append("Computed on mixed hardware, ranks or torch versions.")
    return lines


def _shared_images(compared: ByImage) -> str:
    """Say which images the seeds have in common; nothing of a single seed."""
    tested = [test.images for test in compared.by_seed.values()]
    if compared.overall is None or len(tested) < 2:
        return ""
    images = compared.overall.images
    if all(of_seed == images for of_seed in tested):
        return " The seeds share the images, so their p values cannot be combined."
    if sum(tested) == images:
        return " Each seed drew its own test images, and no image is in two of them."
    return " Each seed drew its own test images, and some are in several, so their p values cannot be combined."


IMAGES = """
WITH answers AS (
    SELECT trial_id IN ({first}) AS is_first, image_id, predictions.label AS class, prediction, {is_right} AS is_right,
        1 / count(*) OVER (PARTITION BY trial_id IN ({first}), seed, image_id) AS share
    FROM predictions JOIN operating_points USING (trial_id, point)
    WHERE split = 'test' AND trial_id IN ({first}, {second}) AND {points}
), counts AS (
    SELECT image_id, class, round(coalesce(sum(share) FILTER (is_first AND is_right), 0), 6) AS one,
        round(coalesce(sum(share) FILTER (NOT is_first AND is_right), 0), 6) AS two,
        list_sort(list(DISTINCT prediction) FILTER (prediction <> class)) AS wrong_answers
    FROM answers GROUP BY image_id, class
)
SELECT image_id, class, one AS {one}, two AS {two}, wrong_answers FROM counts
WHERE one <> two ORDER BY abs(one - two) DESC, image_id LIMIT {most}
"""
_MOST = 60


def section(findings: Findings) -> Section:
    """List for each problem of classes the images by the difference in how many seeds are right."""
    section_images = Section(
        "images",
        "Classes and images on which two sub-models disagree",
        "What either arm takes each class for. Below, test images that one arm predicts right in more seeds than the"
        " other: the numbers count the seeds that are right, of those that both have; several trials of a seed count by"
        " the fraction that is right.",
        empty="No two arms of a classification problem have test predictions for a common seed yet.",
        short="Images",
    )
    for problem, scale in findings.scales.items():
        if not scale.is_right and scale.factor != 1.0:
            words = f"Not valid: arms are compared by {scale.noun}, which is no mean over images."
            section_images.blocks.append(Words(words, bold=str(problem)))
    for problem, first, second in _pairs(findings):
        seeds = first.test_by_seed.keys() & second.test_by_seed.keys()
        if not seeds:
            continue
        first_points = {point.trial_id: point.point for point in first.points if point.seed in seeds}
        second_points = {point.trial_id: point.point for point in second.points if point.seed in seeds}
        both = first_points | second_points
        sql = IMAGES.format(
            first=", ".join(literal(trial_id) for trial_id in first_points),
            second=", ".join(literal(trial_id) for trial_id in second_points),
            points=is_of_points(both.items()),
            is_right=SCALES[first.metric].is_right,
            one=_column(first),
            two=_column(second),
            most=_MOST,
        )
        drawn = confusion_chart(findings.run, [first, second])
        if drawn is not None:
            section_images.blocks.append(Figure(f"confusion{len(section_images.blocks)}", drawn))
        section_images.blocks.append(listing(findings.run, sql, f"{problem}: {first} and {second}", folded=True))
    return section_images


def compared_predictions(findings: Findings) -> str:
    """Return the SQL condition on the rows of `predictions` that `section` can read."""
    trials: set[str] = set()
    for _, first, second in _pairs(findings):
        trials.update(point.trial_id for point in first.points + second.points)
    return f"trial_id IN ({', '.join(map(literal, sorted(trials))) or 'NULL'})"


def _pairs(findings: Findings) -> Iterator[tuple[Problem, Arm, Arm]]:
    """Yield each problem of classes with the two arms to compare: TransTailor's or the best one, and fine-tuning."""
    for problem in findings.problems:
        arms = [arm for arm in findings.arms if arm.problem == problem and SCALES[arm.metric].is_right]
        baseline = comparison.baseline_of(arms, problem)
        others = [arm for arm in comparison.transtailor_at(arms, findings.budget) or arms if arm is not baseline]
        if baseline and others:
            yield problem, others[0], baseline


def _column(arm: Arm) -> str:
    return '"' + str(arm).replace('"', '""') + '"'


@question(example="runs/demo transtailor fine_tune")
@cli.argument("first", metavar="ARM", shell_complete=complete_arms)
@cli.argument("second", metavar="ARM", shell_complete=complete_arms)
@at_option
def images(run: Run, first: str, second: str, at: float | None = None) -> Iterator[Part]:
    """Two arms on the same test images: McNemar's test, and class by class.

    An arm is given by its name, or by a label that only it has.
    """
    return image_page(run, first, second, at)
