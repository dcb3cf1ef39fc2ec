"""Arms that name one class for all test images: their networks learned nothing, so equal scores say nothing."""

from collections.abc import Sequence

from results.arms.comparison import Arm


def one_class_lines(arms: Sequence[Arm]) -> list[str]:
    """Write a sentence for each problem of which some arms, or all, name one class in every trial."""
    lines = []
    for problem in sorted({arm.problem for arm in arms}):
        of_problem = {str(arm): arm for arm in arms if arm.problem == problem}
        names = [name for name, arm in of_problem.items() if all(point.names_one_class for point in arm.points)]
        if names:
            who = "all arms" if len(names) == len(of_problem) else "; ".join(sorted(names))
            lines.append(
                f"{problem}: in every trial of {who}, the network names one class for all test images. It learned"
                " nothing, so equal scores say nothing of the methods; try trial.optimisation.learning_rate ten times"
                " lower and higher, and more epochs (docs/accuracy.md)."
            )
    return lines
