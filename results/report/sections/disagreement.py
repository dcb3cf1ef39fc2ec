"""The test images on which two sub-models disagree most: TransTailor's or the best arm's, and full fine-tuning's."""

from collections.abc import Iterator

from results.arms import comparison
from results.arms.comparison import Arm, Problem
from results.arms.findings import Findings
from results.report.elements.blocks import Section, listing
from results.store.views import literal

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


def section(found: Findings, budget: float) -> Section:
    """List for each problem of classes the images by the difference in how many seeds are right."""
    made = Section(
        "images",
        "Images on which two sub-models disagree",
        "Test images that one arm predicts right in more seeds than the other; the numbers are seeds that are right, of"
        " those that both have. Several trials of a seed count as their share that is right.",
        empty="No two arms of one problem with test predictions of classes of the same seeds yet.",
        short="Images",
    )
    for problem, one, two in _pairs(found, budget):
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


def compared_predictions(found: Findings, budget: float) -> str:
    """The SQL condition on the rows of `predictions` that `section` can read."""
    trials = {point.trial_id for _, *arms in _pairs(found, budget) for arm in arms for point in arm.points}
    return f"trial_id IN ({', '.join(map(literal, sorted(trials))) or 'NULL'})"


def _pairs(found: Findings, budget: float) -> Iterator[tuple[Problem, Arm, Arm]]:
    """Each problem of classes with the two arms to compare: TransTailor's or the best one, and full fine-tuning."""
    for problem in found.problems:
        arms = [arm for arm in found.arms if arm.problem == problem and arm.metric == "accuracy"]
        baseline = comparison.baseline_of(arms, problem)
        others = [arm for arm in comparison.transtailor_at(arms, budget) or arms if arm is not baseline]
        if baseline and others:
            yield problem, others[0], baseline


def _column(arm: Arm) -> str:
    return '"' + str(arm).replace('"', '""') + '"'
