"""A job of the doctor, followed from the login node: its wait in the queue, its nodes' answers, and its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpc.doctor.board import Checklist
from hpc.doctor.finding import DoctorFolder, Finding, Message, NodeState, failure, fine
from hpc.errors import ClusterError
from hpc.slurm.jobs import WAITS, JobState, jobs
from transtailor.lines import lines_of
from transtailor.waiting import WaitedTooLong, wait_for

LOOK_EVERY_S = 2.0  # while a person is waiting
LATER_EVERY_S = 15.0
LOG_LINES = 5
LOG_COLUMNS = 200
SKEW_S = 2.0
EDIT = "edit the site"
Found = TypeVar("Found")


class Stopped(Exception):
    """The remaining checks are not possible."""


@dataclass
class Watch:
    """Jobs of one node each.

    Args:
        folder: where its nodes write their findings.
        logs: where its output is.
        ranks: of their nodes.
        cluster: the site's.
    """

    ids: list[str]
    folder: DoctorFolder
    logs: Path
    board: Checklist
    ranks: Sequence[int]
    cluster: str | None
    _looked_s: float = 0.0

    def wait_until_started(self, limit_s: float) -> Finding:
        """Wait in the queue and show the reason; raises SlurmError if the queue cannot be read."""
        why = ""
        state: JobState

        def is_settled() -> bool:
            nonlocal state, why
            state = self.state()
            is_new = state.reason == "None" and state.state != "CONFIGURING"
            why = "the scheduler has not looked at it yet" if is_new else state.explanation
            why += f" ({state.reason})"
            if state.state in WAITS:
                self.board.show_wait(f"job {self.ids[0]} to start, at most {limit_s:g} s (--limit-s): {why}")
            return state.state not in WAITS or state.waits_for_good

        try:
            wait_for(is_settled, "its start", limit_s, poll_s=LOOK_EVERY_S, poll_to_s=LATER_EVERY_S, tell=None)
        except WaitedTooLong:
            advice = "wait for room in the cluster and try again, or give it longer: --limit-s"
            return failure(f"it did not start in {limit_s:g} s: {why}", advice)
        return failure(f"it will not start: {why}", EDIT) if state.waits_for_good else fine(f"job {self.ids[0]}")

    def state(self) -> JobState:
        """SLURM's present state of a job that has ended, or else of the first."""
        self._looked_s = time.monotonic()
        states = list(jobs(self.ids, self.cluster).values())
        return next((state for state in states if state.ended), states[0])

    def wait_for_answers(self, name: str, kind: type[Message], limit_s: float, what: str) -> list[Message]:
        """Wait for the answers of all nodes under a name; raises ClusterError with the end of the log."""

        def read_answers() -> list[Message] | None:
            answers = [self.folder.read(f"{name}-{rank}", kind) for rank in self.ranks]
            return None if None in answers else [one for one in answers if one is not None]

        return self._wait(read_answers, limit_s, what)

    def wait_for_finding(self, check: str, limit_s: float, what: str) -> Finding:
        """Wait for the findings of all nodes in a check, merged; raises ClusterError like `wait_for_answers`."""
        return self._wait(lambda: self.folder.read_findings(check, self.ranks), limit_s, what)

    def _wait(self, read: Callable[[], Found | None], limit_s: float, what: str) -> Found:
        def read_or_raise() -> Found | None:
            if (value := read()) is not None:
                return value
            self.board.show_wait(what)
            if time.monotonic() - self._looked_s <= 3 * LOOK_EVERY_S or not (state := self.state()).ended:
                return None
            if (value := read()) is not None:  # written just before its end
                return value
            raise ClusterError(
                f"job {' or '.join(self.ids)} ended ({state.state}: {state.explanation}){self.log_end()}"
            )

        try:
            return wait_for(read_or_raise, what, limit_s, tell=None)
        except WaitedTooLong as error:
            raise ClusterError(f"no answer in {limit_s:g} s{self.log_end()}") from error

    def log_end(self) -> str:
        """The last lines of what the job printed, for the end of a message."""
        lines = []
        for path in sorted(path for job in self.ids for path in self.logs.glob(f"{job}_*")):
            text = path.read_text(encoding="utf-8", errors="replace")
            plain = [line for line in lines_of(text) if line[:1].strip()]  # frames of stacks are indented
            lines += [f"\n      {path.name} | {line[:LOG_COLUMNS]}" for line in plain[-LOG_LINES:]]
        return f":{''.join(lines)}" if lines else f"; it wrote no log into {self.logs}"


def skew_s(asked_s: float, node_s: float, seen_s: float) -> float:
    """How far a node's clock is ahead (behind: negative) at least, if it was read between two times here.

        >>> skew_s(asked_s=100.0, node_s=97.0, seen_s=101.0)
        -3.0

    Args:
        asked_s: time here before the node was asked.
        seen_s: time here after its answer was read.
    """
    return max(0.0, node_s - seen_s) + min(0.0, node_s - asked_s)


def clock_finding(answers: Sequence[NodeState], asked_s: float, seen_s: float) -> Finding:
    """Whether the nodes' clocks agree with the login node's, within the delay of files."""
    skews = {one.node: skew_s(asked_s, one.time_s, seen_s) for one in answers}
    if wrong := {node: skew for node, skew in skews.items() if abs(skew) > SKEW_S}:
        text = "; ".join(
            f"{node} is at least {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}" for node, skew in wrong.items()
        )
        return failure(text, "have the clocks set by NTP (chronyc tracking): ends of walltimes depend on them")
    return fine(f"equal to the login node's within {max(seen_s - asked_s, *map(abs, skews.values())):.1f} s")
