"""One trial on its ranks: tailor's events in, rows out. Lives in each rank process, trial after trial."""

import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.store.writer import Writer
from sweeps.run.run_folder import RunFolder, log_line
from sweeps.worker.trial_rows import TrialRows
from tailor.config.trial import TrialConfig
from tailor.core import heartbeat
from tailor.core.errors import Paused
from tailor.core.torch_private import import_compiler
from tailor.execution import plugins
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import ProcessGroup, join, leave

WATCHED_TIMEOUT_S = 30 * 86_400.0  # of a collective: whoever watches over the ranks finds out before which one hangs
TABLES_OF_A_TRIAL = ("stages", "epochs", "layers", "kept_filters", "operating_points", "predictions", "estimates")


class Superseded(Exception):  # noqa: N818  # an event
    """The trial was given to somebody else, while these ranks were out of reach and taken for dead."""


class TrialRank:
    """One rank of the trials that run in its process; all ranks get the same calls in the same order.

    Rank 0 alone writes rows and the trial's log; whatever it has returned from `advance` for an operating point is
    durable.
    """

    def __init__(self) -> None:
        import_compiler()  # which took over 20 s on a busy machine: here nobody waits for signs of life yet
        self._ranks: ProcessGroup | None = None  # joined with the first trial, which says on which device
        self._is_paused = False
        self._events: Iterator[StageEvent] = iter(())
        self._rows: TrialRows | None = None
        self._task: dict[str, Any] = {}
        self._log: logging.Handler | None = None

    def begin(self, task: dict[str, Any]) -> None:
        """Take up a trial; it goes on after its last finished stage, and inside a stage from its checkpoint."""
        self._end_log()
        self._task = task
        self._is_paused = False
        for module in task["imports"]:
            plugins.load_copy(Path(module))
        self._ranks = self._ranks or join(task["device"], WATCHED_TIMEOUT_S)
        config = TrialConfig.model_validate(task["config"])
        folder = RunFolder(Path(task["run"])).trial(task["trial_id"])
        cache = _private_cache(folder) if task["private_cache"] else Path(task["cache"])
        self._events = run_trial(
            config,
            cache=Cache(cache),
            ranks=self._ranks,
            checkpoint_folder=folder / "checkpoint",
            pause=lambda: self._is_paused,
        )
        if self._ranks.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin_log(folder / "log.jsonl")
            self._rows = TrialRows(task, config)
            logging.getLogger(__name__).info("trial begins")

    def advance(self) -> dict[str, Any] | None:
        """Run to the end of the next stage; what it was, or None when the trial is over and its rows are durable.

        After `pause` it is {"paused": True}: the trial is where it can go on elsewhere.
        """
        try:
            event = next(self._events, None)
        except Paused:
            return {"paused": True}
        if event is None:
            self._finish()
            return None
        if self._rows is not None:
            logging.getLogger(__name__).info(_in_words(event))
            self._rows.add(event)
            if event.point is not None:
                self._write()
        return _summary(event)

    def pause(self) -> None:
        """Let the running stage write a checkpoint and come to an end; called from another thread."""
        self._is_paused = True

    def sign(self) -> tuple[int, float, str]:
        """The values of this rank's newest `hpc.ranks.ranks.Sign`; called from another thread."""
        return heartbeat.latest()

    def close(self) -> None:
        """Leave the process group."""
        self._end_log()
        leave()

    def _write(self) -> None:
        assert self._rows is not None
        run = RunFolder(Path(self._task["run"]))
        if run.holder(self._task["trial_id"]).read_text() != self._task["holder"]:
            raise Superseded(f"trial {self._task['trial_id']} was given to other ranks meanwhile: these write no rows")
        writer = Writer(run.tables)
        rows = self._rows.take()
        for table in TABLES_OF_A_TRIAL:  # operating_points after the layers and before what was predicted there
            writer.write(table, rows[table])

    def _finish(self) -> None:
        if self._rows is None:
            return
        self._write()
        logging.getLogger(__name__).info("trial is over")
        folder = RunFolder(Path(self._task["run"])).trial(self._task["trial_id"])
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        if self._task["private_cache"]:
            shutil.rmtree(_private_cache(folder), ignore_errors=True)

    def _begin_log(self, path: Path) -> None:
        self._log = logging.FileHandler(path)
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


class _JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        return log_line(datetime.fromtimestamp(record.created, UTC), record.levelname, record.getMessage())


def _in_words(event: StageEvent) -> str:
    """A stage that has ended, and the score of an operating point."""
    result = event.result
    how = "from the cache" if result.cached else f"{result.description['made_by']['compute_s']:.2f} s"
    text = f"stage {event.order}: {result.stage.kind}, {how}"
    if event.point is None:
        return text
    metric, score = result.info["metric"].replace("_", " "), result.info["validation_score"]
    removed = 1.0 - result.info["macs"] / result.info["original_macs"]
    return f"{text}; point {event.point}: {removed:.1%} of the MACs removed, validation {metric} {score:.4f}"


def _private_cache(folder: Path) -> Path:
    return folder / "private_cache"


def _summary(event: StageEvent) -> dict[str, Any]:
    result = event.result
    point = None
    if event.point is not None:
        point = {
            "point": event.point,
            "metric": result.info["metric"],
            "validation_score": result.info["validation_score"],
            "macs": result.info["macs"],
        }
    return {
        "stage_key": result.key,
        "kind": result.stage.kind,
        "cached": result.cached,
        "seconds": float(result.description["made_by"]["compute_s"]),
        "point": point,
    }
