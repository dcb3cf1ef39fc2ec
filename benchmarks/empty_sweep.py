"""A sweep of trials that do nothing, for `empty_rank.EmptyRank`."""

import hashlib
from pathlib import Path

from sweeps.plan import Plan, PlannedTrial
from sweeps.provenance import provenance, sources
from sweeps.run_folder import RunFolder, create_run
from sweeps.spec import Resources
from tailor.walk import PlannedStage

NAME = "empty"


def make_run(trials: int, runs: Path) -> tuple[Plan, RunFolder]:
    """A plan of so many trials of one stage each, no two the same, and a new run folder for it in `runs`."""
    plan = Plan(
        name=NAME,
        trials=tuple(_trial(number) for number in range(trials)),
        resources=Resources(),
        spec_text=f'name = "{NAME}"\n',
    )
    code = sources()
    with create_run(plan, runs, provenance(code), code):
        return plan, RunFolder(runs / NAME)


def _trial(number: int) -> PlannedTrial:
    key = hashlib.sha256(str(number).encode()).hexdigest()
    stage = PlannedStage(key=key, kind="empty", version=1, parents=(), work=1.0, stored_bytes=0, point=None)
    config = {"network": "none", "data": {"name": "none", "stage_keys": [key]}, "method": {"name": "none"}, "seed": 0}
    return PlannedTrial(trial_id=f"{number:016x}", label="empty", config=config, stages=(stage,))
