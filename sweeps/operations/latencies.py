"""The latency and memory of a run's sub-models on this machine: each is timed once, in a fresh process."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from results.store.reader import load
from results.store.writer import Writer
from sweeps.command_options import cache_option
from sweeps.driver.merging import RunningTables
from sweeps.errors import RunFolderError
from sweeps.operations.reproduce import refuse_file
from sweeps.run.relaunch import this_code_digest
from sweeps.run.run_folder import RecordedTrial, RunFolder, modules_of, open_run
from sweeps.run.run_lock import RunLock, holder_of
from tailor.config.parsing import parse_trial
from tailor.core.errors import Paused
from tailor.execution import plugins
from tailor.saved_model import Timing, timing_options
from transtailor import cli

if TYPE_CHECKING:
    from tailor.model.circumstance import Circumstance
    from tailor.model.latency import Latency
    from tailor.model.state import ModelState
    from tailor.parallel.process_group import ProcessGroup

Returned = TypeVar("Returned")
MEASURE_LIMIT_S = 3600.0  # of one sub-model; if it takes longer, the device is stuck

WAITING = """
SELECT trial_id, any_value(arm) AS arm, list(point ORDER BY point) AS points,
    list(model_key ORDER BY point) AS model_keys
FROM (FROM operating_points QUALIFY row_number() OVER (PARTITION BY model_key ORDER BY trial_id, point) = 1)
WHERE ? OR model_key NOT IN (
    SELECT model_key FROM timings WHERE ({circumstance}) = ({values}))
GROUP BY trial_id ORDER BY trial_id
"""
"""The distinct models, or those not yet timed in a circumstance, each with one trial that reached it."""


def time_models(run: RunFolder, cache: Path, timing: Timing, *, again: bool = False) -> Iterator[str]:
    """Time the sub-models; yield a line for each, then how many were timed, and whether the machine was steady.

    Each is timed in turns with its whole network. Models that were timed in the same circumstance are not timed again,
    unless `again` says so. Nothing is trained: models of which the cache lacks a stage are skipped and counted.

    Raises:
        RunFolderError: the folder is no run, the cache is a file or has none of its sub-models, or a sub-model cannot
            be timed, such as with a batch that does not fit in memory.
        ResultsError: a part of the run is torn.
        ConfigError: no such device, or this code cannot read a trial's settings.

    Writes:
        rows of `timings`, trial by trial: after an interruption the same command resumes.
    """
    from tailor.parallel.process_group import ProcessGroup

    refuse_file(cache)
    record = open_run(run)
    writer = Writer(run.tables)
    digest = this_code_digest()
    if holder_of(run.lock) is not None:
        yield f"warning: {run.path} is running; other work on this machine makes sub-models look slow"
    modules = modules_of(run, record.imports)
    for module in modules:
        plugins.load_copy(module)
    circumstance, device = timing.here()
    ranks = ProcessGroup(rank=0, world_size=1, device=device)
    values = asdict(circumstance)
    sql = WAITING.format(circumstance=", ".join(values), values=", ".join("?" * len(values)))
    with load(run.path) as tables:
        trials = tables.rows(sql, [again, *values.values()])
    timed = 0
    unsteady = 0
    with tempfile.TemporaryDirectory() as folder, _one_process_each() as processes:
        for trial in trials:
            trial_id = trial["trial_id"]
            model_keys = dict(zip(trial["points"], trial["model_keys"], strict=True))
            rows = []
            for point, state in _cached_states(record.trials[trial_id], trial_id, cache, ranks, model_keys):
                programs = _programs(state, circumstance, Path(folder))
                latency = call_in(processes, MEASURE_LIMIT_S, _measure, programs, timing, modules)
                unsteady += not latency.is_steady
                rows.append(_row(latency) | {"model_key": model_keys[point], "code_digest": digest})
                yield f"{trial_id}  {trial['arm']}, point {point}: {_costs(latency)}"
            writer.write("timings", rows)
            timed += len(rows)
    if timed:
        yield from _bring_to_rest(run)
    to_time = sum(len(trial["points"]) for trial in trials)
    if unsteady:
        yield (
            f"warning: {unsteady} of {timed} were not steady, even when timed again (column is_steady): ignore"
            " differences within their quartiles. End other work on this machine, and type the same command"
            " with --again"
        )
    yield from _summary(timed, to_time - timed, cache, circumstance)


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A sub-model and its whole network in folders, and for ONNX Runtime their programs in files."""

    model: Path
    whole: Path
    content: Path | None
    whole_content: Path | None


