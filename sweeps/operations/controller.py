"""The driver of a sweep on SLURM, in the controller's job, together with the Ray head.

    python -m sweeps.operations.controller RUN

Everything it needs is in the run's folder. It may be killed and restarted at any moment: finished work is in the tables
and the cache.
"""

import sys
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.sweep_end import call_on_end
from results.report import write_report
from results.store.writer import TakenOverError, Writer
from sweeps.driver.display import PlainDisplay
from sweeps.driver.driver import SweepSite, run_sweep
from sweeps.driver.progress_file import ProgressFile, read_progress
from sweeps.errors import RunFolderError
from sweeps.planning.devices import spec_on_site
from sweeps.planning.plan import Plan, make_plan, no_sharing, select_trials
from sweeps.producer import producer_of
from sweeps.run.run_folder import RunFolder, check_is_own, modules_of, open_run
from sweeps.run.run_lock import RunLock
from sweeps.run.trial_producer import TrialProducer
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome
from sweeps.spec.spec import load_spec
from tailor.execution.plugins import load_copy
from transtailor.errors import FAILED, INTERRUPTED, MISTAKE, SUCCESS, TRY_AGAIN, UserError
from transtailor.files import write_file
from transtailor.sources import check_code
from transtailor.terminal import say

HOW: dict[int, Literal["finished", "interrupted"]] = {SUCCESS: "finished", INTERRUPTED: "interrupted"}
LOCK_LIMIT_S = 120.0  # a cut-off controller, taken for dead, releases it when it notices


def main() -> int:
    """Run what is not finished, write the outcome into the run's folder, and return the job's exit code."""
    run = RunFolder(Path(sys.argv[1]))
    cluster = ClusterRun(run)
    try:
        check_code()
        check_is_own(run)
        with RunLock(run.lock, patience_s=LOCK_LIMIT_S, is_stopped=cluster.is_stop_asked):
            outcome = _run(run, cluster)
    except TakenOverError as error:  # the other one says how the sweep ends
        say(error)
        return TRY_AGAIN
    except UserError as error:
        code = INTERRUPTED if cluster.is_stop_asked() else MISTAKE
        outcome = RunOutcome(code=code, text=str(error))
    except KeyboardInterrupt:  # a second SIGTERM: SLURM sends one to all processes of a job, and its head another
        return INTERRUPTED
    except Exception:  # noqa: BLE001  # such as a disk or a head that does not respond for a while: not the end of the sweep
        traceback.print_exc()
        return TRY_AGAIN
    say(outcome.text)
    if outcome.code == INTERRUPTED and not cluster.is_stop_asked():
        return INTERRUPTED  # by the job, which will start this process again
    try:
        cluster.set_outcome(outcome)
    except OSError as error:  # the next start finds all trials finished, and writes it
        say(f"the outcome cannot be written: {error}")
        return TRY_AGAIN
    call_on_end(cluster.folder, HOW.get(outcome.code, "failed"))
    return SUCCESS if outcome.code == INTERRUPTED else outcome.code


def _run(run: RunFolder, cluster: ClusterRun) -> RunOutcome:
    writer = Writer(run.tables)  # before anything is read: from now on no earlier process can write
    plan, producer = plan_of(run)
    if producer is not None:
        producer.save(writer)
    submission = cluster.submission
    if submission.chosen:
        plan = select_trials(plan, submission.chosen)
    before = read_progress(run.progress)  # of this launch: it has removed an older one
    display = ProgressFile(partial(write_file, run.progress), PlainDisplay(sys.stdout), before)
    ended = run_sweep(
        plan,
        run,
        submission.cache,
        SweepSite("slurm", max_disk_gb=submission.max_disk_gb),
        writer=writer,
        display=display,
        stop_file=cluster.stop_file,
        producer=producer,
    )
    if producer is not None:
        plan = producer.plan  # with the trials that it has added meanwhile
    if ended.interrupted:
        return RunOutcome(code=INTERRUPTED, text=f"stopped; {ended.finished} of {len(plan.trials)} trials are finished")
    try:
        write_report(run.path)
    except Exception:  # noqa: BLE001  # the trials have ended; running this again would not help
        return RunOutcome(code=MISTAKE, text=f"all trials have ended, but the report failed:\n{traceback.format_exc()}")
    code = FAILED if ended.failed else SUCCESS
    return RunOutcome(code=code, text=f"{ended.finished} of {len(plan.trials)} trials finished, {ended.failed} failed")


def plan_of(run: RunFolder) -> tuple[Plan, TrialProducer | None]:
    """Make the plan of a run again, only from its folder; with what adds trials to it, if anything does.

    Raises:
        RunFolderError: this code makes other trials of the spec, or the spec names other modules than the run has.
        ConfigError: one of its modules was changed.
    """
    record = open_run(run)
    spec = spec_on_site(load_spec(run.spec), ClusterFolder(run.cluster).site())
    modules = modules_of(run, record.imports)
    if {Path(module) for module in spec.imports} != {module.resolve() for module in modules}:
        raise RunFolderError(f"{run.spec} names other modules than {run.plan}: was one of them changed by hand?")
    for module in modules:
        load_copy(module)
    producer = producer_of(spec, run)
    if producer is not None:
        return producer.plan, producer
    plan = make_plan(spec)
    if record.private_cache:
        plan = no_sharing(plan)
    trials = tuple(trial for trial in plan.trials if trial.trial_id in record.trials)  # not all with --only
    if len(trials) < len(record.trials):
        raise RunFolderError(
            f"{run.spec} makes other trials than those in {run.plan}: was one of them changed by hand?"
        )
    return replace(plan, trials=trials), None


if __name__ == "__main__":
    sys.exit(main())
