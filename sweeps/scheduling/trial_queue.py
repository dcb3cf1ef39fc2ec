"""Which trial is next: no two running trials compute the same stage, and the longest work comes first. No I/O."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StageClaim:
    """A stage that a trial claims while it runs, unless it is finished."""

    key: str
    work: float  # planned, a relative cost


@dataclass(frozen=True, kw_only=True)
class QueuedTrial:
    """A trial in the queue: its stages in the order of execution."""

    trial_id: str
    claims: tuple[StageClaim, ...]


@dataclass(frozen=True)
class Blocked:
    """No trial may start now: each waiting trial needs a stage that a running trial computes."""

    keys: frozenset[str]  # the stages that they wait for; ask again when one is finished


class TrialQueue:
    """The trials of a sweep that wait or run, and the stages that they claim.

    A running trial claims all its unfinished stages; a trial may start if none of its stages is claimed. Each stage of
    a trial is visited a few times over the whole sweep, so the cost of a decision grows with the stages per trial, not
    with the number of waiting trials.
    """

    def __init__(self, trials: Iterable[QueuedTrial], finished: Collection[str], *, slots: int) -> None:
        """Take trials in the order of the spec, and the keys of finished stages; `slots` trials run at once."""
        self._slots = slots
        self._finished = set(finished)
        self._trials: dict[str, QueuedTrial] = {}
        self._number: dict[str, int] = {}  # the order of the spec
        self._waiting: dict[str, None] = {}
        self._running: dict[str, None] = {}
        self._claimed: dict[str, str] = {}  # stage key -> the running trial that claims it
        self._claims_on: dict[str, int] = {}  # waiting trial -> how many of its stages others claim
        self._sharing: dict[str, list[str]] = defaultdict(list)  # stage key -> live trials that have it
        self._startable: list[tuple[float, int, str]] = []  # heap
        self._begins_with: dict[str, str] = {}  # waiting trial that may start -> its first unfinished stage
        self._beginnings: Counter[str] = Counter()  # the same, counted by stage
        for trial in trials:
            self._number[trial.trial_id] = len(self._number)
            self._trials[trial.trial_id] = trial
            for claim in trial.claims:
                self._sharing[claim.key].append(trial.trial_id)
        self._chain, self._total = follow_ups(self._trials.values(), self._finished)
        self._work: dict[str, float] = {}  # of each stage
        for trial in self._trials.values():
            for claim in trial.claims:
                self._work[claim.key] = claim.work
        # Unfinished stage -> how many live trials need it.
        self._needed_by = {key: len(sharing) for key, sharing in self._sharing.items() if key not in self._finished}
        self._work_left = sum(self._work[key] for key in self._needed_by)
        for trial_id in self._trials:
            self._claims_on[trial_id] = 0
            self._put_in_line(trial_id)

    @property
    def waiting(self) -> int:
        """The number of waiting trials."""
        return len(self._waiting)

    @property
    def live(self) -> Collection[str]:
        """Ids of the trials that wait or run."""
        return self._waiting.keys() | self._running.keys()

    def with_trials(self, trials: Iterable[QueuedTrial]) -> "TrialQueue":
        """Return a queue with the trials that run and wait, and more; trials that have ended are forgotten."""
        live = [self._trials[trial_id] for trial_id in (*self._running, *self._waiting)]
        queue = TrialQueue([*live, *trials], self._finished, slots=self._slots)
        for trial_id in self._running:
            queue._start(trial_id)
        return queue

    @property
    def finished(self) -> AbstractSet[str]:
        """Keys of the finished stages; not a copy, since callers ask for one stage after the other."""
        return self._finished

    @property
    def claimed(self) -> frozenset[str]:
        """Keys of the stages that running trials compute, or will."""
        return frozenset(self._claimed)

    @property
    def could_start(self) -> int:
        """The number of waiting trials that could run in addition to the running ones if there were slots for all.

        Of trials that begin with the same stage only one counts; those that share a later stage all count.
        """
        return len(self._beginnings)

    @property
    def work_left(self) -> float:
        """Planned work of the stages that waiting and running trials still need, each counted once."""
        return max(0.0, self._work_left)  # rounding may leave a small negative sum

    def next(self) -> QueuedTrial | Blocked | None:
        """Take the next trial to start, or return what to wait for; None: no trial waits."""
        if not self._waiting:
            return None
        trial_id = self._first_startable()
        if trial_id is None:
            return Blocked(frozenset(key for key in self._claimed if self._needed_by[key] > 1))
        return self._start(trial_id)

    def stage_finished(self, key: str) -> None:
        """Note that a stage is finished, by any trial or sweep; trials that waited for it may start."""
        if key in self._finished:
            return
        self._finished.add(key)
        if self._needed_by.get(key, 0) > 0:
            self._work_left -= self._work[key]
        was_claimed = self._claimed.pop(key, None) is not None
        for trial_id in self._sharing.get(key, ()):
            if trial_id in self._waiting:
                self._claims_on[trial_id] -= was_claimed
                self._line_up(trial_id)

    def trial_ended(self, trial_id: str, *, finished: bool) -> None:
        """Release the claims of a running trial; if it has not finished, it waits again."""
        del self._running[trial_id]
        for claim in self._trials[trial_id].claims:
            if self._claimed.get(claim.key) == trial_id:
                self._release(claim.key)
        if not finished:
            self._put_in_line(trial_id)
            return
        for claim in self._trials[trial_id].claims:
            self._needed_by[claim.key] = self._needed_by.get(claim.key, 1) - 1
            if self._needed_by[claim.key] == 0 and claim.key not in self._finished:
                self._work_left -= claim.work

    def _first_startable(self) -> str | None:
        """Return the first trial that may start; drop outdated entries of the heap before it."""
        while self._startable:
            priority, _number, trial_id = self._startable[0]
            if trial_id in self._waiting and self._claims_on[trial_id] == 0 and self._priority(trial_id) == priority:
                return trial_id
            heapq.heappop(self._startable)
        return None

    def _start(self, trial_id: str) -> QueuedTrial:
        """Let a waiting trial run: it claims its unfinished stages, so others that share them cannot start."""
        del self._waiting[trial_id]
        self._running[trial_id] = None
        self._uncount(trial_id)
        trial = self._trials[trial_id]
        for claim in trial.claims:
            if claim.key not in self._finished:
                self._claimed[claim.key] = trial_id
                for other_id in self._sharing[claim.key]:
                    if other_id in self._waiting:
                        self._claims_on[other_id] += 1
                        self._uncount(other_id)
        return trial

    def _uncount(self, trial_id: str) -> None:
        """Remove a trial from the count of those that could start; its entry in the heap is dropped later."""
        key = self._begins_with.pop(trial_id, None)
        if key is not None:
            self._beginnings[key] -= 1
            if not self._beginnings[key]:
                del self._beginnings[key]

    def _release(self, key: str) -> None:
        del self._claimed[key]
        for trial_id in self._sharing[key]:
            if trial_id in self._waiting:
                self._claims_on[trial_id] -= 1
                self._line_up(trial_id)

    def _put_in_line(self, trial_id: str) -> None:
        self._waiting[trial_id] = None
        self._line_up(trial_id)

    def _line_up(self, trial_id: str) -> None:
        """Add a trial with its present priority, if none of its stages is claimed."""
        if self._claims_on[trial_id] == 0:
            trial = self._trials[trial_id]
            heapq.heappush(self._startable, (self._priority(trial_id), self._number[trial_id], trial_id))
            self._uncount(trial_id)  # it may be counted under a stage that is finished now
            first_key = next((claim.key for claim in trial.claims if claim.key not in self._finished), trial_id)
            self._begins_with[trial_id] = first_key
            self._beginnings[first_key] += 1

    def _priority(self, trial_id: str) -> float:
        """Return minus the work that depends on this trial (see `work_behind`); the smallest is first."""
        claims = [claim for claim in self._trials[trial_id].claims if claim.key not in self._finished]
        return -work_behind(claims, self._chain, self._total, self._slots)


def follow_ups(trials: Iterable[QueuedTrial], finished: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the work that follows each stage: the longest chain, and the total, by stage key.

    A stage follows the one before it in the first trial that has it; finished stages have no work.
    """
    above: dict[str, str | None] = {}
    work: dict[str, float] = {}
    for trial in trials:
        previous: str | None = None
        for claim in trial.claims:
            if claim.key not in above:
                above[claim.key] = previous
                work[claim.key] = 0.0 if claim.key in finished else claim.work
            previous = claim.key
    chain = dict.fromkeys(above, 0.0)
    total = dict.fromkeys(above, 0.0)
    for key in reversed(above):  # a stage was entered after the one above it
        parent = above[key]
        if parent is not None:
            chain[parent] = max(chain[parent], work[key] + chain[key])
            total[parent] += work[key] + total[key]
    return chain, total


def work_behind(claims: Iterable[StageClaim], chain: dict[str, float], total: dict[str, float], slots: int) -> float:
    """Return a lower bound of the work from the start of these stages to the end of all that needs them.

    After each stage other trials can continue: at best along its longest chain, or spread over all slots.
    """
    done = 0.0
    longest = 0.0
    for claim in claims:
        done += claim.work
        longest = max(longest, done + max(chain[claim.key], total[claim.key] / slots))
    return longest
