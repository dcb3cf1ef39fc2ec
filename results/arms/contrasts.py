"""Contrasts: what a value of a setting changes, over trials that differ in it alone, paired by all else and by seed.

"Which setting matters", "is it the target's own importance" (the setting `pruning.scores_from`) and "does it hold over
data sets" are this one question. The unit is the seed: the differences of one seed are averaged first.
"""

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from results.arms.comparison import Arm, Point, arm_of, budget_order, environments_of, points_of
from results.arms.flags import FLAGS, Facts, flags_of
from results.arms.names import PLACES, SEEDS
from results.arms.problem import Problem
from results.arms.trial_settings import texts_of
from results.arms.verdict import word_of
from results.errors import ResultsError
from results.sign_flip import SIGNIFICANCE
from results.statistics.pairs import compare_pairs, holm
from results.statistics.sets import over_sets
from results.store.completeness import failed_trials
from results.store.reader import Run
from transtailor.names import nearest

ARM = "arm"
"""What --of names to compare whole arms, whatever they differ in."""
LABEL = "label"
DONOR = "pruning.scores_from"
OWN = "target"
MADE = ("source", "noise", "scrambled", "shuffled")
"""Donors that are no other data set."""
OTHER_SETS = "other data sets"
"""The level of all donors that are other data sets together."""
RANDOM_FILTERS = "random filters"
"""The level of the trials that are like those scored by the target, and remove filters at random."""

_NETWORK, _IMAGES = "network", "data.train_images"
_NO_SETTING = ("data.name", "last_point", *SEEDS, *PLACES)
_AT_RANDOM = (("method.criterion", "random"), ("method.prune_by", "random"))

PLANNED = """
SELECT trial_id, arm, head_arm, label, network, dataset, train_images, seed, config_json, tuning_json, tuning_order
FROM planned
"""


class Place(NamedTuple):
    """Where trials are compared with each other."""

    problem: Problem
    metric: str
    asked: float | None  # share of the MACs to remove; None where a rule decided that


@dataclass
class ContrastCell:
    """The trials with the same settings in one place.

    Attributes:
        settings: dotted key -> value as text, without what repeats a trial; of whole arms only `ARM`.
        arm: their points together, as one arm.
        tried: how many settings of [tuning] the best one was chosen from by validation.
    """

    place: Place
    label: str
    settings: Mapping[str, str]
    arm: Arm
    tried: int


class Contrasts(NamedTuple):
    """Records of the table `effects`, and the settings that always change together with another one, by that one."""

    records: list[dict[str, Any]]
    tied: Mapping[str, Sequence[str]]


def contrasts(
    run: Run, of: Sequence[str] = (), against: str | None = None, within: str | None = None, asked: float | None = None
) -> Contrasts:
    """Compare each value of each setting with one of its values, in each problem and over the data sets.

    Args:
        of: settings, such as "optimisation.learning_rate", or `ARM`; empty: all that vary. A text is one of them.
        against: the value that the others are compared with; None: of donors the target, else that of the most arms, of
            several the smallest.
        within: a setting, or "label": a row for each of its values, instead of one mean over them.
        asked: share of the MACs to remove; None takes all budgets, each with rows of its own.

    Raises:
        ResultsError: nothing varies, there is no such setting, value or budget, or no two trials differ in one setting
            alone.
    """
    of = [of] if isinstance(of, str) else list(of)  # else its letters
    cells = _cells(run, of_arms=of == [ARM])
    if not cells:
        raise ResultsError(f"no trial has a test score yet; to see its trials, type: {run.to_type('status')}")
    names, tied = _settings_that_vary(cells)
    for name in of:
        if name not in names:
            raise ResultsError(f"--of {name}: no such setting varies here{nearest(name, [*names, ARM])}")
    if not names:
        raise ResultsError("only the seed varies between the trials with a score, so there is no effect to analyse")
    if within is not None and within not in (*names, LABEL):
        raise ResultsError(f"--within {within}: no such setting varies here{nearest(within, [*names, LABEL])}")
    if against is not None and len(of) != 1:
        raise ResultsError("--against is a value of one setting: name that with --of")
    if asked is not None:
        budgets = sorted({cell.place.asked for cell in cells if cell.place.asked})
        cells = [
            cell
            for cell in cells
            if cell.place.asked is not None and math.isclose(cell.place.asked, asked, abs_tol=1e-6)
        ]
        if not cells:
            known = ", ".join(f"{budget:g}" for budget in budgets) or "none"
            raise ResultsError(f"no trial has a test score at {asked:g} of the MACs removed; budgets: {known}")
    facts = Facts(run)
    records = [row for name in of or names for row in _of_setting(name, cells, against, within, facts)]
    if not records:
        raise ResultsError(
            f"no two finished trials differ in {of[0] if len(of) == 1 else 'one setting'} alone; to see what is there"
            f" and what is to come, type: {run.to_type('status')}; to compare whole arms: --of {ARM} --against ARM"
        )
    corrected = holm([row.pop("p_of_family") for row in records])
    return Contrasts([{**row, "p_holm": p} for row, p in zip(records, corrected, strict=True)], tied)


