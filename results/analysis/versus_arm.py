"""Every arm of a run compared with one of them, paired by seed, as a page for a note or a paper."""

from collections.abc import Iterator, Mapping, Sequence

from results.arms.comparison import Arm, Pairing, Problem, arms_of, budget_order, compare, environments_of, points_of
from results.arms.counts import count_lines, trial_counts
from results.arms.selection import arms_at_budget
from results.arms.shared_training import shared_training_lines, shared_trainings
from results.arms.tuning import best_settings, ended_settings
from results.arms.verdict import verdict_word
from results.errors import ResultsError
from results.statistics import SIGNIFICANCE, holm
from results.store.reader import Run
from results.text.number_format import NOTHING, SCALES, percent
from results.text.page import Heading, Note, PageTable, Part
from transtailor.names import nearest

ARM = ("asked %", "removed %", "arm", "test")
COMPARISON = ("difference", "95%", "won–lost–tied", "ahead %", "p", "smallest p", "p (Holm)", "it says")
COLUMNS = (*ARM, *COMPARISON)
POOLED = ("asked %", "arm", "problems", "pairs", *COMPARISON)
_USUALLY_COMPARED = ("difference", "95%", "won–lost–tied", "p", "it says")
USUAL = [COLUMNS.index(name) for name in ("arm", "removed %", "test", *_USUALLY_COMPARED)]
USUAL_POOLED = [POOLED.index(name) for name in ("arm", "asked %", "pairs", *_USUALLY_COMPARED)]


def versus_arm_page(run: Run, label: str, asked: float | None) -> Iterator[Part]:
    """Yield the page: one table per network, data set and number of training images.

    Args:
        run: an opened run.
        label: the arm that all others are compared with.
        asked: the only budget that is shown, as a fraction of the MACs; arms without a budget (no pruning, or a rule
            decides) are shown as they are. None shows all budgets and takes the smallest of `label`.

    Raises:
        ResultsError: no such arm has been tested.
    """
    points = best_settings(points_of(run), ended_settings(run))
    arms = [arm for arm in arms_of(points, environments_of(run)) if arm.test.mean is not None]
    bases = {
        problem: base
        for problem in sorted({arm.problem for arm in arms})
        if (base := _base(arms, problem, label, asked))
    }
    if not bases:
        labels = {arm.label for arm in arms}
        if label in labels:
            at = f"{percent(asked or 0.0, 1)}% fewer MACs"
            raise ResultsError(f"{label!r} has no tested point at {at}; leave out --at to see its points")
        raise ResultsError(f"no tested arm is called {label!r}{nearest(label, labels)}")
    shown_arms = {problem: arms_at_budget([arm for arm in arms if arm.problem == problem], asked) for problem in bases}
    for problem, base in bases.items():
        yield Heading(str(problem))
        yield ""
        yield f"Compared with {base}: {SCALES[base.metric].value(base.test.mean)} over {base.test.n} seeds."
        yield ""
        pairings = _pairings(shown_arms[problem], base)
        yield PageTable(columns=COLUMNS, rows=[*_rows(pairings)], words=(0, 2, len(COLUMNS) - 1), usual=USUAL)
        yield ""
        notes = [*_notes([pairing for _, pairing in pairings]), *count_lines(trial_counts(run), [problem])]
        yield from map(Note, [*notes, *shared_training_lines(shared_trainings(run), [problem])])
        yield ""
    yield from _pooled_lines(bases, shown_arms)


def _base(arms: Sequence[Arm], problem: object, label: str, asked: float | None) -> Arm | None:
    """Choose the arm that others are compared with, among those that would be shown."""
    its = arms_at_budget([arm for arm in arms if arm.problem == problem], asked)
    return min((arm for arm in its if arm.label == label), key=lambda arm: budget_order(arm.asked), default=None)


