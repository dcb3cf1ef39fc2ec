"""Runs of a spec with [settle] whose trials end with made-up scores, without any training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results.store.schema import TABLES
from results.store.writer import Writer
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder, create_run
from sweeps.settle.run_settle import RunSettle
from sweeps.spec.spec import Spec, spec_of
from tests.results import exact_run

IMAGES = exact_run.IMAGES
Right = Callable[[PlannedTrial, float | None], int | None]
"""How many of the test images a trial names rightly at a budget; None: it fails."""


@dataclass(frozen=True, kw_only=True)
class EndedTrial(exact_run.Trial):
    """A planned trial that has ended."""

    planned: PlannedTrial

    @property
    def trial_id(self) -> str:
        return self.planned.trial_id

    @property
    def point_keys(self) -> Sequence[tuple[str, str]]:
        return [(stage.key, stage.parents[0]) for stage in self.planned.points]


def settled_spec(more_variants: Sequence[Mapping[str, Any]] = (), **changes: Any) -> Spec:
    """A spec of four arms on digits and these; `changes` are of its table [settle]."""
    settle = {"against": "fine_tune", "at": [0.2, 0.4], "matters": 0.05, "looks": [10, 14, 20]} | changes
    variants = [
        {"method": {"name": "fine_tune"}},
        {"method": {"name": "head_only"}},
        {"method": {"name": "transtailor", "steps": 4}},
        {"method": {"name": "prune", "criterion": "l1"}, "axes": {"method.asked_removed_macs_fraction": [0.2, 0.4]}},
        *more_variants,
    ]
    return spec_of({"name": "made", "settle": settle, "variants": variants}, "made.toml")


def begin(spec: Spec, folder: Path) -> RunFolder:
    """Creates the run, as a launch does."""
    return create(RunSettle(spec, RunFolder(folder / spec.name)).plan, folder)


def create(plan: Plan, folder: Path) -> RunFolder:
    """Creates the run of a plan, without any trial."""
    launch = {"code_digest": "c0de" * 16, "packages": {}, "command": "x", "folder": "x"}
    create_run(plan, folder, launch, {}).release()
    return RunFolder(folder / plan.name)


def end_trials(run: RunFolder, trials: Iterable[PlannedTrial], right: Right) -> None:
    """Writes the rows of trials that end with these scores."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        counts = [right(trial, stage.asked_removed_macs_fraction) for stage in trial.points]
        is_finished = None not in counts
        ended = EndedTrial(
            planned=trial, label=trial.label, arm=trial.arm, seed=trial.settings.seed, network=trial.settings.network,
            method=trial.settings.method, train_images=trial.train_images or 0,
            epochs=3 if trial.arm in ("transtailor", "fine_tune long") else 1,
            asked=[stage.asked_removed_macs_fraction for stage in trial.points],
            right=[count or 0 for count in counts], ended="finished" if is_finished else "failed",
        )  # fmt: skip
        for table, of_trial in exact_run._rows(ended, range(IMAGES)).items():
            rows.setdefault(table, []).extend(of_trial)
    writer = Writer(run.tables)
    for table in ("trials", "stages", "operating_points", "predictions"):
        names = {column.name for column in TABLES[table].columns}
        writer.write(table, [{key: row[key] for key in row if key in names} for row in rows.get(table, [])])


def settle(spec: Spec, run: RunFolder, right: Right) -> RunSettle:
    """Runs the sweep to its end: all trials of a look end, then the next ones are asked for, by a launch of its own."""
    producer = RunSettle(spec, run)
    trials = producer.plan.trials
    while trials:
        end_trials(run, trials, right)
        producer = RunSettle(spec, run)
        producer.save(Writer(run.tables))
        trials = producer.more({}, ())
    return producer


def scores(effects: Mapping[str, float], deviation: float = 2.0, failing: Iterable[tuple[str, int]] = ()) -> Right:
    """Scores of arms that differ by these points from 70 of 100, with noise of each arm and seed."""
    fails = set(failing)

    def right(trial: PlannedTrial, asked: float | None) -> int | None:
        seed = trial.settings.seed
        if (trial.arm, seed) in fails:
            return None
        arm = trial.arm if asked else trial.arm_of(0)  # a head's fit scores alike in all trials that begin with it
        numbers = np.random.default_rng([seed, *arm.encode(), round(100 * (asked or 0))])
        return round(70 + effects.get(arm, 0.0) + numbers.normal(0, deviation))

    return right
