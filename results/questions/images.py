"""Two arms on the same test images.

McNemar's test for each seed, seeds and images together, and class by class.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results.arms import comparison
from results.arms.class_names import class_names
from results.arms.comparison import Arm, Point, Problem
from results.arms.findings import Findings
from results.arms.selection import arm_called, arms_at_budget, check_budget, select_arms
from results.arms.shared_training import support_lines
from results.command_options import at_option, complete_arms
from results.errors import ResultsError
from results.question import question
from results.render.blocks import Section, listing
from results.sign_flip import SIGNIFICANCE
from results.statistics.images import Crossed, McNemar, crossed_difference, mcnemar
from results.statistics.pairs import holm
from results.store.reader import Run
from results.store.views import literal
from results.text.number_format import NOTHING, SCALES, p_text
from results.text.page import Heading, Note, PageTable, Part
from transtailor import cli

CLAIMED_FROM_SEEDS = 5
"""With 3 seeds the interval over seeds and images covers 93% (docs/results/coverage.md)."""
PREDICTIONS = """
SELECT image_id, label, label = prediction AS is_right FROM predictions
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
    unpaired: int  # seeds that only one of the two has


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
    names = [arm_called(arms, one) for one in (first, second)]
    check_budget(arms, asked)
    found = []
    for problem in sorted({arm.problem for arm in arms}):
        its = arms_at_budget([arm for arm in arms if arm.problem == problem and arm.metric == "accuracy"], asked)
        one, two = (_arm(its, name) for name in names)
        if one is not None and two is not None:
            found.append(_compare_problem(run, problem, (one, _points(one)), (two, _points(two))))
    if not found:
        raise ResultsError(f"{names[0]!r} and {names[1]!r} have no problem of classes in common at that budget")
    return found


def image_page(run: Run, first: str, second: str, asked: float | None = None) -> Iterator[Part]:
    """Yield for each problem the table of seeds, that of classes, and the notes. Raises as `compare_by_image`."""
    several = compare_by_image(run, first, second, asked)
    for one in several:
        yield Heading(f"{one.first} against {one.second}, {one.problem}")
        yield ""
        columns = ("seed", "images", "only first right", "only second right", "p", "mid-p", "smallest p")
        yield PageTable(columns=columns, rows=[_seed_row(seed, found) for seed, found in sorted(one.by_seed.items())])
        yield ""
        names = class_names(run, one.problem)
        if one.by_class:
            of_class = ("class", "images", "difference", "95%", "p", "p (Holm)")
            yield PageTable(columns=of_class, rows=[*_class_rows(one, () if names is None else names.names)])
            yield ""
        yield from map(Note, _notes(one))
        if names is not None:
            yield Note(f"Names of classes: as in {names.source}.")
        yield ""
    problems = [one.problem for one in several]
    yield from map(Note, support_lines(run, problems))


def _arm(arms: Sequence[Arm], name: str) -> Arm | None:
    its = [arm for arm in arms if arm.name == name]
    return min(its, key=lambda arm: (arm.asked is None, arm.asked or 0.0), default=None)


def _points(arm: Arm) -> dict[int, Point]:
    """Return the one point of each seed. Raises ResultsError: a seed has several."""
    by_seed = {point.seed: point for point in arm.points}
    if len(by_seed) < len(arm.points):
        raise ResultsError(f"{arm}, {arm.problem}: several trials have one seed, so images cannot be paired")
    return by_seed


def _compare_problem(
    run: Run, problem: Problem, first: tuple[Arm, dict[int, Point]], second: tuple[Arm, dict[int, Point]]
) -> ByImage:
    seeds = sorted(first[1].keys() & second[1].keys())
    pairs = {seed: (_answers(run, first[1][seed]), _answers(run, second[1][seed])) for seed in seeds}
    for seed, (one, two) in pairs.items():
        if not np.array_equal(one.images, two.images):
            raise ResultsError(
                f"{problem}, seed {seed}: the two models were tested on different images; compare within one split"
            )
    overall, by_class = _compare_over_seeds(list(pairs.values()))
    return ByImage(
        problem=problem,
        first=first[0],
        second=second[0],
        by_seed={seed: mcnemar(one.is_right, two.is_right) for seed, (one, two) in pairs.items()},
        overall=overall,
        by_class=by_class,
        unpaired=len(first[1].keys() ^ second[1].keys()),
    )


def _answers(run: Run, point: Point) -> Answers:
    rows = run.rows(PREDICTIONS, [point.trial_id, point.point])
    return Answers(*(np.array([row[name] for row in rows]) for name in ("image_id", "label", "is_right")))


def _compare_over_seeds(pairs: Sequence[tuple[Answers, Answers]]) -> tuple[Crossed | None, dict[int, Crossed]]:
    """Compare over all seeds, and for each class that all of them have; (None, {}) without seeds or images."""
    if not pairs or any(not one.images.size for one, _ in pairs):
        return None, {}
    images, first = np.unique(np.concatenate([one.images for one, _ in pairs]), return_index=True)
    classes = np.concatenate([one.classes for one, _ in pairs])[first]
    differences = np.full((len(pairs), len(images)), np.nan)
    for row, (one, two) in zip(differences, pairs, strict=True):
        row[np.searchsorted(images, one.images)] = one.is_right.astype(float) - two.is_right.astype(float)
    by_class = {int(number): differences[:, classes == number] for number in np.unique(classes)}
    tested = {number: part for number, part in by_class.items() if not np.isnan(part).all(axis=1).any()}
    return crossed_difference(differences), {number: crossed_difference(part) for number, part in tested.items()}


