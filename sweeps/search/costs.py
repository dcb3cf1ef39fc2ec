"""What a search costs at least and at most, and what its grid would cost: lines for a person."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sweeps.planning.plan import PlannedTrial, trial_to_rung
from sweeps.search.halving import BY_ORDER, ladder
from sweeps.search.proposals import with_trials
from sweeps.search.records import Proposal
from sweeps.search.simulated import added_work, simulate_search
from sweeps.search.space import space_of
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec
from tailor.execution.dry_run import PlannedStage

Value = TypeVar("Value", int, float)
MOST_PLANNED = 2_000  # trials of a grid; a larger one is only counted
MOST_SIMULATED = 300  # trials of a search
SIMULATED = 3  # searches with made-up scores


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a search takes at least and at most, if no trial fails; without its confirmation."""

    settings: tuple[tuple[int, int], ...]  # that run to each rung, and at last to the end
    work: tuple[float, float] | None = None  # of all distinct stages; None: the grid was not planned
    grid_work: float = 0.0  # of all settings without rungs
    state_bytes: int = 0  # at most, of the states at rungs


def plan_lines(
    spec: Spec,
    work_of: Callable[[PlannedStage, str], float],
    slots: int,
    time_text: Callable[[float], str] | None,
) -> Iterator[str]:
    """Say how many trials a search runs, how its work compares with that of the whole grid, and how long it may take.

    Args:
        work_of: as in `cost_of`.
        slots: trials at a time.
        time_text: writes a work as a time; None: work is not in seconds.
    """
    search, confirm, space = spec.search, spec.confirm, space_of(spec)
    assert search is not None
    size, seeds = sum(space.sizes), len(space.seeds)
    is_planned = size * seeds <= MOST_PLANNED
    grid = grid_trials(spec) if is_planned else []
    found = bounds_of(search, grid, seeds, work_of) if grid else Bounds(settings=settings_bounds(search, size))
    least, most = found.settings[0]
    then = "" if confirm is None else f", then the best {confirm.top} with {confirm.seeds} seeds"
    yield f"search    {search.sampler}: at most {most} of {size} settings, {first_batch(search, most)} at a time{then}"
    if len(found.settings) > 1:
        names = [*map(str, ladder(search)), "the end"]
        runs = [f"{span(count, str)} until {name}" for name, count in zip(names, found.settings, strict=True)]
        yield f"          of the settings run {', '.join(runs)}"
    if search.is_asynchronous:
        yield f"          {BY_ORDER}"
    confirming = [0 if confirm is None else min(confirm.top, ended) * confirm.seeds for ended in found.settings[-1]]
    trials = (least * seeds + confirming[0], most * seeds + confirming[1])
    whole = len(grid) if is_planned else size * seeds
    yield f"          {span(trials, str)} trials if none fails, {whole} in the grid; above is what runs first"
    if found.work is not None:
        yield f"          {_work_text(found, time_text)}"
    elif not is_planned:
        yield f"          a grid of more than {MOST_PLANNED:,} trials is not planned: its work and states are not known"
    yield f"          {_simulated_text(spec, found, trials[1], work_of, slots, time_text)}"
    if found.state_bytes:
        yield f"          states at rungs take at most {found.state_bytes / 1e6:,.1f} MB of the run's folder"


def first_batch(search: SearchSettings, most: int) -> int:
    """Return how many of `most` settings are proposed before any score is read."""
    return min(most, search.batch) if search.reads_scores or search.is_asynchronous else most


def settings_bounds(search: SearchSettings, there: int) -> tuple[tuple[int, int], ...]:
    """Return how many of `there` settings run to each rung, and at last to the end: at least and at most.

    A limit of time may end a search after its first batch. Asynchronously more continue, if each is the best so far.

    >>> settings_bounds(SearchSettings(trials=9, halving={"epochs": (2,), "asynchronous": True}), 20)
    ((9, 9), (3, 7))
    """
    most = min(search.trials or there, there)
    least = first_batch(search, most) if search.hours or search.gpu_hours else most
    if search.halving is None:
        return ((least, most),)
    return tuple(zip(search.halving.counts(least), search.halving.counts(most, at_most=True), strict=True))


def grid_trials(spec: Spec) -> list[PlannedTrial]:
    """Plan all settings that are not refused, each with all of its seeds."""
    space, trials = space_of(spec), dict[str, PlannedTrial]()
    for number in range(sum(space.sizes)):
        one = Proposal(
            number=number, batch=0, purpose="search", candidate=space.at(number), seeds=space.seeds, drawn_by="grid"
        )
        trials |= {trial.trial_id: trial for trial in with_trials(spec, one, trials.keys()).trials}
    return [*trials.values()]


