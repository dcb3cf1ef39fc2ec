"""The colour of each label, the same in all figures of a page."""

from collections.abc import Mapping

from results.arms.comparison import BASELINE, TRANSTAILOR

COLOURS = 10
"""The number of distinct colours: the style sheet has `c0` to `c9`, and `cx` for everything else."""


def colours_of(methods: Mapping[str, str]) -> dict[str, str]:
    """Choose a colour class for each label, from label -> method.

    Up to ten labels have a colour each. With more, the labels of one method share one; pointing at a name in the legend
    then highlights that label. TransTailor and full fine-tuning have the same colours in every report.
    """
    if len(methods) <= COLOURS:
        return _first_come(methods)
    of_methods = _first_come({method: method for method in methods.values()})
    return {label: of_methods[method] for label, method in methods.items()}


def _first_come(methods: Mapping[str, str]) -> dict[str, str]:
    ordered = sorted(methods, key=lambda name: (methods[name] != TRANSTAILOR, methods[name] != BASELINE, name))
    return {name: f"c{place}" if place < COLOURS else "cx" for place, name in enumerate(ordered)}