def _pairings(arms: Sequence[Arm], base: Arm) -> list[tuple[Arm, Pairing]]:
    """Compare every arm but the base with it, in the order of the rows."""
    ordered = sorted(arms, key=lambda arm: (budget_order(arm.asked), -(arm.test.mean or 0.0), arm.label))
    return [(arm, compare([(arm, base)])) for arm in ordered if arm is not base]


def _pooled_lines(bases: Mapping[Problem, Arm], arms: Mapping[Problem, Sequence[Arm]]) -> Iterator[Part]:
    """Yield the same over all problems of one metric, for arms that several problems have; nothing if none do."""
    groups: dict[tuple[str, tuple[bool, float], str], list[tuple[Arm, Arm]]] = {}
    for problem, base in bases.items():
        for arm in arms[problem]:
            if arm is not base:
                groups.setdefault((arm.metric, budget_order(arm.asked), arm.label), []).append((arm, base))
    pairings = [compare(pairs) for _, pairs in sorted(groups.items()) if len(pairs) > 1]
    if not pairings:
        return
    problems = [len(pairs) for _, pairs in sorted(groups.items()) if len(pairs) > 1]
    yield Heading("All together")
    yield ""
    yield "Blocks are problems and seeds; each is compared with the base of its own problem."
    yield ""
    rows = zip(pairings, problems, _compared(pairings), strict=True)
    yield PageTable(
        columns=POOLED,
        rows=[
            (percent(one.asked, 1), one.label, str(count), str(one.result.difference.n), *cells)
            for one, count, cells in rows
        ],
        words=(0, 1, len(POOLED) - 1),
        usual=USUAL_POOLED,
    )
    yield ""
    yield from map(Note, _notes(pairings))
    yield ""


def _rows(pairings: Sequence[tuple[Arm, Pairing]]) -> Iterator[tuple[str, ...]]:
    for (arm, _), compared in zip(pairings, _compared([pairing for _, pairing in pairings]), strict=True):
        measured = SCALES[arm.metric].value(arm.test.mean)
        yield percent(arm.asked, 1), percent(arm.removed, 1), arm.label, measured, *compared


def _compared(pairings: Sequence[Pairing]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the columns `COMPARISON`, with p corrected as one family."""
    corrected = holm([pairing.result.p for pairing in pairings])
    for pairing, p in zip(pairings, corrected, strict=True):
        scale, found = SCALES[pairing.metric], pairing.result
        yield (
            scale.difference(found.difference.mean),
            scale.interval(found.difference, signed=True),
            f"{found.wins}–{found.losses}–{found.ties}",
            percent(found.improvement.share, 0),
            *(NOTHING if one is None else f"{one:.3g}" for one in (found.p, found.smallest_p, p)),
            verdict_word(pairing),
        )


def _notes(pairings: Sequence[Pairing]) -> list[str]:
    """Say how many verdicts remain after correction, and which rows to read with care."""
    settled = [verdict_word(pairing) in ("better", "worse") for pairing in pairings]
    corrected = holm([pairing.result.p for pairing in pairings])
    left = sum(
        is_settled and p is not None and p <= SIGNIFICANCE for is_settled, p in zip(settled, corrected, strict=True)
    )
    notes = [
        "ahead %: probability of improvement: how often the arm is ahead at the same seed; a tie counts half."
        f" It says: each row on its own. Of {sum(settled)} better or worse, {left} remain with Holm's correction over"
        f" these {len(pairings)} comparisons."
    ]
    if mixed := sum(len(pairing.environments) > 1 for pairing in pairings):
        notes.append(f"{mixed} comparisons were computed on mixed hardware, ranks or torch versions.")
    if unpaired := sum(pairing.result.unpaired > 0 for pairing in pairings):
        notes.append(f"{unpaired} comparisons have seeds that only one of the two arms has; these are left out.")
    if shares := sum(pairing.shares_models for pairing in pairings):
        notes.append(f"{shares} comparisons have fewer distinct models than pairs: n is smaller than it looks.")
    return notes
