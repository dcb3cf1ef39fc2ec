"""The order of trials, against a slow and obvious one that looks at everything at each decision."""

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest

from sweeps.scheduling.trial_queue import Blocked, QueuedTrial, StageClaim, TrialQueue


def waiting(trial_id: str, steps: str, *, work: float = 1.0) -> QueuedTrial:
    """A trial from the names of its stages, "a b:5 c"; ":5" is a stage's work."""
    made = []
    for name in steps.split():
        key, _, cost = name.partition(":")
        made.append(StageClaim(key=key, work=float(cost) if cost else work))
    return QueuedTrial(trial_id=trial_id, claims=tuple(made))


def started(queue: TrialQueue) -> str:
    choice = queue.next()
    assert isinstance(choice, QueuedTrial), choice
    return choice.trial_id


def test_siblings_wait_for_what_is_being_computed() -> None:
    queue = TrialQueue([waiting("A", "root a"), waiting("B", "root b"), waiting("C", "other")], set(), slots=2)
    assert started(queue) == "A"
    assert started(queue) == "C"
    assert queue.next() == Blocked(frozenset({"root"}))
    queue.stage_finished("root")
    assert started(queue) == "B"
    assert queue.next() is None


def test_a_trial_that_died_waits_again_and_lets_others_go() -> None:
    queue = TrialQueue([waiting("A", "root a"), waiting("B", "root b")], set(), slots=2)
    assert started(queue) == "A"
    assert isinstance(queue.next(), Blocked)
    queue.trial_ended("A", finished=False)
    assert queue.waiting == 2
    assert started(queue) == "A"  # as before: by the order of the spec
    queue.stage_finished("root")
    queue.trial_ended("A", finished=False)
    assert {started(queue), started(queue)} == {"A", "B"}


def test_a_trial_that_stopped_early_leaves_its_stages_to_others() -> None:
    queue = TrialQueue([waiting("A", "root end a"), waiting("B", "root end b")], set(), slots=2)
    assert started(queue) == "A"
    queue.stage_finished("root")
    assert queue.next() == Blocked(frozenset({"end"}))
    queue.trial_ended("A", finished=True)
    assert started(queue) == "B"


def test_the_longest_work_goes_first_and_what_others_wait_for_counts() -> None:
    lone = waiting("lone", "x:80")
    family = [waiting(f"f{i}", f"root:60 f{i}:10") for i in range(20)]
    assert started(TrialQueue([waiting("short", "s:79"), lone], set(), slots=2)) == "lone"
    assert started(TrialQueue([lone, *family], set(), slots=2)) == "f0"  # 60 + 20 x 10 / 2 hang on it
    assert started(TrialQueue([lone, *family], {"root"}, slots=2)) == "lone"


def test_of_trials_that_begin_alike_one_could_start() -> None:
    trials = [*(waiting(f"f{i}", f"root f{i}") for i in range(5)), waiting("lone", "x"), waiting("done", "y")]
    queue = TrialQueue(trials, {"y"}, slots=2)
    assert queue.could_start == 3
    assert started(queue) == "f0"
    assert queue.could_start == 2
    queue.stage_finished("root")
    assert queue.could_start == 6


def test_finished_stages_are_not_copied_for_each_question() -> None:
    queue = TrialQueue([waiting("A", "root a")], {"root"}, slots=1)
    assert queue.finished is queue.finished == {"root"}


def test_work_left_counts_each_stage_once() -> None:
    queue = TrialQueue([waiting("A", "root:4 a:1"), waiting("B", "root:4 b:2"), waiting("C", "c:8")], {"c"}, slots=2)
    assert queue.work_left == 7
    started(queue)
    queue.stage_finished("root")
    queue.stage_finished("root")
    assert queue.work_left == 3
    assert started(queue) == "B"
    queue.trial_ended("B", finished=True)  # stopped before b
    assert queue.work_left == 1


class SlowQueue:
    """The same rules, asked of all trials at each decision; nothing is kept but the facts."""

    def __init__(self, trials: list[QueuedTrial], finished: set[str], slots: int) -> None:
        self.trials, self.finished, self.slots = trials, set(finished), slots
        self.waiting = [trial.trial_id for trial in trials]
        self.running: list[QueuedTrial] = []
        self.children: dict[str, list[StageClaim]] = {}
        seen: set[str] = set()
        for trial in trials:
            for above, claim in zip([None, *trial.claims], trial.claims, strict=False):
                if claim.key not in seen and above is not None:
                    self.children.setdefault(above.key, []).append(
                        StageClaim(key=claim.key, work=0.0 if claim.key in finished else claim.work)
                    )
                seen.add(claim.key)

    def chain(self, key: str) -> float:
        return max((claim.work + self.chain(claim.key) for claim in self.children.get(key, [])), default=0.0)

    def total(self, key: str) -> float:
        return sum(claim.work + self.total(claim.key) for claim in self.children.get(key, []))

    def behind(self, trial: QueuedTrial) -> float:
        left = [claim for claim in trial.claims if claim.key not in self.finished]
        ends = [0.0]
        for number, claim in enumerate(left):
            done = sum(each.work for each in left[: number + 1])
            ends.append(done + max(self.chain(claim.key), self.total(claim.key) / self.slots))
        return max(ends)

    def claims(self, trial: QueuedTrial) -> set[str]:
        return {claim.key for claim in trial.claims} - self.finished

    def could_start(self) -> int:
        claimed = set().union(*(self.claims(trial) for trial in self.running))
        free = [t for t in self.trials if t.trial_id in self.waiting and not self.claims(t) & claimed]
        lefts = [[claim.key for claim in trial.claims if claim.key not in self.finished] for trial in free]
        return len({left[0] for left in lefts if left}) + lefts.count([])

    def next(self) -> str | None:
        claimed = set().union(*(self.claims(trial) for trial in self.running))
        free = [t for t in self.trials if t.trial_id in self.waiting and not self.claims(t) & claimed]
        free.sort(key=lambda trial: -self.behind(trial))  # stable: ties by the spec
        return free[0].trial_id if free else None


