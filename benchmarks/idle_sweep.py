"""A sweep of trials that do nothing, on ranks that are `idle_rank.IdleRank`."""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

from benchmarks.record import show_to_ranks
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.provenance import provenance
from sweeps.run.run_folder import RunFolder, create_run
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.resources import Resources
from tailor.execution.dry_run import PlannedStage
from transtailor.sources import sources

NAME = "idle"


def make_run(trials: int, runs: Path, moments: Path, stages: int = 1, predictions: int = 0) -> tuple[Plan, RunFolder]:
    """A plan of this many different trials of so many stages each, and a new run folder for it in `runs`.

    Each trial notes its moments in the folder `moments`.
    """
    data = {"name": "none", "moments": str(moments), "predictions": predictions}
    plan = Plan(
        name=NAME,
        trials=tuple(_trial(number, data, stages) for number in range(trials)),
        resources=Resources(),
        spec_text=f'name = "{NAME}"\n',
    )
    code = sources()
    with create_run(plan, runs, provenance(code), code):
        return plan, RunFolder(runs / plan.name)


def run_ours(trials: int, slots: int, folder: Path, stages: int = 1, predictions: int = 0) -> float:
    """Run such a sweep as `sweeps.driver.driver.run_sweep` on the site "local", with its tables; return wall seconds.

    Raises:
        RuntimeError: a trial did not finish.
    """
    from sweeps.driver.display import PlainDisplay
    from tests.sweeps.other_ranks import sweep_with_ranks

    plan, run = make_run(trials, folder / "runs", folder, stages, predictions)
    show_to_ranks()
    display = PlainDisplay(io.StringIO())
    start_s = time.perf_counter()
    outcome = sweep_with_ranks(
        "benchmarks.idle_rank:IdleRank", plan, run, folder / "cache", display=display, site="local", slots=slots
    )
    wall_s = time.perf_counter() - start_s
    if outcome.finished != trials:
        raise RuntimeError(f"{outcome.finished} of {trials} trials finished: {outcome}")
    return wall_s


def _trial(number: int, data: dict[str, Any], stages: int) -> PlannedTrial:
    keys = [hashlib.sha256(f"{number} {stage}".encode()).hexdigest() for stage in range(stages)]
    planned = tuple(
        PlannedStage(key=key, kind="idle", version=1, parents=(), work=1.0, stored_bytes=0, point=None) for key in keys
    )
    config = {
        "network": "none", "data": data | {"stage_keys": keys}, "method": {"name": "none"}, "seed": 0,
        "protocol": "validation",
    }  # fmt: skip
    return PlannedTrial(
        trial_id=f"{number:016x}", label="idle", arm="idle", settings=JsonSettings(config), stages=planned,
        train_images=1,
    )  # fmt: skip
