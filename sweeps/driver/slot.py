"""One place where trials run, one after the other, on ranks that stay warm in between."""

import contextlib
import json
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hpc.ranks.ranks import LOG_TAIL_LINES, Heartbeat, RankDied, RankFailed, RankGroup, RankHung

TELL_EVERY_S = 2.0  # how far a stage is


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one step of a trial came to."""

    kind: Literal["begun", "placed", "progress", "stage", "died", "failed", "suspended", "moved", "finished"]
    over: bool  # the trial takes no further step here
    done_fraction: float = 0.0  # of kind "progress": of the running stage
    words: str = ""  # likewise, for people
    stage: dict[str, Any] | None = None  # of kind "stage": what the trial's `advance` returned
    cause: str | None = None  # of kinds "died", "failed", "suspended" and "moved"
    log_tail: str | None = None
    nodes: tuple[str, ...] = ()  # of kind "placed": Ray's ids of the nodes of its ranks, by rank
    hosts: tuple[str, ...] = ()  # and the names of these machines

    def to_json(self) -> str:
        """For the way through a scheduler that flattens nested records."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote."""
        read = json.loads(text)
        return cls(**read | {name: tuple(read[name]) for name in ("nodes", "hosts")})


class Slot:
    """Runs trials stage by stage, and says how far a long one is.

    A rank that dies or hangs is replaced by a fresh set, on which the trial begins again: it resumes from what is
    stored. What was stopped from outside costs the trial no attempt.
    A rank that raises fails the trial: the same call would raise again.
    """

    def __init__(self, make_ranks: Callable[[], RankGroup]) -> None:
        self._make_ranks = make_ranks
        self._ranks: RankGroup | None = None
        self._task: dict[str, Any] = {}
        self._attempts_left = 0
        self._begun = False
        self._stage: Generator[Heartbeat, None, list[Any]] | None = None  # that runs
        self._tell_every_s = TELL_EVERY_S
        self._told_s = 0.0

    def take(self, task: dict[str, Any], attempts: int, tell_every_s: float = TELL_EVERY_S) -> None:
        """Takes a trial, to be tried so many times; starts nothing yet."""
        self._task, self._attempts_left, self._begun = task, attempts, False
        self._tell_every_s = tell_every_s

    def step(self) -> Report:
        """Runs the trial to the end of its next stage, or for `tell_every_s` of it: the ranks go on meanwhile."""
        try:
            stage = self._advance()
        except RankDied as death:
            self._drop()
            if isinstance(death, RankHung) and death.is_suspended:
                return Report(kind="suspended", cause=str(death), log_tail=death.log_tail, over=False)
            self._attempts_left -= 1
            return Report(kind="died", cause=str(death), log_tail=death.log_tail, over=self._attempts_left == 0)
        except RankFailed as failure:
            self._drop()
            tail = "\n".join(failure.traceback.splitlines()[-LOG_TAIL_LINES:])
            return Report(kind="failed", cause=str(failure), log_tail=tail, over=True)
        if isinstance(stage, Heartbeat):
            return Report(kind="progress", done_fraction=stage.done_fraction, words=stage.words, over=False)
        if stage is None:
            return Report(kind="finished", over=True)
        if stage.get("paused"):
            self._drop()
            return Report(kind="moved", cause="a node of its ranks is to be left", over=False)
        return Report(kind="stage", stage=stage, over=False)

    def start(self) -> RankGroup:
        """The ranks, which are started if there are none.

        Raises:
            RankDied, RankFailed: they did not start.
        """
        if self._ranks is None:
            self._ranks = self._make_ranks()
        return self._ranks

    def close(self) -> None:
        """Ends the ranks; what the trials stored is durable already, so how they end does not matter."""
        if self._stage is not None:
            self._drop()  # they would answer at its end
        if self._ranks is not None:
            with contextlib.suppress(RankDied, RankFailed):
                self._ranks.close()

    def kill(self) -> None:
        """Ends the ranks at once."""
        self._drop()

    def _advance(self) -> Heartbeat | dict[str, Any] | None:
        ranks = self.start()
        if not self._begun:
            ranks.call("begin", self._task)
            self._begun = True
        self._stage = self._stage or ranks.call_in_steps("advance")
        try:
            while True:
                sign = next(self._stage)
                if time.monotonic() - self._told_s >= self._tell_every_s:
                    self._told_s = time.monotonic()
                    return sign
        except StopIteration as end:
            self._stage = None
            stage: dict[str, Any] | None = end.value[0]
            return stage

    def _drop(self) -> None:
        if self._ranks is not None:
            self._ranks.kill()
        self._ranks, self._begun, self._stage = None, False, None
