"""The rows of the table `planned`: every trial that a run is of, so that missing ones are known."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.spec.printed_rows import write_printed


def write_planned(tables: Path, plan: Plan, trials: Iterable[PlannedTrial], code_digest: str) -> None:
    """Write a row for each of these trials of a plan, and the papers' numbers; the last row of a trial counts."""
    from results.store.writer import Writer  # pyarrow takes 0.2 s: not for `--plan` and `--help`

    rows = [
        {
            "sweep": plan.name,
            "trial_id": trial.trial_id,
            "label": trial.label,
            "method": trial.config["method"]["name"],
            "network": trial.config["network"],
            "dataset": trial.config["data"]["name"],
            "train_images": trial.train_images,
            "seed": trial.config["seed"],
            "ranks": plan.resources.ranks,
            "points_planned": len(trial.points),
            "config_json": json.dumps(_resolved(trial), sort_keys=True),
            "stage_keys": [stage.key for stage in trial.stages],
            "code_digest": code_digest,
            **tuning_of(trial),
        }
        for trial in trials
    ]
    Writer(tables).write("planned", rows)
    write_printed(tables, plan.printed, code_digest)


def _resolved(trial: PlannedTrial) -> dict[str, Any]:
    return {**trial.config, "method": {**trial.config["method"], **trial.resolved}}


def tuning_of(trial: PlannedTrial) -> dict[str, str | int | None]:
    """The columns that say which setting of [tuning] a trial has."""
    if trial.tuning is None:
        return {"tuning_json": None, "tuning_order": None}
    return {"tuning_json": json.dumps(trial.tuning.values), "tuning_order": trial.tuning.order}
