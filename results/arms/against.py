"""Which arms of a run are compared with one of them, and which control each of them has."""

from collections.abc import Sequence

from results.arms.comparison import Arm, best_first, best_test_first, budget_order, is_shorter
from results.arms.names import BASELINE
from results.arms.selection import arm_called, arms_at_budget, check_budget, select_arms
from results.errors import ResultsError
from results.store.reader import Run
from results.text.number_format import percent

Pair = tuple[Arm, Arm]  # an arm, and the control that it is compared with


def compared_arms(run: Run, arms: Sequence[Arm], against: str, asked: float | None) -> list[tuple[Arm, list[Pair]]]:
    """Return, for each problem, the arm that the others are compared with, and each of these with its control."""
    tested = [arm for arm in arms if arm.test.mean is not None] or select_arms(run).arms  # which says why there is none
    name = arm_called(run, tested, against)
    check_budget(tested, asked)
    compared = []
    for problem in sorted({arm.problem for arm in tested}):
        of_problem = [arm for arm in arms if arm.problem == problem]
        shown = [arm for arm in arms_at_budget(of_problem, asked) if arm.test.mean is not None]
        base = at_smallest_budget(shown, name)
        if base is not None:
            compared.append((base, _pairs(shown, base)))
    if not compared and asked is not None:  # without a budget, the arm has a point
        at = f"{percent(asked, 1)}% fewer MACs"
        raise ResultsError(f"{name!r} has no tested point at {at}; leave out --at to see its points")
    if not any(pairs for _, pairs in compared):
        raise ResultsError(
            f"no other arm than {name!r} has a tested point here; to see all trials, type: {run.to_type('status')}"
        )
    return compared


def at_smallest_budget(shown: Sequence[Arm], name: str) -> Arm | None:
    """Return the arm of this name at its smallest budget; None if there is none."""
    of_name = [arm for arm in shown if arm.name == name]
    return min(of_name, key=lambda arm: budget_order(arm.asked), default=None)


def _pairs(arms: Sequence[Arm], base: Arm) -> list[Pair]:
    """List every arm but the base with its control, in the order of the rows."""
    ordered = sorted(arms, key=lambda arm: (budget_order(arm.asked), best_test_first(arm), arm.name))
    return [(arm, _control(arms, base, arm)) for arm in ordered if arm is not base]


def _control(arms: Sequence[Arm], base: Arm, arm: Arm) -> Arm:
    """Choose what an arm is compared with.

    This is `base`. If `base` is fine-tuning that has trained for fewer epochs, it is the fine-tuning that has trained
    for as long as the arm, where there is one; of several with one label, the best by validation. Example:
    "fine-tuning, 60 epochs" for an arm of 55 epochs.
    """
    if base.method != BASELINE or arm.method == BASELINE or not is_shorter(base, arm):
        return base
    as_long: list[tuple[float, Arm]] = []
    for tuned in arms:
        if tuned.method == BASELINE and tuned.trained_epochs is not None and not is_shorter(tuned, arm):
            as_long.append((tuned.trained_epochs, tuned))
    if not as_long:
        return base
    _, control = min(as_long, key=lambda known: (known[0], known[1].label, best_first(known[1]), known[1].name))
    return control
