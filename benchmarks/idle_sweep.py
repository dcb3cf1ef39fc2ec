"""A sweep of trials that only wait, for `idle_rank.IdleRank`."""

import hashlib
from pathlib import Path
from typing import Any

from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.provenance import provenance
from sweeps.run.run_folder import RunFolder, create_run
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.resources import Resources
from tailor.execution.dry_run import PlannedStage
from transtailor.sources import sources

NAME = "idle"


def make_run(trials: int, runs: Path, moments: Path, seconds: float) -> tuple[Plan, RunFolder]:
    """A plan of this many different trials of one stage each, and a new run folder for it in `runs`.

    Each trial waits this many seconds, and notes its moments in the folder `moments`.
    """
    data = {"name": "none", "moments": str(moments), "seconds": seconds}
    plan = Plan(
        name=NAME,
        trials=tuple(_trial(number, data) for number in range(trials)),
        resources=Resources(),
        spec_text=f'name = "{NAME}"\n',
    )
    return plan, new_run(plan, runs)


def new_run(plan: Plan, runs: Path) -> RunFolder:
    """A new folder for a plan in `runs`, with the code as it is."""
    code = sources()
    with create_run(plan, runs, provenance(code), code):
        return RunFolder(runs / plan.name)


def _trial(number: int, data: dict[str, Any]) -> PlannedTrial:
    key = hashlib.sha256(str(number).encode()).hexdigest()
    stage = PlannedStage(key=key, kind="idle", version=1, parents=(), work=1.0, stored_bytes=0, point=None)
    config = {"network": "none", "data": data | {"stage_keys": [key]}, "method": {"name": "none"}, "seed": 0}
    return PlannedTrial(
        trial_id=f"{number:016x}", label="idle", arm="idle", settings=JsonSettings(config), stages=(stage,)
    )