def bounds_of(
    search: SearchSettings, grid: Sequence[PlannedTrial], seeds: int, work_of: Callable[[PlannedStage, str], float]
) -> Bounds:
    """Return what a search of a planned grid takes, whatever the scores.

    At each rung at most: the trials that add most, as if they shared nothing; or all stages that several trials have,
    and the trials that add most of their own. At least: the trials that add least, where the work of a stage is divided
    by the number of trials that can share it.
    """
    settings = settings_bounds(search, len(grid) // seeds)
    before: list[PlannedTrial | None] = [None] * len(grid)
    added: list[list[dict[str, float]]] = []  # of each rung, of each trial: its work by stage
    state_bytes = 0
    for rung in (*ladder(search), None):
        there = [trial_to_rung(trial, rung) for trial in grid]
        added.append([added_work(trial, last, work_of) for trial, last in zip(there, before, strict=True)])
        before = [*there]
        if rung is not None and rung.epochs is not None and rung.number == 0:
            states = sorted(trial.stages[-1].stored_bytes for trial in there)
            state_bytes = sum(states[-settings[0][1] * seeds :])
    numbers = [Counter(key for one in of_rung for key in one) for of_rung in added]  # of trials that have a stage
    sharing: Counter[str] = Counter()  # of these at most, of those that run, over all rungs
    for number, (fewest, _) in zip(numbers, settings, strict=True):
        sharing.update({key: min(count, fewest * seeds) for key, count in number.items()})
    least = most = 0.0
    for of_rung, number, (fewest, highest) in zip(added, numbers, settings, strict=True):
        divided = sorted(sum(work / sharing[key] for key, work in one.items()) for one in of_rung)
        least += sum(divided[: fewest * seeds])
        alone = sorted(sum(one.values()) for one in of_rung)
        own = sorted(sum(work for key, work in one.items() if number[key] == 1) for one in of_rung)
        common = {key: work for one in of_rung for key, work in one.items() if number[key] > 1}
        most += min(sum(alone[-highest * seeds :]), sum(common.values()) + sum(own[-highest * seeds :]))
    whole = {key: work for trial in grid for key, work in added_work(trial, None, work_of).items()}
    grid_work = sum(whole.values())
    return Bounds(settings=settings, work=(least, min(most, grid_work)), grid_work=grid_work, state_bytes=state_bytes)


def _work_text(found: Bounds, time_text: Callable[[float], str] | None) -> str:
    assert found.work is not None
    shares = span([work / found.grid_work if found.grid_work else 0.0 for work in found.work], "{:.2f}".format)
    times = "" if time_text is None else f", {span(found.work, time_text)} of {time_text(found.grid_work)}"
    return f"the search alone takes {shares} of the grid's work{times}, before confirmation"


def _simulated_text(
    spec: Spec,
    found: Bounds,
    trials: int,
    work_of: Callable[[PlannedStage, str], float],
    slots: int,
    time_text: Callable[[float], str] | None,
) -> str:
    """Say what searches with made-up scores take, or why there are none."""
    assert spec.search is not None
    if not spec.search.is_replayable:
        return f"not simulated: what {spec.search.sampler} proposes depends on a state of its own"
    if trials > MOST_SIMULATED:
        return f"not simulated: it may have more than {MOST_SIMULATED:,} trials, which would take too long"
    made = [simulate_search(spec, work_of, slots=slots, seed=seed) for seed in range(SIMULATED)]
    text = f"simulated {SIMULATED} times: {span([one.trials for one in made], str)} trials"
    if found.grid_work:
        text += f", {span([one.work / found.grid_work for one in made], '{:.2f}'.format)} of the grid's work in all"
    if time_text is not None:
        return f"{text}, {span([one.makespan for one in made], time_text)} with {slots} at a time"
    shares = span([one.makespan / one.work if one.work else 1.0 for one in made], "{:.2f}".format)
    return f"{text}, {slots} at a time in {shares} of the time of one at a time"


def span(values: Sequence[Value], write: Callable[[Value], str]) -> str:
    """The least and the largest value; one if they are written alike.

    >>> span([2, 1, 3], str)
    '1 to 3'
    """
    return " to ".join(dict.fromkeys([write(min(values)), write(max(values))]))