def random_trials(rng: np.random.Generator, count: int, most_steps: int) -> list[QueuedTrial]:
    """Trials that share beginnings, now and then a stage in the middle, with integer work so that sums are exact."""
    trials: list[QueuedTrial] = []
    for number in range(count):
        shared: tuple[StageClaim, ...] = ()
        if trials and rng.random() < 0.8:
            parent = trials[rng.integers(len(trials))]
            shared = parent.claims[: rng.integers(1, len(parent.claims) + 1)]
        own = tuple(
            StageClaim(key=f"{number}-{i}", work=float(rng.integers(0, 9))) for i in range(rng.integers(1, most_steps))
        )
        extra = (StageClaim(key=f"common-{rng.integers(3)}", work=5.0),) if rng.random() < 0.2 else ()
        claims = tuple({claim.key: claim for claim in shared + extra + own}.values())
        trials.append(QueuedTrial(trial_id=f"T{number}", claims=claims))
    return trials


@pytest.mark.parametrize("seed", range(40))
def test_every_decision_is_that_of_the_slow_queue(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 5))
    trials = random_trials(rng, int(rng.integers(2, 25)), 5)
    keys = sorted({claim.key for trial in trials for claim in trial.claims})
    finished = {key for key in keys if rng.random() < 0.1}
    fast, slow = TrialQueue(trials, finished, slots=slots), SlowQueue(trials, finished, slots)
    decisions = 0
    while slow.waiting or slow.running:
        expected = slow.next() if len(slow.running) < slots else None
        assert fast.could_start == slow.could_start()
        if len(slow.running) < slots:
            choice = fast.next()
            decisions += 1
            if expected is None:
                assert choice is None if not slow.waiting else isinstance(choice, Blocked) and choice.keys
            else:
                assert isinstance(choice, QueuedTrial)
                assert choice.trial_id == expected
                slow.waiting.remove(expected)
                slow.running.append(choice)
                continue
        trial = slow.running[rng.integers(len(slow.running))]
        left = [claim.key for claim in trial.claims if claim.key not in slow.finished]
        event = rng.random()
        if left and event < 0.8:
            fast.stage_finished(left[0])
            slow.finished.add(left[0])
        elif not left or event < 0.9:  # to its end, or stopped early
            fast.trial_ended(trial.trial_id, finished=True)
            slow.running.remove(trial)
        else:  # died
            fast.trial_ended(trial.trial_id, finished=False)
            slow.running.remove(trial)
            slow.waiting.append(trial.trial_id)
    assert decisions >= len(trials)
    assert fast.work_left == 0


def play(trials: list[QueuedTrial], slots: int) -> int:
    """Runs all trials stage by stage; returns the number of decisions."""
    queue = TrialQueue(trials, set(), slots=slots)
    running: dict[str, list[str]] = {}
    finished: set[str] = set()
    decisions = 0
    while True:
        while len(running) < slots:
            choice = queue.next()
            decisions += 1
            if not isinstance(choice, QueuedTrial):
                break
            running[choice.trial_id] = [claim.key for claim in choice.claims if claim.key not in finished]
        if not running:
            return decisions
        for trial_id, left in list(running.items()):
            if left:
                key = left.pop(0)
                assert key not in finished, "computed twice"
                finished.add(key)
                queue.stage_finished(key)
            else:
                del running[trial_id]
                queue.trial_ended(trial_id, finished=True)


def lines_run(act: Callable[[], object]) -> int:
    """How many lines of Python an act takes: what it costs, however busy the machine is."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        act()
    finally:
        sys.settrace(before)
    return lines


def test_four_times_the_trials_cost_little_more_than_four_times_as_much() -> None:
    """The worst case of sharing: one root for all, then families of 100, pairs, and own ends."""

    def cost(count: int) -> int:
        trials = []
        for number in range(count):
            names = ["root", f"a{number // 100}", f"b{number // 100}", f"c{number // 2}"]
            claims = [StageClaim(key=name, work=3.0) for name in names]
            claims += [StageClaim(key=f"own{number}-{i}", work=1.0) for i in range(6)]
            trials.append(QueuedTrial(trial_id=f"T{number}", claims=tuple(claims)))
        return lines_run(lambda: play(trials, 8))

    assert cost(1600) < 5 * cost(400)  # a look at each trial at each decision would be 16 times as much
