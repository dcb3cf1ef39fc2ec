"""Every arm of a run compared with one of them, paired by seed, as a page for a note or a paper."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.arms.comparison import BASELINE, Arm, best_first, budget_order, compare
from results.arms.findings import findings_of
from results.arms.selection import arm_called, arms_at_budget, check_budget
from results.arms.shared_training import support_lines
from results.arms.verdict import verdict_word
from results.errors import ResultsError
from results.sign_flip import SIGNIFICANCE
from results.statistics.pairs import holm
from results.store.reader import Run
from results.text.number_format import SCALES, p_text, percent
from results.text.page import Heading, Note, PageTable, Part

ARM = ("asked %", "removed %", "arm", "test")
COMPARISON = ("difference", "95%", "won–lost–tied", "ahead %", "p", "smallest p", "p (Holm)", "it says")
COLUMNS = (*ARM, *COMPARISON, "against")
POOLED = ("asked %", "arm", "problems", "seeds", *COMPARISON)
_USUALLY_COMPARED = ("difference", "95%", "won–lost–tied", "p", "it says")
USUAL = [COLUMNS.index(name) for name in ("arm", "removed %", "test", *_USUALLY_COMPARED)]
USUAL_POOLED = [POOLED.index(name) for name in ("arm", "asked %", "seeds", *_USUALLY_COMPARED)]

Pair = tuple[Arm, Arm]  # an arm, and the control that it is compared with
Models = tuple[frozenset[str], frozenset[str]]


def versus_arm_page(run: Run, against: str, asked: float | None) -> Iterator[Part]:
    """Yield the page: one table per network, data set and number of training images.

    Args:
        against: the arm that all others are compared with: its name, or its label if it is the only one with it.
        asked: the only budget that is shown, as a fraction of the MACs; arms without a budget (no pruning, or a rule
            decides) are shown as they are. None shows all budgets and takes the smallest of `against`.

    Raises:
        ResultsError: no such arm has been tested, several arms have that label, or no arm is at that budget.
    """
    compared = _compare_arms(run, against, asked)
    for base, rows in compared:
        yield Heading(str(base.problem))
        yield ""
        yield f"Compared with {base}: {SCALES[base.metric].value(base.test.mean)} over {base.test.n} seeds."
        yield ""
        several = any(row.control is not base for row in rows)
        usual = [*USUAL, *([COLUMNS.index("against")] if several else [])]
        words = (0, 2, len(COLUMNS) - 2, len(COLUMNS) - 1)
        yield PageTable(columns=COLUMNS, rows=[*_cells(rows)], words=words, usual=usual)
        yield ""
        yield from map(Note, [*_notes(rows), *support_lines(run, [base.problem])])
        yield ""
    yield from _pooled_lines(run, compared)


def versus_arm_records(run: Run, against: str, asked: float | None) -> list[dict[str, Any]]:
    """Return the tables of `versus_arm_page` as numbers: one record for each arm at a budget, in the order of the rows.

    Scores and differences are as in `measured_points` (an accuracy of 0.91), p is None where pairs are missing, and
    `p_holm` is corrected over the arms of one network and data set.

    Raises:
        ResultsError: as `versus_arm_page`.
    """
    return [
        _record(row, corrected)
        for _, rows in _compare_arms(run, against, asked)
        for corrected in (_correct_p(rows),)
        for row in rows
    ]


def _record(row: "ComparedRow", corrected: Mapping[Models, float | None]) -> dict[str, Any]:
    arm, found = row.arm, row.pairing.result
    return {
        "network": arm.problem.network,
        "dataset": arm.problem.dataset,
        "train_images": arm.problem.train_images or None,
        "metric": arm.metric,
        "label": arm.label,
        "arm": arm.name,
        "asked_removed_macs_fraction": arm.asked,
        "removed_macs_fraction": arm.removed,
        "test_score": arm.test.mean,
        "difference": found.difference.mean,
        "difference_low": found.difference.low,
        "difference_high": found.difference.high,
        "pairs": found.difference.n,
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
        "p": found.p,
        "p_holm": corrected[row.models],
        "verdict": row.verdict,
        "against": row.control.name,
    }


def _compare_arms(run: Run, against: str, asked: float | None) -> list[tuple[Arm, list["ComparedRow"]]]:
    """Return, for each problem, the arm that the others are compared with, and a row for each of these."""
    arms = findings_of(run).tested
    name = arm_called(arms, against)
    check_budget(arms, asked)
    bases = [base for problem in sorted({arm.problem for arm in arms}) if (base := _base(arms, problem, name, asked))]
    if not bases:
        at = f"{percent(asked or 0.0, 1)}% fewer MACs"
        raise ResultsError(f"{name!r} has no tested point at {at}; leave out --at to see its points")
    shown = {
        base.problem: arms_at_budget([arm for arm in arms if arm.problem == base.problem], asked) for base in bases
    }
    return [(base, [ComparedRow([pair]) for pair in _pairs(shown[base.problem], base)]) for base in bases]


def _base(arms: Sequence[Arm], problem: object, name: str, asked: float | None) -> Arm | None:
    """Choose the arm that others are compared with, among those that would be shown."""
    its = arms_at_budget([arm for arm in arms if arm.problem == problem], asked)
    return min((arm for arm in its if arm.name == name), key=lambda arm: budget_order(arm.asked), default=None)


def _pairs(arms: Sequence[Arm], base: Arm) -> list[Pair]:
    """List every arm but the base with its control, in the order of the rows."""
    ordered = sorted(arms, key=lambda arm: (budget_order(arm.asked), -(arm.test.mean or 0.0), arm.name))
    return [(arm, _control(arms, base, arm)) for arm in ordered if arm is not base]


def _control(arms: Sequence[Arm], base: Arm, arm: Arm) -> Arm:
    """Choose what an arm is compared with.

    This is `base`. If `base` is fine-tuning that has trained for fewer epochs, it is the fine-tuning that has trained
    for as long as the arm, where there is one; of several with one label, the best by validation. Example:
    "fine-tuning, 60 epochs" for an arm of 55 epochs.
    """
    if base.method != BASELINE or arm.method == BASELINE or not _is_shorter(base, arm):
        return base
    as_long = [one for one in arms if one.method == BASELINE and not _is_shorter(one, arm)]
    return min(as_long, key=lambda one: (one.trained_epochs or 0.0, one.label, best_first(one), one.name), default=base)


def _is_shorter(control: Arm, arm: Arm) -> bool:
    """Whether the control has trained for fewer epochs on the target; no if the rows do not say."""
    if control.trained_epochs is None or arm.trained_epochs is None:
        return False
    return control.trained_epochs < arm.trained_epochs - 1e-9


def _pooled_lines(run: Run, compared: Sequence[tuple[Arm, Sequence["ComparedRow"]]]) -> Iterator[Part]:
    """Yield the same over all problems of one metric, for arms that several problems have; nothing if none do."""
    groups: dict[tuple[str, tuple[bool, float], str], list[Pair]] = {}
    for row in (row for _, rows in compared for row in rows):
        groups.setdefault((row.arm.metric, budget_order(row.arm.asked), row.arm.name), []).append(row.pairs[0])
    pooled = [ComparedRow(pairs) for _, pairs in sorted(groups.items()) if len(pairs) > 1]
    if not pooled:
        return
    yield Heading("All together")
    yield ""
    yield "The unit is the seed: each is averaged over its problems, then compared with the base, averaged likewise."
    yield ""
    yield PageTable(
        columns=POOLED,
        rows=[
            (
                percent(row.arm.asked, 1),
                row.arm.name,
                str(len(row.pairs)),
                str(row.pairing.result.difference.n),
                *cells,
            )
            for row, cells in zip(pooled, _comparison_cells(pooled), strict=True)
        ],
        words=(0, 1, len(POOLED) - 1),
        usual=USUAL_POOLED,
    )
    yield ""
    yield Note(
        "Networks and data sets are these, not drawn from others, and all weigh the same: n counts seeds that all of"
        " them have, and the result does not cover other networks or data sets."
    )
    yield from map(Note, [*_notes(pooled), *support_lines(run, [base.problem for base, _ in compared])])
    yield ""


class ComparedRow:
    """An arm and its control, in one problem or in several: one row of a table."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.arm, self.control = pairs[0]
        self.pairing = compare(pairs)
        self.trained_longer = any(_is_shorter(control, arm) for arm, control in pairs)

    @property
    def verdict(self) -> str:
        """The verdict, and whether the arm has trained for longer than its control."""
        longer = self.trained_longer and not self.pairing.failed
        return verdict_word(self.pairing) + (", but trained longer" if longer else "")

    @property
    def models(self) -> Models:
        """What is compared: rows of the same models are one comparison."""
        return self.pairing.first_models, self.pairing.second_models


