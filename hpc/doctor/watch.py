"""A job of the doctor, followed from the login node: its wait in the queue, what its nodes tell, and its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpc.doctor.board import Checklist
from hpc.doctor.finding import DoctorFolder, Finding, fine, missing
from hpc.errors import ClusterError
from hpc.slurm.jobs import JobState, jobs
from transtailor.waiting import WaitedTooLong, wait_for

LOOK_EVERY_S = 2.0  # while a person looks on
LATER_EVERY_S = 15.0
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD")
LOG_LINES = 5
LOG_COLUMNS = 200
SKEW_S = 2.0
EDIT = "edit the site"
Found = TypeVar("Found")


class Stopped(Exception):
    """What comes next cannot be checked."""


@dataclass
class Watch:
    """Jobs of one node each.

    Args:
        ids: SLURM's.
        folder: where its nodes tell what they found.
        logs: where its output is.
        board: gets what is waited for.
        ranks: of their nodes.
    """

    ids: list[str]
    folder: DoctorFolder
    logs: Path
    board: Checklist
    ranks: Sequence[int]
    _looked_s: float = 0.0

    def wait_until_started(self, limit_s: float) -> Finding:
        """Waits in the queue, saying why.

        Raises:
            SlurmError: the queue cannot be read.
        """
        why = ""
        state: JobState

        def is_settled() -> bool:
            nonlocal state, why
            state = self.state()
            why = "the scheduler has not looked at it yet" if state.reason == "None" else state.explanation
            why += f" ({state.reason})"
            if state.state in WAITS:
                self.board.show_wait(f"job {self.ids[0]} to start, at most {limit_s:g} s (--limit-s): {why}")
            return state.state not in WAITS or state.waits_for_good

        try:
            wait_for(is_settled, "its start", limit_s, poll_s=LOOK_EVERY_S, poll_to_s=LATER_EVERY_S, tell=None)
        except WaitedTooLong:
            advice = "wait for room in the cluster and try again, or give it longer: --limit-s"
            return missing(f"it did not start in {limit_s:g} s: {why}", advice)
        return missing(f"it will not start: {why}", EDIT) if state.waits_for_good else fine(f"job {self.ids[0]}")

    def state(self) -> JobState:
        """What SLURM says now of one that has ended, or else of the first."""
        self._looked_s = time.monotonic()
        states = list(jobs(self.ids).values())
        return next((state for state in states if state.ended), states[0])

    def wait_for_answers(self, name: str, limit_s: float, what: str) -> list[dict[str, Any]]:
        """What all nodes tell under a name.

        Raises:
            ClusterError: they did not in time, or the job has ended; the text has the end of its log.
        """

        def all_told() -> list[dict[str, Any]] | None:
            found = [self.folder.read(f"{name}-{rank}") for rank in self.ranks]
            return None if None in found else [one for one in found if one is not None]

        return self._wait(all_told, limit_s, what)

    def wait_for_finding(self, check: str, limit_s: float, what: str) -> Finding:
        """What all nodes found in a check.

        Raises:
            ClusterError: see `wait_for_answers`.
        """
        return self._wait(lambda: self.folder.read_findings(check, self.ranks), limit_s, what)

    def _wait(self, found: Callable[[], Found | None], limit_s: float, what: str) -> Found:
        def found_or_over() -> Found | None:
            if (value := found()) is not None:
                return value
            self.board.show_wait(what)
            if time.monotonic() - self._looked_s <= 3 * LOOK_EVERY_S or not (state := self.state()).ended:
                return None
            if (value := found()) is not None:  # told just before its end
                return value
            raise ClusterError(
                f"job {' or '.join(self.ids)} ended ({state.state}: {state.explanation}){self.log_end()}"
            )

        try:
            return wait_for(found_or_over, what, limit_s, tell=None)
        except WaitedTooLong as error:
            raise ClusterError(f"no answer in {limit_s:g} s{self.log_end()}") from error

    def log_end(self) -> str:
        """The last lines of what the job printed, for the end of a message."""
        lines = []
        for path in sorted(path for job in self.ids for path in self.logs.glob(f"{job}_*")):
            text = path.read_text(encoding="utf-8", errors="replace")
            plain = [line for line in text.splitlines() if line[:1].strip()]  # frames of stacks are indented
            lines += [f"\n      {path.name} | {line[:LOG_COLUMNS]}" for line in plain[-LOG_LINES:]]
        return f":{''.join(lines)}" if lines else f"; it wrote no log into {self.logs}"


def skew_s(asked_s: float, node_s: float, seen_s: float) -> float:
    """By how much a node's clock must be ahead (behind: negative) if it was read between two moments here; 0: equal.

    Args:
        asked_s: here, before the node was asked.
        node_s: what it answered.
        seen_s: here, after its answer was seen.
    """
    return max(0.0, node_s - seen_s) + min(0.0, node_s - asked_s)


def clock_finding(answers: Sequence[dict[str, Any]], asked_s: float, seen_s: float) -> Finding:
    """Whether the nodes' clocks agree with this one's, as far as can be told through files."""
    skews = {one["node"]: skew_s(asked_s, one["time_s"], seen_s) for one in answers}
    if wrong := {node: skew for node, skew in skews.items() if abs(skew) > SKEW_S}:
        text = "; ".join(
            f"{node} is at least {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}" for node, skew in wrong.items()
        )
        return missing(text, "have the clocks set by NTP (chronyc tracking): ends of walltimes are judged by them")
    return fine(f"equal to the login node's within {max(seen_s - asked_s, *map(abs, skews.values())):.1f} s")
