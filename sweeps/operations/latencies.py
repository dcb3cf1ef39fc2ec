"""The latency and memory of a run's sub-models on this machine: each is timed once, in a fresh process."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.store.points import renew_points
from results.store.projection import project
from results.store.reader import Run, load
from results.store.writer import write_timings
from sweeps.command_options import cache_option
from sweeps.errors import RunFolderError
from sweeps.operations.reproduce import refuse_file
from sweeps.operations.timed_models import SavedModels, Stopwatch, one_process_each
from sweeps.run.relaunch import this_code_digest
from sweeps.run.run_folder import LaunchRecord, RecordedTrial, RunFolder, modules_of, open_run
from sweeps.run.run_lock import holder_of
from tailor.common.errors import Paused
from tailor.config.parsing import parse_trial
from tailor.execution import plugins
from tailor.model.circumstance import Timing
from tailor.saved_model import timing_options
from transtailor import cli
from transtailor.plural import times_as_fast

if TYPE_CHECKING:
    from tailor.model.circumstance import Circumstance
    from tailor.model.latency import Latency
    from tailor.model.state import ModelState
    from tailor.parallel.process_group import ProcessGroup

WAITING = """
SELECT trial_id, list(point ORDER BY point) AS points, list(model_key ORDER BY point) AS model_keys,
    list(arm ORDER BY point) AS arms
FROM (FROM operating_points QUALIFY row_number() OVER (PARTITION BY model_key ORDER BY trial_id, point) = 1)
WHERE ? OR model_key NOT IN (
    SELECT model_key FROM timings WHERE ({circumstance}) = ({values}))