def _seed_row(seed: int, found: McNemar) -> tuple[str, ...]:
    counts = (str(found.images), str(found.first_only), str(found.second_only))
    return (str(seed), *counts, f"{found.p:.3g}", f"{found.mid_p:.3g}", f"{found.smallest_p:.3g}")


def _class_rows(one: ByImage, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    corrected = holm([found.p for found in one.by_class.values()])
    for (number, found), p in zip(one.by_class.items(), corrected, strict=True):
        name = names[number] if number < len(names) else str(number)
        yield name, str(found.images), *_crossed_cells(found), p_text(p)


def _crossed_cells(found: Crossed) -> tuple[str, str, str]:
    scale = SCALES["accuracy"]
    interval = NOTHING
    if found.low is not None and found.high is not None:
        interval = f"{scale.difference(found.low)} … {scale.difference(found.high)}"
    return scale.difference(found.difference), interval, p_text(found.p)


def _notes(one: ByImage) -> list[str]:
    notes = []
    if one.overall is None:
        notes.append("No seed has both, so the two cannot be compared.")
    elif one.overall.low is None:
        notes.append("Only one seed: McNemar's test compares this pair of models on these images; no interval for the"
                     " methods can be given.")  # fmt: skip
    else:
        difference, interval, p = _crossed_cells(one.overall)
        settled = one.overall.p is not None and one.overall.p <= SIGNIFICANCE
        notes.append(
            f"Over {one.overall.seeds} seeds and {one.overall.images} images, both as samples: {difference} points,"
            f" 95% {interval}, p = {p}: {'the two differ' if settled else 'cannot settle it'}."
        )
        if one.overall.seeds < CLAIMED_FROM_SEEDS:
            notes.append(
                f"With {one.overall.seeds} seeds that interval covers less than 95%; it needs 5 or more seeds."
            )
    notes.append(
        "McNemar's p is about one pair of models. The seeds share the images, so their p values cannot be combined."
    )
    if one.unpaired:
        notes.append(f"{one.unpaired} seeds have only one of the two arms and are left out.")
    if len(one.first.environments | one.second.environments) > 1:
        notes.append("Computed on mixed hardware, ranks or torch versions.")
    return notes


IMAGES = """
WITH answers AS (
    SELECT trial_id IN ({first}) AS is_first, image_id, predictions.label AS class, prediction,
        1 / count(*) OVER (PARTITION BY trial_id IN ({first}), seed, image_id) AS share
    FROM predictions JOIN operating_points USING (trial_id, point)
    WHERE split = 'test' AND trial_id IN ({first}, {second}) AND (trial_id, point) IN ({points})
), counts AS (
    SELECT image_id, class, round(coalesce(sum(share) FILTER (is_first AND prediction = class), 0), 6) AS one,
        round(coalesce(sum(share) FILTER (NOT is_first AND prediction = class), 0), 6) AS two,
        list_sort(list(DISTINCT prediction) FILTER (prediction <> class)) AS wrong_answers
    FROM answers GROUP BY image_id, class
)
SELECT image_id, class, one AS {one}, two AS {two}, wrong_answers FROM counts
WHERE one <> two ORDER BY abs(one - two) DESC, image_id LIMIT {most}
"""
_MOST = 60


def section(found: Findings) -> Section:
    """List for each problem of classes the images by the difference in how many seeds are right."""
    made = Section(
        "images",
        "Images on which two sub-models disagree",
        "Test images that one arm predicts right in more seeds than the other; the numbers are seeds that are right, of"
        " those that both have. Several trials of a seed count as their share that is right.",
        empty="No two arms of one problem with test predictions of classes of the same seeds yet.",
        short="Images",
    )
    for problem, one, two in _pairs(found):
        seeds = one.test_by_seed.keys() & two.test_by_seed.keys()
        if not seeds:
            continue
        first, second = (
            {point.trial_id: point.point for point in arm.points if point.seed in seeds} for arm in (one, two)
        )
        points = ", ".join(f"({literal(trial)}, {point})" for trial, point in (first | second).items())
        sql = IMAGES.format(
            first=", ".join(map(literal, first)), second=", ".join(map(literal, second)), points=points,
            one=_column(one), two=_column(two), most=_MOST,
        )  # fmt: skip
        made.blocks.append(listing(found.run, sql, f"{problem}: {one} and {two}", folded=True))
    return made


def compared_predictions(found: Findings) -> str:
    """The SQL condition on the rows of `predictions` that `section` can read."""
    trials = {point.trial_id for _, *arms in _pairs(found) for arm in arms for point in arm.points}
    return f"trial_id IN ({', '.join(map(literal, sorted(trials))) or 'NULL'})"


def _pairs(found: Findings) -> Iterator[tuple[Problem, Arm, Arm]]:
    """Each problem of classes with the two arms to compare: TransTailor's or the best one, and full fine-tuning."""
    for problem in found.problems:
        arms = [arm for arm in found.arms if arm.problem == problem and arm.metric == "accuracy"]
        baseline = comparison.baseline_of(arms, problem)
        others = [arm for arm in comparison.transtailor_at(arms, found.budget) or arms if arm is not baseline]
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
