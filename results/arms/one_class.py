"""Trials whose networks name one class for all test images: they learned nothing, so their scores say nothing."""

from collections.abc import Sequence

from results.arms.comparison import Arm


def one_class_lines(arms: Sequence[Arm]) -> list[str]:
    """Write a sentence for each problem in which networks name one class: in how many trials of which arms."""
    lines = []
    for problem in sorted({arm.problem for arm in arms}):
        named = {
            str(arm): (sum(point.names_one_class for point in arm.points), len(arm.points))
            for arm in arms
            if arm.problem == problem
        }
        texts = [f"{count} of {trials} of {name}" for name, (count, trials) in sorted(named.items()) if count]
        if texts:
            is_every = all(count == trials for count, trials in named.values())
            who = "every trial" if is_every else f"these trials: {'; '.join(texts)};"
            lines.append(
                f"{problem}: in {who} the network names one class for all test images. Unless these are few, it learned"
                " nothing there, so its score says nothing of the method; try its learning rate (of a head alone"
                " optimisation.head_learning_rate) ten times lower and higher, and more epochs (docs/accuracy.md)."
            )
    return lines