def _cells(run: Run, *, of_arms: bool) -> list[ContrastCell]:
    """Read the compared points of finished trials, by place and settings; failed trials are counted, too."""
    planned = {row["trial_id"]: row for row in run.rows(PLANNED)}
    lost = {row["trial_id"] for row in failed_trials(run)}
    tuned: set[str] = set()
    for row in planned.values():
        if row["tuning_json"] is not None:
            tuned.update(texts_of(row["tuning_json"]))
    settings: dict[str, dict[str, str]] = {}
    orders: dict[tuple[Any, ...], set[int | None]] = {}  # the settings of [tuning] that were planned, and ...
    failed: dict[tuple[Any, ...], Counter[int]] = {}  # ... the failed trials, of each problem and settings
    for trial_id, row in planned.items():
        settings[trial_id] = {
            key: text
            for key, text in texts_of(row["config_json"]).items()
            if key not in _NO_SETTING and key not in tuned and not key.rpartition(".")[2].startswith("asked_")
        }
        key = _key(row, {ARM: row["arm"]} if of_arms else settings[trial_id])
        orders.setdefault(key, set()).add(row["tuning_order"])
        failed.setdefault(key, Counter()).update([row["seed"]] * (trial_id in lost))
    tried = {key: len(of_key) for key, of_key in orders.items()}
    points = [point for point in points_of(run) if point.test is not None and point.trial_id in planned]
    groups: dict[tuple[Place, tuple[Any, ...]], list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.problem, budget_order(point.asked), point.trial_id)):
        row = planned[point.trial_id]
        is_head = point.arm == row["head_arm"] != row["arm"]  # the fit of a head, which is the same for many arms
        if of_arms or not is_head:
            key = _key(row, {ARM: point.arm} if of_arms else settings[point.trial_id])
            groups.setdefault((Place(point.problem, point.metric, point.asked), key), []).append(point)
    environments = environments_of(run)
    found = []
    for (place, key), group in groups.items():
        first = group[0]
        of_trial = {ARM: first.arm} if of_arms else settings[first.trial_id]
        arm = arm_of(group, environments, failed.get(key))
        found.append(ContrastCell(place, planned[first.trial_id]["label"], of_trial, arm, tried.get(key, 1)))
    pruning = {(point.problem, point.arm) for point in points if point.asked or point.removed > 0.0}
    return [*found, *_at_all_budgets(found, pruning)] if of_arms else found


def _at_all_budgets(arms: Sequence[ContrastCell], pruning: Container[tuple[Problem, str]]) -> Iterator[ContrastCell]:
    """Yield the arms that prune nothing at each budget of others, where they have the same score."""
    places = dict.fromkeys(arm.place for arm in arms if arm.place.asked != 0.0)
    for arm in arms:
        if (arm.place.problem, arm.settings[ARM]) not in pruning:
            for place in places:
                if place[:2] == arm.place[:2] and place != arm.place:
                    yield replace(arm, place=place)


def _key(row: Mapping[str, Any], settings: Mapping[str, str]) -> tuple[Any, ...]:
    """Return what trials of one cell have alike, beside the budget."""
    return Problem.of(row), "" if ARM in settings else row["label"], frozenset(settings.items())


