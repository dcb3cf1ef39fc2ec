"""A large sweep on a cluster whose nodes fail, on a simulated clock: duration, utilisation, and lost work.

    python benchmarks/simulation.py            # about three minutes
    python benchmarks/simulation.py --quick    # a tenth of the trials on a tenth of the nodes

Trials, their trees of stages and the order are those that a launch would have; which trial comes next and how many
workers there are is decided by the functions that the driver calls. Only the clock is simulated.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.record import RESULTS, Cell, Measured, verdict, write
from benchmarks.simulate import simulate
from benchmarks.simulated_cluster import SimulatedCluster, SimulationResult
from hpc.cluster.autoscaler import ScalingLimits
from sweeps.planning.plan import Plan, make_plan, no_sharing
from sweeps.scheduling.timed import TimedTrial, join_stages
from sweeps.spec.spec import load_spec

TRIALS, NODES = 10_000, 200
GOAL_UTILISATION = 0.95
FINE_TUNING_S = 1800.0  # of a whole network: by this all planned work is turned into seconds
SPEC = """
name = "simulated"
[axes]
network = ["digits_vgg", "digits_resnet"]
seed = {seeds}
[[variants]]
method = {{ name = "transtailor", steps = 5 }}
[[variants]]
method = {{ name = "pac_net" }}
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "l2", "taylor", "random"]
axes.method.removed_macs_fraction = [0.1, 0.2, 0.3, 0.4]
[[variants]]
method = {{ name = "prune", criterion = "taylor", steps = 5, removed_macs_fraction = 0.5 }}
"""
TRIALS_PER_SEED = 40
LIMITS = ScalingLimits(
    max_workers=NODES,
    walltime_s=4 * 3600,
    drain_before_s=90,
    successor_lead_s=900,
    idle_s=120,
    start_limit_s=600,
)
CLUSTER = SimulatedCluster(
    start_s=30,
    mean_queue_wait_s=600,
    mean_time_to_failure_s=200 * 3600,
    noticed_after_s=15,
    trial_start_s=5,
    seed=1,
)
CHECKPOINT_EVERY_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print and write the table; 1 if a trial is left over."""
    parser = argparse.ArgumentParser(description="a large sweep on a cluster whose nodes fail, on a simulated clock")
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials on a tenth of the nodes")
    parser.add_argument("--out", type=Path, default=RESULTS / "simulation", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    scale = 10 if options.quick else 1
    plan = plan_of(TRIALS // scale)
    limits = replace(LIMITS, max_workers=NODES // scale)
    stored = replace(CLUSTER, checkpoint_every_s=CHECKPOINT_EVERY_S)
    calm = replace(stored, mean_time_to_failure_s=math.inf, mean_queue_wait_s=0.0)
    shared, alone = timed_trials(plan), timed_trials(no_sharing(plan))
    schedules = {
        "sharing, checkpoints": simulate(shared, limits, stored),
        "sharing, no checkpoints inside stages": simulate(shared, limits, CLUSTER),
        "no sharing, checkpoints": simulate(alone, limits, stored),
        "no sharing, no checkpoints inside stages": simulate(alone, limits, CLUSTER),
        "sharing, no failures, no queue": simulate(shared, limits, calm),
    }
    measured = Measured(
        title=f"{len(plan.trials):,} trials on {limits.max_workers} nodes that fail, simulated",
        columns=COLUMNS,
        rows=tuple(row(name, schedule) for name, schedule in schedules.items()),
        notes=NOTES,
    )
    write(measured, options.out)
    return int(any(schedule.unfinished for schedule in schedules.values()))


def plan_of(trials: int) -> Plan:
    """A plan of this many trials: a paper's methods, budgets and criteria, and many seeds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.toml"
        path.write_text(SPEC.format(seeds=list(range(math.ceil(trials / TRIALS_PER_SEED)))))
        return make_plan(load_spec(path))


def timed_trials(plan: Plan) -> list[TimedTrial]:
    """The plan's trials, whose stages take their planned work at the speed of a fine-tuning of FINE_TUNING_S."""
    tunings = (stage for trial in plan.trials for stage in trial.stages if stage.kind == "fine_tune")
    s_per_work = FINE_TUNING_S / max(stage.work for stage in tunings)
    return join_stages(
        [
            (
                trial.trial_id,
                [
                    (
                        f"{trial.trial_id}/{stage.key}" if plan.private_cache else stage.key,
                        stage.work,
                        stage.work * s_per_work,
                    )
                    for stage in trial.stages
                ],
            )
            for trial in plan.trials
        ]
    )


COLUMNS = (
    "what", "trials", "makespan_h", "at_least_h", "critical_path_h", "utilisation", "lost_node_h", "lost_fraction",
    "failures", "workers", "limited_by", "utilisation_goal",
)  # fmt: skip


def row(name: str, schedule: SimulationResult) -> tuple[Cell, ...]:
    """A row of the table."""
    at_least_s = max(schedule.critical_path_s, schedule.work_s / schedule.slots)
    return (
        name,
        schedule.trials,
        schedule.makespan_s / 3600,
        at_least_s / 3600,
        schedule.critical_path_s / 3600,
        schedule.utilisation,
        schedule.lost_s / 3600,
        schedule.lost_s / schedule.in_stages_s,
        schedule.failures,
        schedule.workers,
        schedule.limited_by,
        verdict(schedule.utilisation >= GOAL_UTILISATION),
    )


HOURS = {"fails": CLUSTER.mean_time_to_failure_s / 3600, "walltime": LIMITS.walltime_s / 3600}
NOTES = (
    f"Nodes fail after {HOURS['fails']:.0f} h on average, noticed {CLUSTER.noticed_after_s:.0f} s later; a job waits "
    f"{CLUSTER.mean_queue_wait_s / 60:.0f} min in the queue on average (both exponential), starts in "
    f"{CLUSTER.start_s:.0f} s, ends after {HOURS['walltime']:.0f} h and is drained {LIMITS.drain_before_s:.0f} s "
    f"before. An attempt takes {CLUSTER.trial_start_s:.0f} s in addition to its stages. One trial at a time on a node.",
    "Trees of stages and planned work are those of TransTailor, PAC-Net, pruning by four criteria to four budgets, "
    "iterative pruning and fine-tuning on two networks; a fine-tuning of the larger network takes "
    f"{FINE_TUNING_S / 60:.0f} min, all other stages in proportion.",
    f"Checkpoints: every {CHECKPOINT_EVERY_S:.0f} s inside a stage, and when a node drains. Without: an interrupted "
    "stage begins again; finished stages are kept in both.",
    "utilisation: node-seconds in stages / node-seconds of jobs from start to end. lost: computed again.",
    "at_least: the larger of critical path and all work on all nodes without a pause. limited_by: where most of the "
    "node-seconds until the end went: computing (slots), waiting for jobs (queue), or having nothing that may start "
    "(critical path).",
    "No sharing: every distinct operating point as a trial of its own from the start, as `--no-sharing` plans it.",
)


if __name__ == "__main__":
    sys.exit(main())
