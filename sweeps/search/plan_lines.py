"""How many trials a search runs at least and at most: lines for a person."""

from collections.abc import Iterator

from sweeps.search.halving import ladder
from sweeps.search.space import space_of
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec

BY_ORDER = "asynchronous: which settings continue depends on the order in which trials end, so runs and sites differ"


def plan_lines(spec: Spec) -> Iterator[str]:
    """Say how many settings a search tries, how many run to each rung, and how many trials these are."""
    search = spec.search
    assert search is not None
    confirm = spec.confirm
    space = space_of(spec)
    size = sum(space.sizes)
    seeds = len(space.seeds)
    counts = settings_bounds(search, size)
    least, most = counts[0]
    then = "" if confirm is None else f", then the best {confirm.top} with {confirm.seeds} seeds"
    yield f"search    {search.sampler}: at most {most} of {size} settings, {first_batch(search, most)} at a time{then}"
    if len(counts) > 1:
        ends = [*(str(rung) for rung in ladder(search)), "the end"]
        parts = [f"{span(*bounds)} until {end}" for end, bounds in zip(ends, counts, strict=True)]
        yield f"          of the settings run {', '.join(parts)}"
    if search.is_asynchronous:
        yield f"          {BY_ORDER}"
    least_trials = least * seeds
    most_trials = most * seeds
    if confirm is not None:
        least_ended, most_ended = counts[-1]
        least_trials += min(confirm.top, least_ended) * confirm.seeds
        most_trials += min(confirm.top, most_ended) * confirm.seeds
    trials_text = span(least_trials, most_trials)
    yield f"          {trials_text} trials if none fails, {size * seeds} in the grid; above is what runs first"


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


def span(least: int, most: int) -> str:
    """Write a range; one number if both are equal.

    >>> span(1, 3)
    '1 to 3'
    """
    return str(least) if least == most else f"{least} to {most}"