def _programs(state: "ModelState", circumstance: "Circumstance", folder: Path) -> Programs:
    """Save a sub-model and its whole network; the whole one only once for each network, head and input.

    Programs are written here and not in the process that measures, whose memory they would count to.
    """
    from tailor.model.latency import whole_network
    from tailor.model.passes import onnx_program
    from tailor.model.state import save_model

    def content(of: "ModelState", file: Path) -> Path | None:
        if circumstance.runtime != "onnxruntime":
            return None
        file.write_bytes(onnx_program(of, circumstance.batch))
        return file

    shape = "x".join(map(str, state.input_shape))
    whole = folder / f"{state.network}_{state.classes}_{shape}"
    whole_content = whole / "program.onnx"
    if not whole.exists():
        unpruned = whole_network(state)
        save_model(unpruned, whole)
        content(unpruned, whole_content)
    save_model(state, folder / "model")
    return Programs(
        model=folder / "model",
        whole=whole,
        content=content(state, folder / "model" / "program.onnx"),
        whole_content=whole_content if whole_content.exists() else None,
    )


def _bring_to_rest(run: RunFolder) -> Iterator[str]:
    """Settle the tables and write the points with their latency, as at the end of a launch; a launch does it itself."""
    notes: list[str] = []
    if holder_of(run.lock) is None:
        with suppress(RunFolderError), RunLock(run.lock):  # a launch may have begun just now
            RunningTables(run.path, notes.append).end()
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


def _measure(programs: Programs, timing: Timing, modules: tuple[Path, ...]) -> "Latency":
    """Time the sub-model that is saved in a folder."""
    from tailor.model.latency import measure
    from tailor.model.state import load_state

    for module in modules:
        plugins.load_copy(module)
    state = load_state(programs.model)
    circumstance, device = timing.here()
    return measure(
        state,
        circumstance,
        device=device,
        repeats=timing.repeats,
        whole=load_state(programs.whole),
        content=_read(programs.content),
        whole_content=_read(programs.whole_content),
    )


def _read(file: Path | None) -> bytes | None:
    return None if file is None else file.read_bytes()


def _row(latency: "Latency") -> dict[str, Any]:
    return {
        **asdict(latency.circumstance),
        "repeats": latency.repeats,
        "latency_ms": latency.latency_median_ms,
        "latency_lower_quartile_ms": latency.latency_lower_quartile_ms,
        "latency_upper_quartile_ms": latency.latency_upper_quartile_ms,
        "speed": latency.speed,
        "whole_latency_ms": latency.whole_latency_ms,
        "is_steady": latency.is_steady,
        "peak_memory_bytes": latency.peak_memory_bytes,
    }


def _costs(latency: "Latency") -> str:
    text = f"{latency.latency_median_ms:.4g} ms, {latency.speed:.2f} times as fast as the whole network"
    if latency.peak_memory_bytes is not None:
        text += f", {latency.peak_memory_bytes / 2**20:.1f} MiB"
    return text if latency.is_steady else f"{text}, not steady"


def _summary(timed: int, lost: int, cache: Path, circumstance: "Circumstance") -> Iterator[str]:
    if lost and not timed:
        raise RunFolderError(
            f"{cache} lacks stages of each of the {lost} sub-models that are not timed yet; name the run's cache with"
            " --cache, or launch the run again, which computes what is missing"
        )
    if not timed:
        yield f"nothing to time: no operating points yet, or all their sub-models are timed already in {circumstance}"
        return
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
