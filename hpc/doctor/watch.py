"""Follow a job of the doctor from the login node: its wait in the queue, its nodes' answers, and its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpc.doctor.checklist import Checklist
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
Answer = TypeVar("Answer")


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
    checklist: Checklist
    ranks: Sequence[int]
    cluster: str | None
    _looked_s: float = 0.0

    def wait_until_started(self, limit_s: float) -> Finding:
        """Wait in the queue and show the reason; raises SlurmError if the queue cannot be read."""
        reason = ""
        state: JobState

        def is_decided() -> bool:
            nonlocal state, reason
            state = self.state()
            is_new = state.reason == "None" and state.state != "CONFIGURING"
            explanation = "the scheduler has not looked at it yet" if is_new else state.explanation
            reason = f"{explanation} ({state.reason})"
            if state.state in WAITS:
                self.checklist.show_wait(f"job {self.ids[0]} to start, at most {limit_s:g} s (--limit-s): {reason}")
            return state.state not in WAITS or state.waits_for_good

        try:
            wait_for(is_decided, "its start", limit_s, poll_s=LOOK_EVERY_S, poll_to_s=LATER_EVERY_S, tell=None)
        except WaitedTooLong:
            advice = "wait for room in the cluster and try again, or give it longer: --limit-s"
            return failure(f"it did not start in {limit_s:g} s: {reason}", advice)
        if state.waits_for_good:
            return failure(f"it will not start: {reason}", EDIT)
        return fine(f"job {self.ids[0]}")

    def state(self) -> JobState:
        """Return SLURM's present state of a job that has ended, or else of the first job."""
        self._looked_s = time.monotonic()
        states = list(jobs(self.ids, self.cluster).values())
        for state in states:
            if state.ended:
                return state
        return states[0]

    def wait_for_answers(self, name: str, kind: type[Message], limit_s: float, what: str) -> list[Message]:
        """Wait for the answers of all nodes under a name; raises ClusterError with the end of the log."""

        def read_answers() -> list[Message] | None:
            answers = []
            for rank in self.ranks:
                answer = self.folder.read(f"{name}-{rank}", kind)
                if answer is None:
                    return None
                answers.append(answer)
            return answers

        return self._wait(read_answers, limit_s, what)

    def wait_for_finding(self, check: str, limit_s: float, what: str) -> Finding:
        """Wait for the findings of all nodes in a check, merged; raises ClusterError like `wait_for_answers`."""
        return self._wait(lambda: self.folder.read_findings(check, self.ranks), limit_s, what)

    def _wait(self, read: Callable[[], Answer | None], limit_s: float, what: str) -> Answer:
        """Wait until `read` returns an answer. Raises ClusterError if a job ends before, or at the limit."""

        def read_or_raise() -> Answer | None:
            answer = read()
            if answer is not None:
                return answer
            self.checklist.show_wait(what)
            if time.monotonic() - self._looked_s <= 3 * LOOK_EVERY_S:
                return None
            state = self.state()
            if not state.ended:
                return None
            answer = read()
            if answer is not None:  # written just before the job's end
                return answer
            raise ClusterError(
                f"job {' or '.join(self.ids)} ended ({state.state}: {state.explanation}){self.log_end()}"
            )

        try:
            return wait_for(read_or_raise, what, limit_s, tell=None)
        except WaitedTooLong as error:
            raise ClusterError(f"no answer in {limit_s:g} s{self.log_end()}") from error

    def log_end(self) -> str:
        """Return the last lines of what the jobs printed, for the end of a message."""
        logs: list[Path] = []
        for job in self.ids:
            logs += self.logs.glob(f"{job}_*")
        shown_lines = []
        for path in sorted(logs):
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in lines_of(text) if line[:1].strip()]  # frames of stacks are indented
            shown_lines += [f"\n      {path.name} | {line[:LOG_COLUMNS]}" for line in lines[-LOG_LINES:]]
        if not shown_lines:
            return f"; it wrote no log into {self.logs}"
        return f":{''.join(shown_lines)}"


def skew_s(asked_s: float, node_s: float, seen_s: float) -> float:
    """Return how far a node's clock is ahead at least (behind: negative), if it was read between two times here.

        >>> skew_s(asked_s=100.0, node_s=97.0, seen_s=101.0)
        -3.0

    Args:
        asked_s: time here before the node was asked.
        seen_s: time here after its answer was read.
    """
    return max(0.0, node_s - seen_s) + min(0.0, node_s - asked_s)


def clock_finding(answers: Sequence[NodeState], asked_s: float, seen_s: float) -> Finding:
    """Return whether the nodes' clocks agree with the login node's, within the delay of files."""
    skews = {answer.node: skew_s(asked_s, answer.time_s, seen_s) for answer in answers}
    faults = []
    for node, skew in skews.items():
        if abs(skew) > SKEW_S:
            direction = "ahead" if skew > 0 else "behind"
            faults.append(f"{node} is at least {abs(skew):.1f} s {direction}")
    if faults:
        advice = "have the clocks set by NTP (chronyc tracking): ends of walltimes depend on them"
        return failure("; ".join(faults), advice)
    largest_skew_s = max(abs(skew) for skew in skews.values())
    within_s = max(seen_s - asked_s, largest_skew_s)
    return fine(f"equal to the login node's within {within_s:.1f} s")
