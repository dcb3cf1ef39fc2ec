"""What a search costs at least and at most, and what its grid would cost: lines for a person."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sweeps.planning.plan import PlannedTrial, trial_to_rung
from sweeps.search.halving import ladder
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
BY_ORDER = "asynchronous: which settings continue depends on the order in which trials end, so runs and sites differ"


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
    search = spec.search
    assert search is not None
    confirm = spec.confirm
    space = space_of(spec)
    size = sum(space.sizes)
    seeds = len(space.seeds)
    is_planned = size * seeds <= MOST_PLANNED
    grid = grid_trials(spec) if is_planned else []
    bounds = bounds_of(search, grid, seeds, work_of) if grid else Bounds(settings=settings_bounds(search, size))
    least, most = bounds.settings[0]
    then = "" if confirm is None else f", then the best {confirm.top} with {confirm.seeds} seeds"
    yield f"search    {search.sampler}: at most {most} of {size} settings, {first_batch(search, most)} at a time{then}"
    if len(bounds.settings) > 1:
        ends = [*(str(rung) for rung in ladder(search)), "the end"]
        parts = [f"{span(counts, str)} until {end}" for end, counts in zip(ends, bounds.settings, strict=True)]
        yield f"          of the settings run {', '.join(parts)}"
    if search.is_asynchronous:
        yield f"          {BY_ORDER}"
    least_trials = least * seeds
    most_trials = most * seeds
    if confirm is not None:
        least_ended, most_ended = bounds.settings[-1]
        least_trials += min(confirm.top, least_ended) * confirm.seeds
        most_trials += min(confirm.top, most_ended) * confirm.seeds
    trials_in_grid = len(grid) if is_planned else size * seeds
    trials_text = span((least_trials, most_trials), str)
    yield f"          {trials_text} trials if none fails, {trials_in_grid} in the grid; above is what runs first"
    if bounds.work is not None:
        yield f"          {_work_text(bounds, time_text)}"
    elif not is_planned:
        yield f"          a grid of more than {MOST_PLANNED:,} trials is not planned: its work and states are not known"
    yield f"          {_simulated_text(spec, bounds, most_trials, work_of, slots, time_text)}"
    if bounds.state_bytes:
        yield f"          states at rungs take at most {bounds.state_bytes / 1e6:,.1f} MB of the run's folder"


def first_batch(search: SearchSettings, most: int) -> int:
    """Return how many of `most` settings are proposed before any score is read."""
    reads_before_all_are_proposed = search.reads_scores or search.is_asynchronous
    return min(most, search.batch) if reads_before_all_are_proposed else most


def settings_bounds(search: SearchSettings, size: int) -> tuple[tuple[int, int], ...]:
    """Return how many of `size` settings run to each rung, and at last to the end: at least and at most.

    A limit of time may end a search after its first batch. Asynchronously more continue, if each is the best so far.

    >>> settings_bounds(SearchSettings(trials=9, halving={"epochs": (2,), "asynchronous": True}), 20)
    ((9, 9), (3, 7))
    """
    most = min(search.trials or size, size)
    least = first_batch(search, most) if search.hours or search.gpu_hours else most
    if search.halving is None:
        return ((least, most),)
    return tuple(zip(search.halving.counts(least), search.halving.counts(most, at_most=True), strict=True))


def grid_trials(spec: Spec) -> list[PlannedTrial]:
    """Plan all settings that are not refused, each with all of its seeds."""
    space = space_of(spec)
    trials: dict[str, PlannedTrial] = {}
    for number in range(sum(space.sizes)):
        proposal = Proposal(
            number=number, batch=0, purpose="search", candidate=space.at(number), seeds=space.seeds, drawn_by="grid"
        )
        decision = with_trials(spec, proposal, trials.keys())
        for trial in decision.trials:
            trials[trial.trial_id] = trial
    return list(trials.values())


def bounds_of(
    search: SearchSettings, grid: Sequence[PlannedTrial], seeds: int, work_of: Callable[[PlannedStage, str], float]
) -> Bounds:
    """Return what a search of a planned grid takes, whatever the scores.

    At each rung at most: the trials that add most, as if they shared nothing; or all stages that several trials have,
    and the trials that add most of their own. At least: the trials that add least, where the work of a stage is divided
    by the number of trials that can share it.
    """
    settings = settings_bounds(search, len(grid) // seeds)
    work_of_rungs: list[list[dict[str, float]]] = []  # of each rung, of each trial: the work that it adds, by stage
    state_bytes = 0
    before: list[PlannedTrial | None] = [None] * len(grid)
    for rung in (*ladder(search), None):
        trials = [trial_to_rung(trial, rung) for trial in grid]
        work_of_rungs.append([added_work(trial, last, work_of) for trial, last in zip(trials, before, strict=True)])
        before = [*trials]
        if rung is not None and rung.epochs is not None and rung.number == 0:
            bytes_of_states = sorted(trial.stages[-1].stored_bytes for trial in trials)
            _fewest, highest = settings[0]
            state_bytes = sum(bytes_of_states[-highest * seeds :])
    trials_with_stage = [_trials_with_stage(work_of_trials) for work_of_trials in work_of_rungs]  # at each rung
    sharing: Counter[str] = Counter()  # how many trials can share a stage, over all rungs
    for counts, (fewest, _highest) in zip(trials_with_stage, settings, strict=True):
        for key, count in counts.items():
            sharing[key] += min(count, fewest * seeds)
    least = 0.0
    most = 0.0
    for work_of_trials, counts, (fewest, highest) in zip(work_of_rungs, trials_with_stage, settings, strict=True):
        least += sum(_divided_work(work_of_trials, sharing)[: fewest * seeds])
        most += _most_work(work_of_trials, counts, highest * seeds)
    work_of_grid: dict[str, float] = {}  # of each distinct stage
    for trial in grid:
        work_of_grid |= added_work(trial, None, work_of)
    grid_work = sum(work_of_grid.values())
    return Bounds(settings=settings, work=(least, min(most, grid_work)), grid_work=grid_work, state_bytes=state_bytes)


def _trials_with_stage(work_of_trials: Iterable[Mapping[str, float]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for work in work_of_trials:
        counts.update(work.keys())
    return counts


def _divided_work(work_of_trials: Iterable[Mapping[str, float]], sharing: Mapping[str, int]) -> list[float]:
    """Return the work of each trial, ascending, if the work of a stage is divided by how many trials can share it."""
    return sorted(sum(work / sharing[key] for key, work in of_trial.items()) for of_trial in work_of_trials)


def _most_work(work_of_trials: Sequence[Mapping[str, float]], counts: Mapping[str, int], trials: int) -> float:
    """Return the most work that so many of these trials can add; `counts`: how many trials have a stage."""
    alone = sorted(sum(of_trial.values()) for of_trial in work_of_trials)
    own = []
    common: dict[str, float] = {}
    for of_trial in work_of_trials:
        own.append(sum(work for key, work in of_trial.items() if counts[key] == 1))
        common |= {key: work for key, work in of_trial.items() if counts[key] > 1}
    own.sort()
    return min(sum(alone[-trials:]), sum(common.values()) + sum(own[-trials:]))


def _work_text(bounds: Bounds, time_text: Callable[[float], str] | None) -> str:
    assert bounds.work is not None
    shares = [work / bounds.grid_work if bounds.grid_work else 0.0 for work in bounds.work]
    times = "" if time_text is None else f", {span(bounds.work, time_text)} of {time_text(bounds.grid_work)}"
    return f"the search alone takes {span(shares, _share_text)} of the grid's work{times}, before confirmation"


def _share_text(share: float) -> str:
    return f"{share:.2f}"


def _simulated_text(
    spec: Spec,
    bounds: Bounds,
    trials: int,
    work_of: Callable[[PlannedStage, str], float],
    slots: int,
    time_text: Callable[[float], str] | None,
) -> str:
    """Say what searches with made-up scores take, or why there are none."""
    if trials > MOST_SIMULATED:
        return f"not simulated: it may have more than {MOST_SIMULATED:,} trials, which would take too long"
    searches = [simulate_search(spec, work_of, slots=slots, seed=seed) for seed in range(SIMULATED)]
    text = f"simulated {SIMULATED} times: {span([search.trials for search in searches], str)} trials"
    if bounds.grid_work:
        shares = [search.work / bounds.grid_work for search in searches]
        text += f", {span(shares, _share_text)} of the grid's work in all"
    if time_text is not None:
        return f"{text}, {span([search.makespan for search in searches], time_text)} with {slots} at a time"
    shares = [search.makespan / search.work if search.work else 1.0 for search in searches]
    return f"{text}, {slots} at a time in {span(shares, _share_text)} of the time of one at a time"


def span(values: Sequence[Value], write: Callable[[Value], str]) -> str:
    """Write the least and the largest value; one if they are written alike.

    >>> span([2, 1, 3], str)
    '1 to 3'
    """
    least = write(min(values))
    largest = write(max(values))
    return least if least == largest else f"{least} to {largest}"
