"""The latency and memory of a run's sub-models on this machine: each is timed once, in a fresh process."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from results.store.reader import load
from results.store.writer import Writer
from sweeps.driver.merging import RunningTables
from sweeps.errors import RunFolderError
from sweeps.operations.reproduce import refuse_file
from sweeps.run.relaunch import this_code_digest
from sweeps.run.run_folder import RecordedTrial, RunFolder, modules_of, open_run
from sweeps.run.run_lock import RunLock, holder_of
from tailor.config.parsing import parse_trial
from tailor.core.errors import Paused
from tailor.execution import plugins
from tailor.saved_model import refuse_too_few

if TYPE_CHECKING:
    from tailor.model.latency import Latency
    from tailor.model.state import ModelState
    from tailor.parallel.process_group import ProcessGroup

Returned = TypeVar("Returned")
STEADY_FRACTION = 0.1  # by which a model's time may differ when it is timed again
MEASURE_LIMIT_S = 3600.0  # of one sub-model; if it takes longer, the device is stuck

WAITING = """
SELECT trial_id, any_value(arm) AS arm, list(point ORDER BY point) AS points,
    list(model_key ORDER BY point) AS model_keys
FROM (FROM operating_points QUALIFY row_number() OVER (PARTITION BY model_key ORDER BY trial_id, point) = 1)
WHERE ? OR model_key NOT IN (
    SELECT model_key FROM timings WHERE device_name = ? AND threads = ? AND precision = ? AND batch = ?)
GROUP BY trial_id ORDER BY trial_id
"""
"""The distinct models, or those not yet timed under these conditions, each with one trial that reached it."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How sub-models are timed.

    Raises:
        ConfigError: a number is too small.
    """

    batch: int = 1  # images of a forward pass
    device: str = "auto"  # or cpu, or cuda
    threads: int | None = None  # of the CPU; None: as many as torch takes
    repeats: int = 50
    again: bool = False  # also those that were timed under the same conditions

    def __post_init__(self) -> None:
        refuse_too_few(batch=self.batch, threads=self.threads, repeats=self.repeats)


def time_models(run: RunFolder, cache: Path, how: How) -> Iterator[str]:
    """Time the sub-models; yield a line for each, then how many were timed, and whether the machine was steady.

    Models that were timed under the same conditions (device, threads, precision, batch) are not timed again, unless
    `how` says so. Nothing is trained: models of which the cache lacks a stage are skipped and counted.

    Raises:
        RunFolderError: the folder is no run, the cache is a file or has none of its sub-models, or a sub-model cannot
            be timed, such as with a batch that does not fit in memory.
        ResultsError: a part of the run is torn.
        ConfigError: no such device, or this code cannot read a trial's settings.

    Writes:
        rows of `timings`, trial by trial: after an interruption the same command resumes.
    """
    from tailor.model.state import save_model
    from tailor.parallel.process_group import join

    refuse_file(cache)
    record = open_run(run)
    writer = Writer(run.tables)
    digest = this_code_digest()
    if holder_of(run.lock) is not None:
        yield f"warning: {run.path} is running; other work on this machine makes sub-models look slow"
    modules = modules_of(run, record.imports)
    for module in modules:
        plugins.load_copy(module)
    ranks = join(how.device)
    conditions = _conditions(ranks, how)
    with load(run.path) as tables:
        trials = tables.rows(WAITING, [how.again, *conditions.values()])
    timed = 0
    first: Latency | None = None  # of the sub-model that was timed first, which stays on disk
    with tempfile.TemporaryDirectory() as folder, _one_process_each() as processes:
        for trial in trials:
            trial_id = trial["trial_id"]
            model_keys = dict(zip(trial["points"], trial["model_keys"], strict=True))
            rows = []
            for point, state in _cached_states(record.trials[trial_id], trial_id, cache, ranks, model_keys):
                model_folder = Path(folder) / ("first" if first is None else "other")
                save_model(state, model_folder)
                latency = call_in(processes, MEASURE_LIMIT_S, _measure, model_folder, how, modules)
                if first is None:
                    first = latency
                rows.append(_row(latency) | {"model_key": model_keys[point], "code_digest": digest})
                yield f"{trial_id}  {trial['arm']}, point {point}: {_costs(latency)}"
            writer.write("timings", rows)
            timed += len(rows)
        if first is not None:
            again = call_in(processes, MEASURE_LIMIT_S, _measure, Path(folder) / "first", how, modules)
            yield from _unsteady(first, again)
    if timed:
        yield from _bring_to_rest(run)
    to_time = sum(len(trial["points"]) for trial in trials)
    yield from _summary(timed, to_time - timed, cache, conditions)


def _bring_to_rest(run: RunFolder) -> Iterator[str]:
    """Settle the tables and write the points with their latency, as at the end of a launch; a launch does it itself."""
    notes: list[str] = []
    if holder_of(run.lock) is None:
        with suppress(RunFolderError), RunLock(run.lock):  # a launch may have begun just now
            RunningTables(run.path, notes.append).end()
    yield from notes


def _conditions(ranks: "ProcessGroup", how: How) -> dict[str, Any]:
    """Return the conditions of the timing, as in the table's key."""
    import torch

    from tailor.model.latency import device_name, precision_name

    return {
        "device_name": device_name(ranks.device),
        "threads": torch.get_num_threads() if how.threads is None else how.threads,
        "precision": precision_name(torch.float32, ranks.device),
        "batch": how.batch,
    }


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