GROUP BY trial_id ORDER BY trial_id
"""
"""The distinct models, or those not yet timed in a circumstance, each with one trial that reached it."""


def time_models(run: RunFolder, cache: Path, timing: Timing, *, again: bool = False) -> Iterator[str]:
    """Time the sub-models; yield a line for each, then how many were timed, and whether the machine was steady.

    Each is timed in turns with its whole network: with ONNX Runtime the file that `model export` would
    write. Its milliseconds are its share of one measurement of that network. Models that were timed in the same
    circumstance are not timed again, unless `again` says so. Nothing is trained: models of which the cache lacks a
    stage are skipped and counted.

    Raises:
        RunFolderError: the folder is no run, the cache is a file or has none of its sub-models, or a sub-model cannot
            be timed, such as with a batch that does not fit in memory.
        ResultsError: a file of the run is torn.
        ConfigError: no such device, or this code cannot read a trial's settings.

    Writes:
        rows of `timings`, trial by trial: after an interruption the same command resumes.
    """
    from tailor.parallel.process_group import ProcessGroup

    refuse_file(cache)
    record = _open_to_write(run)
    digest = this_code_digest()
    if holder_of(run.lock) is not None:
        yield f"warning: {run.path} is running; other work on this machine makes sub-models look slow"
    modules = modules_of(run, record.imports)
    for module in modules:
        plugins.load_copy(module)
    circumstance, device = timing.here()
    ranks = ProcessGroup(rank=0, world_size=1, device=device)
    with load(run.path) as tables:
        trials = _waiting(tables, circumstance, again=again)
        wholes = {  # key of a model -> its whole network: the name, and the MACs with the target's head
            row["model_key"]: (row["network"], row["original_macs"]) for row in tables.rows("FROM operating_points")
        }
        known_ms = {} if again else _known_references(tables, circumstance)
    timed = 0
    unsteady = 0
    with tempfile.TemporaryDirectory() as folder, one_process_each() as processes:
        saved = SavedModels(Path(folder), circumstance)
        stopwatch = Stopwatch(processes=processes, timing=timing, modules=modules)
        for trial in trials:
            trial_id = trial["trial_id"]
            model_keys = dict(zip(trial["points"], trial["model_keys"], strict=True))
            arms = dict(zip(trial["points"], trial["arms"], strict=True))  # a path may begin with another arm's point
            rows = []
            for point, state in _cached_states(record.trials[trial_id], trial_id, cache, ranks, model_keys):
                programs = saved.sub_model(state)
                whole = wholes[model_keys[point]]
                if whole not in known_ms:
                    known_ms[whole] = stopwatch.latency(saved.whole(state)).latency_ms
                reference_ms = known_ms[whole]
                latency = stopwatch.latency(programs)
                unsteady += not latency.is_steady
                row = _row(latency, reference_ms)
                rows.append(row | {"model_key": model_keys[point], "code_digest": digest})
                yield f"{trial_id}  {arms[point]}, point {point}: {_costs(latency, reference_ms)}"
            write_timings(run.tables, rows)
            timed += len(rows)
    if timed:
        yield from _write_points(run)
    to_time = sum(len(trial["points"]) for trial in trials)
    yield from _summary(timed, unsteady, to_time - timed, cache, circumstance)


def _open_to_write(run: RunFolder) -> LaunchRecord:
    """Open a run. Raises PermissionError, before anything is timed, if the times could not be written."""
    record = open_run(run)
    if not os.access(run.path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run.path))
    return record


def _waiting(tables: Run, circumstance: "Circumstance", *, again: bool) -> list[dict[str, Any]]:
    """Return the trials with models to time: `trial_id`, `points`, and their `model_keys` and `arms`."""
    values = asdict(circumstance)
    sql = WAITING.format(circumstance=", ".join(values), values=", ".join("?" * len(values)))
    return tables.rows(sql, [again, *values.values()])


def _known_references(tables: Run, circumstance: "Circumstance") -> dict[tuple[str, int], float]:
    """Return the milliseconds of the whole networks that were measured in this circumstance."""
    values = asdict(circumstance)
    sql = (
        f"SELECT DISTINCT network, original_macs, reference_latency_ms AS ms FROM latencies WHERE ({', '.join(values)})"
    )
    rows = tables.rows(f"{sql} = ({', '.join('?' * len(values))})", [*values.values()])
    return {(row["network"], row["original_macs"]): row["ms"] for row in rows}


def _write_points(run: RunFolder) -> Iterator[str]:
    """Write the points with their latency, as at the end of a launch; one that is running does it itself."""
    notes: list[str] = []
    if holder_of(run.lock) is None:
        renew_points(run.path, notes.append)
    yield from notes


def _cached_states(
    trial: RecordedTrial, trial_id: str, cache: Path, ranks: "ProcessGroup", model_keys: Mapping[int, str]
) -> "Iterator[tuple[int, ModelState]]":
    """Yield number and state of those points of a trial (number -> key of the model) whose stages the cache has."""
    from tailor.execution.cache import Cache
    from tailor.execution.runner import Result, run_trial

    config = parse_trial(trial.settings.values, f"trial {trial_id}")
    try:
        for event in run_trial(config, cache=Cache(cache), ranks=ranks, pause=lambda: True):
            model = event.result.stage.of
            if event.point is not None and isinstance(model, Result) and model_keys.get(event.point) == model.key:
                yield event.point, model.model_state()
            if event.point == max(model_keys):
                return
    except Paused:  # raised before the first stage that would have to be computed
        return


def _row(latency: "Latency", reference_ms: float) -> dict[str, Any]:
    row = project("timings", latency=latency, circumstance=latency.circumstance)
    return row | {"reference_latency_ms": reference_ms, "widths": "as pruned"}


def _costs(latency: "Latency", reference_ms: float) -> str:
    assert latency.speed is not None
    text = f"{reference_ms / latency.speed:.4g} ms, {times_as_fast(latency.speed)}"
    if latency.peak_memory_bytes is not None:
        text += f", {latency.peak_memory_bytes / 2**20:.1f} MiB"
    return text if latency.is_steady else f"{text}, not steady"


def _summary(timed: int, unsteady: int, lost: int, cache: Path, circumstance: "Circumstance") -> Iterator[str]:
    if lost and not timed:
        raise RunFolderError(
            f"{cache} lacks stages of each of the {lost} sub-models that are not timed yet; name the run's cache with"
            " --cache, or launch the run again, which computes what is missing"
        )
    if not timed:
        yield f"nothing to time: no operating points yet, or all their sub-models are timed already in {circumstance}"
        return
    if unsteady:
        yield (
            f"warning: {unsteady} of {timed} were not steady, even when timed again (column is_steady): ignore"
            " differences within their quartiles. End other work on this machine, and type the same command"
            " with --again"
        )
    yield f"{timed} sub-models timed in {circumstance}; see latency_ms, speed and peak_memory_bytes of measured_points"
    if lost:
        yield f"{lost} left out: {cache} lacks some of their stages; launch the run again to compute them"


@cli.command(example="runs/demo")
@cli.run_argument
@cache_option
@timing_options
@cli.option("--again", is_flag=True, help="time again what was timed in the same circumstance")
def time_command(run: Path, cache: Path, again: bool, **timing: Any) -> Iterator[str]:
    """Measure latency and memory of each sub-model of a run on this machine, alternating with its whole network."""
    return time_models(RunFolder(run), cache, Timing(**timing), again=again)