def _settings_that_vary(cells: Sequence[ContrastCell]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the settings with several values, and those that always change together with one of them, by that one.

    Settings that change together are one: the others are taken out of the cells.
    """
    names = list(dict.fromkeys(name for cell in cells for name in cell.settings))
    values = {name: [cell.settings.get(name) for cell in cells] for name in names}
    first: dict[tuple[int, ...], str] = {}
    tied: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: None in values[name]):  # one that all read stands for the others
        # With the values numbered as they first occur, settings that change together have equal numbers.
        number_of: dict[str | None, int] = {}
        pattern = tuple(number_of.setdefault(value, len(number_of)) for value in values[name])
        has_several = len(number_of.keys() - {None}) > 1
        if pattern not in first:
            first[pattern] = name
        elif has_several:
            tied.setdefault(first[pattern], []).append(name)
    kept = {name for name in first.values() if len({*values[name]}) > 1}
    for cell in cells:
        cell.settings = {name: value for name, value in cell.settings.items() if name in kept}
    return [name for name in names if name in kept and len({*values[name]} - {None}) > 1], tied


def _of_setting(
    name: str, cells: Sequence[ContrastCell], against: str | None, within: str | None, facts: Facts
) -> list[dict[str, Any]]:
    """Return the rows of one setting, level by level: each problem, then the data sets together."""
    with_it = [cell for cell in cells if name in cell.settings]
    if name == DONOR:
        with_it += _with_random_filters(cells)
    reference, levels = _levels(name, with_it, against)
    rows: list[dict[str, Any]] = []
    for level, values in levels.items():
        of_level: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for (problem, metric, asked, value), pairs in _matched(name, with_it, values, reference, within):
            row = _row(pairs, facts)
            if row is not None:
                named = {
                    **problem.record, "network": problem.network or level, "metric": metric,
                    "asked_removed_macs_fraction": asked, "setting": name, "level": level, "reference": reference,
                    "within": value,
                }  # fmt: skip
                of_level.setdefault((problem.network, metric, asked, value), []).append(named | row)
        for of_sets in of_level.values():
            rows += of_sets
            if len({row["dataset"] for row in of_sets}) == len(of_sets) > 1:
                rows.append(_over(of_sets))
    return rows


def _with_random_filters(cells: Iterable[ContrastCell]) -> Iterator[ContrastCell]:
    """Yield the cells whose filters are random, which read no donor, as of one more donor."""
    for cell in cells:
        for item in _AT_RANDOM:
            if DONOR not in cell.settings and item in cell.settings.items():
                settings = {key: value for key, value in cell.settings.items() if key != item[0]}
                yield replace(cell, settings={**settings, DONOR: RANDOM_FILTERS})


def _levels(name: str, cells: Sequence[ContrastCell], against: str | None) -> tuple[str, dict[str, set[str]]]:
    """Return the value that others are compared with, and the values of each level, in the order of the rows."""
    cells_of = Counter(cell.settings[name] for cell in cells)
    if against is not None and against not in cells_of:
        raise ResultsError(f"--against {against}: no trial with a score has it{nearest(against, cells_of)}")
    reference = against or OWN
    if reference not in cells_of or (against is None and name != DONOR):
        reference = min(cells_of, key=lambda level: (-cells_of[level], _by_size(level)), default="")
    levels = {level: {level} for level in sorted(cells_of, key=_by_size) if level != reference}
    if name == DONOR:
        others = {level for level in levels if level not in (OWN, *MADE, RANDOM_FILTERS)}
        levels = {level: levels[level] for level in (*sorted(others), *MADE, RANDOM_FILTERS, OWN) if level in levels}
        if len(others) > 1:
            levels[OTHER_SETS] = others
    return reference, levels


def _matched(
    name: str, cells: Iterable[ContrastCell], values: set[str], reference: str, within: str | None
) -> Iterator[tuple[tuple[Any, ...], list[tuple[ContrastCell, ContrastCell]]]]:
    """Yield each place with the pairs of cells that differ in one setting alone.

    Settings that only one of the values reads, such as those of a criterion, belong to that value.
    """
    sides = [[cell for cell in cells if cell.settings[name] in wanted] for wanted in (values, {reference})]
    read = [{key for cell in side for key in cell.settings} for side in sides]
    shared = sorted(read[0] & read[1] - {name})
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], tuple[list[ContrastCell], list[ContrastCell]]]] = {}
    for number, side in enumerate(sides):
        for cell in side:
            problem, metric, asked = cell.place
            if name == _NETWORK:
                problem = problem._replace(network="")
            elif name == _IMAGES:
                problem = problem._replace(train_images=0)
            value = None if within is None else cell.label if within == LABEL else cell.settings.get(within)
            alike = tuple(cell.settings.get(key) for key in shared)
            by_alike = groups.setdefault((problem, metric, asked, value), {})
            by_alike.setdefault(alike, ([], []))[number].append(cell)
    for place in sorted(groups, key=lambda place: (place[0], place[1], budget_order(place[2]), str(place[3]))):
        pairs = [(one, other) for firsts, seconds in groups[place].values() for one in firsts for other in seconds]
        if pairs:
            yield place, pairs


def _row(pairs: Sequence[tuple[ContrastCell, ContrastCell]], facts: Facts) -> dict[str, Any] | None:
    """Compare the first cells with the second ones, averaged within each seed; None if no seed has both."""
    scores: tuple[dict[int, list[float]], ...] = ({}, {})
    for pair in pairs:
        for seed in sorted(pair[0].arm.test_by_seed.keys() & pair[1].arm.test_by_seed.keys()):
            for cell, of_seeds in zip(pair, scores, strict=True):
                of_seeds.setdefault(seed, []).append(cell.arm.test_by_seed[seed])
    first, second = ({seed: math.fsum(few) / len(few) for seed, few in of_seeds.items()} for of_seeds in scores)
    if not first:
        return None
    of_cells = [cell.arm.failed for cell in {id(cell): cell for pair in pairs for cell in pair}.values()]
    failed = sum(of_cell.total() for of_cell in of_cells)
    result = compare_pairs(first, second, {seed for of_cell in of_cells for seed in of_cell})
    mean = result.difference
    are_equally_tuned = len({cell.tried for pair in pairs for cell in pair}) == 1
    verdict = word_of(result, failed, are_equally_tuned=are_equally_tuned)
    return {
        "datasets": 1, "pairs": mean.n, "score": math.fsum(first.values()) / mean.n,
        "reference_score": math.fsum(second.values()) / mean.n, "difference": mean.mean, "difference_low": mean.low,
        "difference_high": mean.high, "p": result.p, "smallest_p": result.smallest_p, "verdict": verdict,
        "new_set_low": None, "new_set_high": None, "failed_trials": failed, "p_of_family": result.largest_p,
        "flags": flags_of([(one.arm, other.arm) for one, other in pairs], facts),
    }  # fmt: skip


def _over(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row over data sets, of which each is one observation."""
    over = over_sets([row["difference"] for row in rows])
    mean = over.mean
    verdict = "inconclusive"
    if any(row["verdict"] == "incomplete" for row in rows):
        verdict = "incomplete"
    elif any(row["verdict"] == "not equally tuned" for row in rows):
        verdict = "not equally tuned"
    elif over.p is not None and over.p <= SIGNIFICANCE and mean.low is not None:
        verdict = "better" if mean.low > 0 else "worse"
    return {
        **rows[0], "dataset": None, "train_images": None, "datasets": mean.n,
        "pairs": min(row["pairs"] for row in rows), "score": math.fsum(row["score"] for row in rows) / mean.n,
        "reference_score": math.fsum(row["reference_score"] for row in rows) / mean.n, "difference": mean.mean,
        "difference_low": mean.low, "difference_high": mean.high, "p": over.p, "smallest_p": None, "verdict": verdict,
        "new_set_low": over.new_low, "new_set_high": over.new_high,
        "failed_trials": sum(row["failed_trials"] for row in rows),
        "p_of_family": None if verdict == "incomplete" else over.p,
        "flags": [flag for flag in FLAGS if any(flag in row["flags"] for row in rows)],
    }  # fmt: skip


def _by_size(level: str) -> tuple[float, str]:
    """Sort key: numbers by size, then texts."""
    try:
        return float(level), level
    except ValueError:
        return math.inf, level