def _one_process_each() -> ProcessPoolExecutor:
    """Run one call after the other, each in its own process, so that none reuses memory of another model."""
    context = multiprocessing.get_context("forkserver")
    # Otherwise each process would import torch.
    context.set_forkserver_preload(["sweeps.operations.latencies", "tailor.model.latency"])
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def call_in(processes: ProcessPoolExecutor, limit_s: float, call: Callable[..., Returned], *args: object) -> Returned:
    """Return the result of a call in one of these processes; after `limit_s` they are killed.

    Raises:
        RunFolderError: it took longer, its process ended, or torch refused.
    """
    try:
        return processes.submit(call, *args).result(limit_s)
    except TimeoutError:
        for process in multiprocessing.active_children():  # the pool would wait for it
            process.kill()
        raise RunFolderError(f"a sub-model was not timed within {limit_s:g} s: does its device answer?") from None
    except (RuntimeError, MemoryError) as error:  # torch's, also for memory; or the pool's, if its process has ended
        why = str(error).partition("\n")[0] or "no memory"
        raise RunFolderError(f"a sub-model could not be timed: {why}; give a smaller --batch or --threads") from error


def _measure(folder: Path, how: How, modules: tuple[Path, ...]) -> "Latency":
    """Time the sub-model that is saved in a folder."""
    from tailor.model.latency import measure
    from tailor.model.state import load_state
    from tailor.parallel.process_group import join

    for module in modules:
        plugins.load_copy(module)
    device = join(how.device).device
    return measure(load_state(folder), batch=how.batch, device=device, threads=how.threads, repeats=how.repeats)


def _row(latency: "Latency") -> dict[str, Any]:
    return {
        "device_name": latency.device_name,
        "threads": latency.threads,
        "precision": latency.precision,
        "batch": latency.batch,
        "repeats": latency.repeats,
        "latency_ms": 1e3 * latency.latency_median_s,
        "latency_lower_quartile_ms": 1e3 * latency.latency_lower_quartile_s,
        "latency_upper_quartile_ms": 1e3 * latency.latency_upper_quartile_s,
        "peak_memory_bytes": latency.peak_memory_bytes,
        "torch_version": latency.torch_version,
    }


def _costs(latency: "Latency") -> str:
    text = f"{1e3 * latency.latency_median_s:.4g} ms"
    if latency.peak_memory_bytes is not None:
        text += f", {latency.peak_memory_bytes / 2**20:.1f} MiB"
    return text


def _unsteady(first: "Latency", again: "Latency") -> Iterator[str]:
    """Warn if the first model took another time at the end."""
    before_ms = 1e3 * first.latency_median_s
    after_ms = 1e3 * again.latency_median_s
    if max(before_ms, after_ms) > (1 + STEADY_FRACTION) * min(before_ms, after_ms):
        yield (
            f"warning: this machine is not steady: the first sub-model took {before_ms:.4g} ms, and {after_ms:.4g} ms "
            "when it was timed again at the end. Differences between sub-models that are not larger say nothing. End "
            "other work on this machine, and type the same command with --again"
        )


def _summary(timed: int, lost: int, cache: Path, conditions: Mapping[str, Any]) -> Iterator[str]:
    where = "{device_name}, {threads} CPU thread(s), {precision}, batch {batch}".format_map(conditions)
    if lost and not timed:
        raise RunFolderError(
            f"{cache} lacks stages of each of the {lost} sub-models that are not timed yet; name the run's cache with"
            " --cache, or launch the run again, which computes what is missing"
        )
    if not timed:
        yield f"nothing to time: no operating points yet, or all their sub-models were timed on {where}"
        return
    yield f"{timed} sub-models timed on {where}; see latency_ms and peak_memory_bytes of measured_points"
    if lost:
        yield f"{lost} left out: {cache} lacks some of their stages; launch the run again to compute them"
