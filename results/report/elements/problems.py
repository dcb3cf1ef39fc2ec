"""The problems of a run, its labels and their colours, and the scale of a score, for several sections."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.arms.comparison import Point, Problem
from results.figures.styles import colours_of
from results.figures.svg import Key
from results.report.elements.blocks import literal
from results.text.number_format import SCALES, Scale


@dataclass(frozen=True)
class ArmLabels:
    """The labels of a run in order, with a colour class for each."""

    colours: dict[str, str]

    def number(self, label: str) -> int:
        """Return the number of a label's series, the same in all figures."""
        return list(self.colours).index(label)

    def legend(self, shown: Sequence[str]) -> list[Key]:
        """Return the legend of these labels, in order."""
        return [Key(n, label, colour) for n, (label, colour) in enumerate(self.colours.items()) if label in shown]


def labels_of(methods: dict[str, str]) -> ArmLabels:
    """Choose the order and colours of labels, from label -> method."""
    ordered = dict(sorted(methods.items()))
    return ArmLabels(colours_of(ordered))


def problem_condition(problem: Problem) -> str:
    """Return the SQL condition on rows of `planned` or `operating_points` of a problem."""
    images = f"train_images = {problem.train_images}" if problem.train_images else "train_images IS NULL"
    return f"network = {literal(problem.network)} AND dataset = {literal(problem.dataset)} AND {images}"


def scale_of(points: Sequence[Point], problem: Problem) -> Scale:
    """Return how the scores of a problem are written."""
    return SCALES[next(point.metric for point in points if point.problem == problem)]
