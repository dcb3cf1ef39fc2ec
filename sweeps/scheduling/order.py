"""Which trial next: no two running trials compute the same stage, and the longest work goes first. Pure bookkeeping."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StageClaim:
    """A stage as the order of trials sees it."""

    key: str
    work: float  # a relative cost, as planned


@dataclass(frozen=True, kw_only=True)
class QueuedTrial:
    """A trial that could run: its stages in the order of execution, and how many ranks it takes."""

    trial_id: str
    ranks: int
    claims: tuple[StageClaim, ...]


@dataclass(frozen=True)
class Blocked:
    """No trial may start yet: each that waits needs a stage that a running trial computes."""

    keys: frozenset[str]  # the stages that are waited for; when one is finished, it is worth asking again


class TrialQueue:
    """The trials of a sweep that wait or run, and what they claim.

    A running trial claims all its stages that are not finished; a trial may start if it claims nothing that is
    claimed. Costs: each stage of a trial is touched a few times over the whole sweep, so a decision costs about
    (stages per trial) claims, however many trials wait.
    """

    def __init__(self, trials: Iterable[QueuedTrial], finished: Collection[str], *, slots: int) -> None:
        """Takes trials in the order of the spec, and the keys of stages that are finished; `slots` run at once."""
        self._slots = slots
        self._finished = set(finished)
        self._trials: dict[str, QueuedTrial] = {}
        self._number: dict[str, int] = {}  # the order of the spec
        self._waiting: dict[str, None] = {}
        self._running: dict[str, None] = {}
        self._claimed: dict[str, str] = {}  # stage key -> the running trial that claims it
        self._claims_on: dict[str, int] = {}  # waiting trial -> how many of its stages others claim
        self._sharing: dict[str, list[str]] = defaultdict(list)  # stage key -> live trials that have it
        self._startable: dict[int, list[tuple[float, int, str]]] = defaultdict(list)  # ranks -> heap
        self._begins_with: dict[str, str] = {}  # waiting trial that nothing holds back -> its first unfinished stage
        self._beginnings: Counter[str] = Counter()  # the same, counted by stage
        for trial in trials:
            self._number[trial.trial_id] = len(self._number)
            self._trials[trial.trial_id] = trial
            for claim in trial.claims:
                self._sharing[claim.key].append(trial.trial_id)
        self._chain, self._total = follow_ups(self._trials.values(), self._finished)
        self._work = {claim.key: claim.work for trial in self._trials.values() for claim in trial.claims}
        self._needed_by = {key: len(trials) for key, trials in self._sharing.items() if key not in self._finished}
        self._work_left = sum(self._work[key] for key in self._needed_by)
        for trial_id in self._trials:
            self._claims_on[trial_id] = 0
            self._put_in_line(trial_id)

    @property
    def waiting(self) -> int:
        """How many trials wait."""
        return len(self._waiting)

    @property
    def could_start(self) -> int:
        """How many waiting trials could run beside the running ones and each other, were there slots for all.

        Of trials that begin with the same stage one can; those that meet in a later stage are counted each.
        """
        return len(self._beginnings)

    @property
    def work_left(self) -> float:
        """Planned work of the stages that waiting and running trials still need, each counted once."""
        return max(0.0, self._work_left)  # sums of many floats end a little beside zero

    def next(self, warm_ranks: int | None = None) -> QueuedTrial | Blocked | None:
        """Takes the trial to start now, or says what to wait for; None: no trial waits.

        Trials that take `warm_ranks` ranks, the size of the set that is warm where the trial would run, go first.
        """
        if not self._waiting:
            return None
        best: tuple[float, int, str] | None = None
        for ranks in list(self._startable):
            first = self._first(ranks)
            if first is None:
                continue
            if ranks == warm_ranks:
                best = first
                break
            best = first if best is None else min(best, first)
        if best is None:
            return Blocked(frozenset(key for key in self._claimed if self._needed_by[key] > 1))
        return self._start(best[2])

    def stage_finished(self, key: str) -> None:
        """Notes that a stage is there, whoever computed it; trials that waited for it may start."""
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
        """Releases what a running trial claimed; one that has not finished waits again."""
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

    def _first(self, ranks: int) -> tuple[float, int, str] | None:
        """The first of the startable trials with so many ranks; drops entries that no longer hold."""
        heap = self._startable[ranks]
        while heap:
            priority, _, trial_id = heap[0]
            if trial_id in self._waiting and self._claims_on[trial_id] == 0 and self._priority(trial_id) == priority:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _start(self, trial_id: str) -> QueuedTrial:
        del self._waiting[trial_id]
        self._running[trial_id] = None
        self._hold_back(trial_id)
        trial = self._trials[trial_id]
        for claim in trial.claims:
            if claim.key not in self._finished:
                self._claimed[claim.key] = trial_id
                for other in self._sharing[claim.key]:
                    if other in self._waiting:
                        self._claims_on[other] += 1
                        self._hold_back(other)
        return trial

    def _hold_back(self, trial_id: str) -> None:
        """Counts a trial no more among those that could start."""
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
        """Enters a trial with its present priority, if nothing holds it back."""
        if self._claims_on[trial_id] == 0:
            trial = self._trials[trial_id]
            entry = (self._priority(trial_id), self._number[trial_id], trial_id)
            heapq.heappush(self._startable[trial.ranks], entry)
            self._hold_back(trial_id)  # as it was counted before
            first = next((claim.key for claim in trial.claims if claim.key not in self._finished), trial_id)
            self._begins_with[trial_id] = first
            self._beginnings[first] += 1

    def _priority(self, trial_id: str) -> float:
        """Smaller goes first: minus the work that hangs on this trial, see `work_behind`."""
        claims = [claim for claim in self._trials[trial_id].claims if claim.key not in self._finished]
        return -work_behind(claims, self._chain, self._total, self._slots)


def follow_ups(trials: Iterable[QueuedTrial], finished: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """What can only be done after a stage: the longest chain of work, and all work, by stage key.

    A stage hangs below the one before it in the first trial that has it; finished stages cost nothing.
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
    """The least work that is left from the start of these claims to the end of all that needs them.

    After each claim others can go on: at best along its longest chain, or spread over all slots.
    """
    done = longest = 0.0
    for claim in claims:
        done += claim.work
        longest = max(longest, done + max(chain[claim.key], total[claim.key] / slots))
    return longest