def _cells(rows: Sequence[ComparedRow]) -> Iterator[tuple[str, ...]]:
    for row, cells in zip(rows, _comparison_cells(rows), strict=True):
        arm, measured = row.arm, SCALES[row.arm.metric].value(row.arm.test.mean)
        yield percent(arm.asked, 1), percent(arm.removed, 1), arm.name, measured, *cells, row.control.name


def _comparison_cells(rows: Sequence[ComparedRow]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the columns `COMPARISON`, with p corrected as one family."""
    corrected = _correct_p(rows)
    for row in rows:
        scale, found = SCALES[row.pairing.metric], row.pairing.result
        yield (
            scale.difference(found.difference.mean),
            scale.interval(found.difference, signed=True),
            f"{found.wins}–{found.losses}–{found.ties}",
            percent(found.improvement, 0),
            *map(p_text, (found.p, found.smallest_p, corrected[row.models])),
            row.verdict,
        )


def _correct_p(rows: Sequence[ComparedRow]) -> dict[Models, float | None]:
    """Correct p for the family (Holm): by the models compared, so that equal rows count once.

    Rows with failed trials are not in the family, and their corrected p is None.
    """
    family = {row.models: None if row.pairing.failed else row.pairing.result.p for row in rows}
    return dict(zip(family, holm([*family.values()]), strict=True))


def _notes(rows: Sequence[ComparedRow]) -> list[str]:
    """Say how many verdicts remain after correction, and which rows to read with care."""
    corrected = _correct_p(rows)
    settled = {row.models for row in rows if verdict_word(row.pairing) in ("better", "worse")}
    left = sum((corrected[models] or 0.0) <= SIGNIFICANCE for models in settled)
    notes = [
        "ahead %: probability of improvement: how often the arm is ahead at the same seed; a tie counts half."
        f" It says: each row on its own. Of {len(settled)} better or worse, {left} remain with Holm's correction over"
        f" these {sum(p is not None for p in corrected.values())} comparisons."
    ]
    if len(corrected) < len(rows):
        notes.append(f"{len(rows) - len(corrected)} rows have the models of another row and count once.")
    pairings = [row.pairing for row in rows]
    if incomplete := sum(pairing.failed > 0 for pairing in pairings):
        notes.append(
            f"{incomplete} rows lost seeds to failed trials or to scores that are not a number: they show the other"
            " seeds, have no verdict, and are in no correction."
        )
    if longer := sum(row.trained_longer for row in rows):
        notes.append(
            f"{longer} rows have trained for more epochs than what they are compared with: part of a difference may be"
            " that. A spec can have fine-tuning that trains as long."
        )
    if mixed := sum(len(pairing.environments) > 1 for pairing in pairings):
        notes.append(f"{mixed} comparisons were computed on mixed hardware, ranks or torch versions.")
    if unpaired := sum(pairing.result.unpaired > 0 for pairing in pairings):
        notes.append(f"{unpaired} comparisons have seeds that only one of the two arms has; these are left out.")
    if shares := sum(pairing.shares_models for pairing in pairings):
        notes.append(f"{shares} comparisons have fewer distinct models than pairs: n is smaller than it looks.")
    return notes
