"""One trial on its ranks: runs its stages and reports them. Each rank has one object for all of its trials."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hpc.environment import missing_cores
from hpc.ranks.ranks import Heartbeat
from sweeps.run.run_folder import RunFolder, log_line
from sweeps.worker.messages import StageReport, TrialReport, TrialTask
from tailor.common import heartbeat
from tailor.common.errors import Paused
from tailor.common.heap import give_back_freed_memory, keep_freed_memory
from tailor.common.torch_private import import_compiler
from tailor.data.scores import import_libraries
from tailor.execution import plugins
from tailor.execution.cache import Cache
from tailor.execution.runner import MadeFor, StageEvent, run_trial
from tailor.parallel.process_group import ProcessGroup, join, leave
from transtailor.files import sync

WATCHED_TIMEOUT_S = 30 * 86_400.0  # of a collective: the watchdog of the ranks finds a rank that hangs much earlier
SYNC_EVERY_S = 2.0  # of the log
TOGETHER_S = 0.5  # stages that take less together are reported in one message


class TrialRank:
    """One rank of the trials that run in its process; all ranks get the same calls in the same order.

    Only rank 0 writes the trial's log. The driver makes the rows of what is reported, from the files of the stages.
    """

    def __init__(self) -> None:
        import_compiler()  # up to 20 s on a busy machine: here the watchdog does not expect signs of life yet
        import_libraries()
        keep_freed_memory()
        self._ranks: ProcessGroup | None = None  # joined with the first trial, which names the device
        self._is_paused = False
        self._events: Iterator[StageEvent] = iter(())
        # Network, data set and kind of stage -> the longest such stage in any trial of this process.
        self._longest_s: dict[tuple[str, str, str], float] = {}
        self._task: TrialTask | None = None
        self._log: logging.Handler | None = None

    def begin(self, task_json: str) -> None:
        """Take up a `TrialTask`; it resumes after its last finished stage, and inside a stage from its checkpoint."""
        self._end_log()
        self._events = iter(())  # the trial before, with its model
        give_back_freed_memory()
        task = TrialTask.from_json(task_json)
        self._task = task
        self._is_paused = False
        for module in task.imports:
            plugins.load_copy(module)
        if self._ranks is None:
            self._ranks = join(task.device, WATCHED_TIMEOUT_S)
        config = task.settings.parse()
        run = RunFolder(task.run)
        self._events = run_trial(
            config,
            cache=Cache(run.private_cache(task.trial_id) if task.private_cache else task.cache),
            ranks=self._ranks,
            checkpoint_folder=run.checkpoint(task.trial_id),
            pause=lambda: self._is_paused,
            rung=task.rung,
            made_for=MadeFor(trial_id=task.trial_id, run=task.run_id),
        )
        if self._ranks.rank == 0:
            self._begin_log(run.begin_log(task.trial_id))
            log = logging.getLogger(__name__)
            log.info("trial begins")
            fault = missing_cores(os.environ, len(os.sched_getaffinity(0)))
            if fault is not None:
                log.warning(fault)

    def advance(self) -> str:
        """Run to the end of the next stage, and of those behind it that are short; return a `TrialReport`.

        A message costs as much as a short stage. Stages are short if the longest of their kind, of one network and data
        set, that these ranks have met leaves the answer below `TOGETHER_S`. All ranks decide alike: the seconds are
        those that the stage's description has.

        After a pause other ranks can resume the trial.
        """
        reports: list[StageReport] = []
        try:
            for event in self._events:
                self._note(event)
                reports.append(_report(event))
                if event.next_kind is not None and not self._is_short(reports, event.next_kind):
                    return TrialReport(kind="stage", stages=tuple(reports)).to_json()
        except Paused:
            return TrialReport(kind="moved", stages=tuple(reports), cause="a node of its ranks will end").to_json()
        assert self._task is not None
        rung = self._task.rung
        logging.getLogger(__name__).info("trial is over" if rung is None else f"trial rests after {rung}")
        return TrialReport(kind="finished", stages=tuple(reports)).to_json()

    def pause(self) -> None:
        """Let the running stage write a checkpoint and end; called from another thread."""
        self._is_paused = True

    def heartbeat(self) -> Heartbeat:
        """Return this rank's newest heartbeat; called from another thread."""
        number, done_fraction, words = heartbeat.latest()
        return Heartbeat(number=number, done_fraction=done_fraction, words=words)

    def close(self) -> None:
        """Leave the process group."""
        self._end_log()
        leave()

    def _note(self, event: StageEvent) -> None:
        """Keep how long the stage took, and log it on rank 0, the only one with a log."""
        seconds = event.result.description.made_by.compute_s
        label = self._stage_label(event.result.stage.kind)
        self._longest_s[label] = max(seconds, self._longest_s.get(label, 0.0))
        logging.getLogger(__name__).info(_log_text(event))

    def _is_short(self, reports: list[StageReport], next_kind: str) -> bool:
        """Whether the next stage can be reported together with these."""
        passed_s = sum(0.0 if stage.cached else stage.seconds for stage in reports)
        next_s = self._longest_s.get(self._stage_label(next_kind), TOGETHER_S)
        return passed_s + next_s < TOGETHER_S

    def _stage_label(self, kind: str) -> tuple[str, str, str]:
        assert self._task is not None
        return self._task.settings.network, self._task.settings.dataset, kind

    def _begin_log(self, path: Path) -> None:
        self._log = _SyncedLog(path)
        self._log.setFormatter(_JsonLines())
        for name in ("tailor", __name__):
            logging.getLogger(name).addHandler(self._log)
            logging.getLogger(name).setLevel(logging.INFO)

    def _end_log(self) -> None:
        if self._log is not None:
            for name in ("tailor", __name__):
                logging.getLogger(name).removeHandler(self._log)
            self._log.close()
            self._log = None


class _SyncedLog(logging.FileHandler):
    """A log that other machines see soon: a client of NFS may keep what is written to an open file for 30 s."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._syncing: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; it is synced a moment later, with those that come meanwhile."""
        super().emit(record)
        if self._syncing is None:
            self._syncing = threading.Timer(SYNC_EVERY_S, self._sync)
            self._syncing.daemon = True
            self._syncing.start()

    def _sync(self) -> None:
        self._syncing = None
        with suppress(OSError):  # a full disk is reported elsewhere
            sync(Path(self.baseFilename))


class _JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        return log_line(datetime.fromtimestamp(record.created, UTC), record.levelname, record.getMessage())


def _log_text(event: StageEvent) -> str:
    """Describe a finished stage for the log, with the score of an operating point."""
    result = event.result
    how = "from the cache" if result.cached else f"{result.description.made_by.compute_s:.2f} s"
    text = f"stage {event.order}: {result.stage.kind}, {how}"
    if event.point is None:
        return text
    return f"{text}; point {event.point}: {result.point_facts()}"


def _report(event: StageEvent) -> StageReport:
    """Return what the driver needs of a finished stage."""
    result = event.result
    return StageReport(
        stage_key=result.key,
        order=event.order,
        cached=result.cached,
        seconds=result.description.made_by.compute_s,
        point=event.point,
        validation_score=result.info.get("validation_score"),
    )
