"""The test images on which two sub-models disagree most: TransTailor's or the best arm's, and full fine-tuning's."""

from results.arms import comparison
from results.arms.comparison import Arm
from results.arms.findings import Findings
from results.report.elements.blocks import Section, listing
from results.store.views import literal

IMAGES = """
WITH answers AS (
    SELECT trial_id IN ({first}) AS is_first, image_id, label AS class, prediction FROM predictions
    WHERE split = 'test' AND trial_id IN ({first}, {second}) AND (trial_id, point) IN ({points})
)
SELECT image_id, class, count(*) FILTER (is_first AND prediction = class) AS {one},
    count(*) FILTER (NOT is_first AND prediction = class) AS {two},
    list_sort(list(DISTINCT prediction) FILTER (prediction <> class)) AS wrong_answers
FROM answers GROUP BY image_id, class
HAVING count(*) FILTER (is_first AND prediction = class) <> count(*) FILTER (NOT is_first AND prediction = class)
ORDER BY abs(count(*) FILTER (is_first AND prediction = class)
    - count(*) FILTER (NOT is_first AND prediction = class)) DESC, image_id LIMIT {most}
"""
_MOST = 60


def section(found: Findings, budget: float) -> Section:
    """List for each problem of classes the images by the difference in how many seeds are right."""
    made = Section(
        "images",
        "Images on which two sub-models disagree",
        "Test images that one arm predicts right in more seeds than the other; the numbers are seeds that are right.",
        empty="No two arms of one problem with test predictions of classes yet.",
        short="Images",
    )
    for problem in found.problems:
        arms = [arm for arm in found.arms if arm.problem == problem and arm.metric == "accuracy"]
        baseline = comparison.baseline_of(arms, problem)
        others = [arm for arm in comparison.transtailor_at(arms, budget) or arms if arm is not baseline]
        if baseline and others:
            first, second = (_trials(found, arm) for arm in (others[0], baseline))
            points = ", ".join(f"({literal(trial)}, {point})" for trial, point in (first | second).items())
            sql = IMAGES.format(
                first=", ".join(map(literal, first)), second=", ".join(map(literal, second)), points=points,
                one=_column(others[0]), two=_column(baseline), most=_MOST,
            )  # fmt: skip
            made.blocks.append(listing(found.run, sql, f"{problem}: {others[0]} and {baseline}", folded=True))
    return made


def _trials(found: Findings, arm: Arm) -> dict[str, int]:
    """The last point of each trial of an arm."""
    key = (arm.problem, arm.label, arm.method, arm.asked)
    its = [one for one in found.best if (one.problem, one.label, one.method, one.asked) == key]
    return {one.trial_id: one.point for one in its}


def _column(arm: Arm) -> str:
    return '"' + str(arm).replace('"', '""') + '"'
