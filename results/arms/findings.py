"""What figures and sections of the report start from, computed once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from results.arms import comparison
from results.arms.comparison import Arm, EnvironmentsByTrial, Pairing, Point
from results.arms.counts import failed_by_arm
from results.arms.flags import Facts
from results.arms.problem import Problem
from results.arms.trial_settings import TrialSettings, settings_of, trial_rows
from results.store.reader import Run
from results.store.views import literal
from results.text.number_format import SCALES, Scale

USUAL_BUDGET = 0.2


@dataclass(frozen=True)
class Findings:
    """The operating points of a run that are compared, and its arms."""

    run: Run
    points: list[Point]
    environments: EnvironmentsByTrial
    arms: list[Arm]
    methods: Mapping[str, str]  # name of an arm -> method, of the plan and of the points
    scales: Mapping[Problem, Scale]  # how the scores of each problem are written
    problems: list[Problem]  # those with test scores, in order

    @property
    def tested(self) -> list[Arm]:
        """The arms with a test score."""
        return [arm for arm in self.arms if arm.test.mean is not None]

    @cached_property
    def against_baseline(self) -> list[tuple[Arm, Arm, Pairing]]:
        """Each arm with a test score, full fine-tuning in its problem, and the two compared; by problem and name."""
        pairs = comparison.baseline_pairs(self.tested)
        return [(arm, baseline, comparison.compare([(arm, baseline)])) for arm, baseline in pairs]

    @cached_property
    def budget(self) -> float:
        """The budget of the first comparison on the page: TransTailor's nearest to 20% of the MACs removed."""
        return min(self.budgets, key=lambda budget: (abs(budget - USUAL_BUDGET), budget), default=USUAL_BUDGET)

    @property
    def budgets(self) -> list[float]:
        """The budgets of TransTailor's arms with a test score, as shares of the MACs that they remove, in order."""
        return sorted({arm.asked for arm in self.tested if arm.method == comparison.TRANSTAILOR and arm.asked})

    @cached_property
    def facts(self) -> Facts:
        """What the rows say of the arms beside their scores, for their flags."""
        return Facts(self.run)

    @cached_property
    def settings(self) -> TrialSettings:
        """The settings of the planned trials."""
        return settings_of(trial_rows(self.run))


METHODS = "SELECT arm, method FROM planned UNION SELECT arm, method FROM operating_points ORDER BY ALL"


def findings_of(run: Run) -> Findings:
    """Read what a run has so far. Raises as `comparison.points_of`."""
    points = comparison.points_of(run)
    environments = comparison.environments_of(run)
    return Findings(
        run=run,
        points=points,
        environments=environments,
        arms=comparison.arms_of(points, environments, failed_by_arm(run)),
        methods={row["arm"]: row["method"] for row in run.rows(METHODS)},
        scales={point.problem: SCALES[point.metric] for point in reversed(points)},
        problems=sorted({point.problem for point in points if point.test is not None}),
    )


def problem_condition(problem: Problem) -> str:
    """Return the SQL condition on rows of `planned` or `operating_points` of a problem."""
    images = f"train_images = {problem.train_images}" if problem.train_images else "train_images IS NULL"
    return f"network = {literal(problem.network)} AND dataset = {literal(problem.dataset)} AND {images}"
