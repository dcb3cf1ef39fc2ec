"""The command that runs a sweep: read the spec, plan, show, run, report; launched again, it resumes.

    python sweeps/launch.py                                   # the embedded sweep, on this machine
    python sweeps/launch.py my.toml --plan                    # show trials and cost; run and write nothing
    python sweeps/launch.py my.toml --set trial.optimisation.epochs=5 --set 'axes.seed=[0,1]' --name quick

Exit codes: 0 all trials finished, 1 some failed, 2 a mistake in the command, 130 interrupted.
Only code that runs trials imports torch and Ray, so `--plan` and `--help` are fast.
"""

import transtailor.start  # noqa: F401  # first: it looks whether the rooms are ours  # isort: skip
import argparse
import errno
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.errors import ClusterError, SiteError, SlurmError
from hpc.sites.site import find_site
from results.cli.output import add_output, write
from sweeps.errors import RunFolderError, SpecError
from sweeps.planning.devices import slurm_site, spec_on_site
from sweeps.planning.plan import (
    Plan,
    make_plan,
    no_sharing,
    refuse_missing_weights,
    refuse_unfit_networks,
    select_trials,
)
from sweeps.planning.this_machine import ONE_MACHINE_SITES, check_resources
from sweeps.spec.spec import EMBEDDED_SPEC, Spec, find_spec, load_spec
from transtailor.errors import FAILED, INTERRUPTED, MISTAKE, SUCCESS, UserError
from transtailor.files import refuse_unwritable
from transtailor.garbage import pause_collection
from transtailor.names import did_you_mean
from transtailor.shell import command, rerun
from transtailor.terminal import ignore_closed_stdout, say

if TYPE_CHECKING:
    from sweeps.run.run_folder import RunFolder
    from sweeps.run.run_lock import RunLock
    from sweeps.search.run_search import RunSearch

AGAIN_OPTION = "--again"
FAILURES_SHOWN = 10
RECOMMENDED_QUERY = (
    "SELECT network, arm, avg(validation_score) AS validation, avg(test_score) AS test, count(*) AS points "
    "FROM measured_points GROUP BY ALL ORDER BY ALL LIMIT 10"
)
MACHINE_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)


def main(arguments: Sequence[str] | None = None, prog: str = "python sweeps/launch.py") -> int:
    """Run the command and return the exit code; `prog`: what was typed before the arguments."""
    options = parser(prog).parse_args(arguments)
    try:
        with ignore_closed_stdout():
            return _launch(options)
        return SUCCESS if options.plan else INTERRUPTED  # the reader of the standard output has left
    except (UserError, SlurmError, ClusterError, PermissionError) as error:
        say(error, to=sys.stderr)
        return MISTAKE
    except OSError as error:
        if error.errno not in MACHINE_REFUSES:
            raise
        say(f"{error}; no finished work is lost: fix this, then the same command resumes", to=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        say("interrupted; no finished work is lost: the same command resumes", to=sys.stderr)
        return INTERRUPTED


def _launch(options: argparse.Namespace) -> int:
    plan, search = _plan_launch(options)
    for text in plan.warnings:
        say(f"warning: {text}", to=sys.stderr)
    if options.plan:
        return _show(_select_trials(plan, options), options)
    selected = _select_trials(plan, options)
    refuse_missing_weights(selected)
    refuse_unfit_networks(selected)
    if options.site not in ONE_MACHINE_SITES:
        return _run_on_slurm(plan, search, options)
    return _run(plan, search, options)


def parser(prog: str = "python sweeps/launch.py") -> argparse.ArgumentParser:
    """Build the parser of the options; `prog`: what is typed before them."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Run a sweep; launched again, it resumes.", allow_abbrev=False
    )
    parser.add_argument(
        "spec",
        nargs="?",
        type=Path,
        default=EMBEDDED_SPEC,
        help="TOML file, or the name of a shipped one, such as demo (default)",
    )
    parser.add_argument(
        "--site", default="local",
        help="where trials run: local = Ray on this machine, serial = one after the other without Ray, or the name "
        "or file of a SLURM site (transtailor sites)",
    )  # fmt: skip
    parser.add_argument(
        "--detach", action="store_true", help="on SLURM: submit and return; the same command attaches again"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="change the spec: trial.optimisation.epochs=3, axes.seed=[0,1], resources.ranks=1 (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--import", action="append", default=[], type=Path, metavar="FILE", dest="imports",
        help="a module of your own with a method, criterion, network, data set, ... (repeatable)",
    )  # fmt: skip
    parser.add_argument("--name", help="name of the sweep and its run folder, instead of the spec's")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders (default: runs)")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder of finished stages (default: cache)")
    parser.add_argument(
        "--only", metavar="TRIAL", help="run only this trial (id, or first digits); give it its own run with --name"
    )
    parser.add_argument(
        AGAIN_OPTION, action="append", default=[], metavar="TRIAL",
        help="run only these trials of an existing run now (repeatable; transtailor retry RUN TRIAL...)",
    )  # fmt: skip
    parser.add_argument(
        "--max-disk-gb", type=float, metavar="GB", help="start no trial while the cache is nearly this large"
    )
    parser.add_argument("--plan", action="store_true", help="show trials and cost; run and write nothing")
    add_output(parser)
    parser.add_argument(
        "--extend", action="store_true", help="add trials to a run; all its old trials must still be in the spec"
    )
    parser.add_argument("--update-code", action="store_true", help="continue a run although the code has changed")
    parser.add_argument(
        "--no-sharing", action="store_true",
        help="each operating point as a trial of its own from the start, to measure what sharing saves",
    )  # fmt: skip
    return parser


def check_site(name: str) -> None:
    """Raise SiteError unless trials can run there; called first."""
    if name not in ONE_MACHINE_SITES:
        try:
            find_site(name)
        except SiteError as error:
            also = f"{did_you_mean(name, ONE_MACHINE_SITES)}local and serial are this machine"
            raise SiteError(f"--site {name}: {error} ({also})") from error


def _plan_launch(options: argparse.Namespace) -> tuple[Plan, "RunSearch | None"]:
    check_site(options.site)
    if options.detach and options.site in ONE_MACHINE_SITES:
        raise SpecError(
            "--detach needs a SLURM site (--site); on this machine leave it out, and type the command in tmux"
        )
    if options.max_disk_gb is not None and not 0 < options.max_disk_gb < math.inf:
        raise SpecError(f"--max-disk-gb {options.max_disk_gb:g}: expected more than 0, such as --max-disk-gb 50")
    spec = load_spec(find_spec(options.spec), options.assignments, options.name, options.imports)
    spec = spec_on_site(spec, slurm_site(options.site))
    check_resources(spec, options.site)
    if spec.search is not None:
        return _plan_search(spec, options)
    plan = make_plan(spec)
    plan = no_sharing(plan) if options.no_sharing else plan  # first: its trials have ids of their own
    return (plan if options.only is None else select_trials(plan, [options.only])), None


def _plan_search(spec: Spec, options: argparse.Namespace) -> tuple[Plan, "RunSearch"]:
    """Return the trials that the search has chosen so far, or chooses first."""
    from sweeps.run.run_folder import RunFolder
    from sweeps.search.run_search import RunSearch

    for option, value in (
        ("--only", options.only),
        (AGAIN_OPTION, options.again),
        ("--no-sharing", options.no_sharing),
    ):
        if value:
            raise SpecError(f"{spec.where} [search] chooses the trials, so {option} cannot be used; leave one out")
    search = RunSearch(spec, RunFolder(options.runs / spec.name), extend=options.extend)
    return search.plan, search


def _select_trials(plan: Plan, options: argparse.Namespace) -> Plan:
    """Return the plan with the trials to run now: those of --again, or all."""
    return select_trials(plan, options.again) if options.again else plan


@pause_collection()  # as in planning: tables of all trials, and no garbage
def _show(plan: Plan, options: argparse.Namespace) -> int:
    from sweeps.commands.preview import preview

    page = preview(
        plan,
        options.site,
        runs=options.runs,
        cache=options.cache,
        command=sys.argv,
        extend=options.extend,
        update_code=options.update_code,
    )
    for line in write(page, options):
        say(line)
    return SUCCESS


def _run(plan: Plan, search: "RunSearch | None", options: argparse.Namespace) -> int:
    from sweeps.driver.merging import merge_meanwhile
    from sweeps.run.relaunch import start
    from sweeps.search.run_search import RunSearch

    refuse_unwritable(options.cache, "--cache", RunFolderError)
    refuse_unwritable(options.runs, "--runs", RunFolderError)
    try:
        extend = options.extend or search is not None  # a launch was killed before the run had the new trials
        run, lock, what = start(plan, options.runs, extend=extend, update_code=options.update_code)
    except OSError as error:
        raise RunFolderError(f"the run folder cannot be written: {error}; type another --runs") from error
    plan = _select_trials(plan, options)
    with lock:
        say(f"{run.path}: {what}")
        if search is not None and what != "created":
            search = RunSearch(search.spec, run)  # another launch may have proposed until this one had the lock
            plan = search.plan
        if _has_ended(plan, search, run.path):
            with merge_meanwhile(run.path, say):  # what the launch that finished them has left
                what = "are finished" if search is None else "have ended, and the search proposes no more"
                say(f"all {len(plan.trials)} trials {what}")
        elif not _run_unfinished(plan, run, lock, search, options):
            return _say_how_to_resume(plan if search is None else search.plan, run.path)
        return _finish(plan, search, run)


def _run_on_slurm(plan: Plan, search: "RunSearch | None", options: argparse.Namespace) -> int:
    """Submit the controller, or find a running one; follow it until it has ended, unless --detach is given."""
    from sweeps.commands.attach import follow, submit_or_find
    from sweeps.search.run_search import RunSearch
    from sweeps.slurm.cluster_run import Submission

    refuse_unwritable(options.cache, "--cache", RunFolderError)
    refuse_unwritable(options.runs, "--runs", RunFolderError)
    chosen = _select_trials(plan, options)
    if _has_ended(chosen, search, options.runs / plan.name) and not _has_controller(options.runs / plan.name):
        return _run(plan, search, options)  # no trial is left to submit
    cluster, what = submit_or_find(
        plan,
        options.runs,
        Submission(cache=options.cache.resolve(), max_disk_gb=options.max_disk_gb, chosen=tuple(options.again)),
        options.site,
        extend=options.extend or search is not None,
        update_code=options.update_code,
    )
    say(f"{cluster.run.path}: {what}")
    stop = command("stop", cluster.run.path)
    if options.detach and cluster.outcome is None:
        say(f"it continues without this command; to see its state: {command('status', cluster.run.path)}")
        say(f"to stop it: {stop}")
        return SUCCESS
    try:
        outcome = follow(cluster)
    except KeyboardInterrupt:
        say("detached: the sweep continues; the same command attaches again")
        say(f"to stop it: {stop}")
        return INTERRUPTED
    if outcome.code == MISTAKE:
        say(outcome.text, to=sys.stderr)
        return MISTAKE
    search = search and RunSearch(search.spec, cluster.run)  # with what the controller has proposed
    if outcome.code == INTERRUPTED:
        return _say_how_to_resume(chosen if search is None else search.plan, cluster.run.path)
    return _finish(chosen, search, cluster.run)


def _has_ended(plan: Plan, search: "RunSearch | None", run: Path) -> bool:
    from results.store.reader import finished_trial_ids

    if search is not None:
        return search.has_ended()
    return run.is_dir() and {trial.trial_id for trial in plan.trials} <= finished_trial_ids(run)


def _has_controller(run: Path) -> bool:
    """Whether a controller has a job, which may still write the report."""
    from sweeps.run.run_folder import RunFolder
    from sweeps.slurm.cluster_run import ClusterRun

    cluster = ClusterRun(RunFolder(run))
    return cluster.exists and cluster.controller() is not None


def _run_unfinished(
    plan: Plan, run: "RunFolder", lock: "RunLock", search: "RunSearch | None", options: argparse.Namespace
) -> bool:
    """Run the trials that are not finished; return False if interrupted."""
    from sweeps.driver.display import display_for_terminal
    from sweeps.driver.driver import SweepSite, run_sweep
    from sweeps.driver.progress_file import ProgressFile

    display = ProgressFile(lock.tell, display_for_terminal())
    site = SweepSite(options.site, max_disk_gb=options.max_disk_gb)
    if search is not None:
        search.save()
    try:
        ended = run_sweep(plan, run, options.cache, site, display=display, search=search)
        return not ended.interrupted
    except KeyboardInterrupt:  # the second Ctrl-C, which does not wait for a clean stop
        return False


def _say_how_to_resume(plan: Plan, run: Path) -> int:
    from results.store.reader import finished_trial_ids

    done = len(finished_trial_ids(run) & {trial.trial_id for trial in plan.trials})
    say(f"interrupted: {done} of {len(plan.trials)} trials are finished, and every finished stage is kept")
    say(f"to resume, type: {rerun(sys.argv)}")
    say(f"to see its state: {command('status', run)}")
    return INTERRUPTED


def _finish(plan: Plan, search: "RunSearch | None", run: "RunFolder") -> int:
    """Write the report, name failed trials, print the next commands; the last line is the report's path."""
    from results.analysis.rungs import rung_predictions
    from results.report import write_report
    from results.store.completeness import failed_trials
    from results.store.reader import load, stopped_trial_ids
    from sweeps.search.outcome import outcome_lines

    plan = plan if search is None else search.plan
    report = write_report(run.path)
    with load(run.path) as rows:
        confirmed = (
            [] if search is None else [*map(str, rung_predictions(rows)), *outcome_lines(search.proposals, rows)]
        )
        planned = {trial.trial_id for trial in plan.trials}
        failed = [trial for trial in failed_trials(rows) if trial["trial_id"] in planned]
        stopped = len(stopped_trial_ids(rows))
    for trial in failed[:FAILURES_SHOWN]:
        say(f"failed: trial {trial['trial_id']} ({trial['arm']}, seed {trial['seed']}): {trial['error']}")
        say(f"        its log: {run.log(trial['trial_id'])}")
    if len(failed) > FAILURES_SHOWN:
        say(f"... and {len(failed) - FAILURES_SHOWN} more; {command('status', run.path)}")
    if failed:
        say(f"to try them again, type: {rerun(sys.argv)}")
    for line in confirmed:
        say(line)
    done = f"{len(plan.trials) - len(failed) - stopped} of {len(plan.trials)} trials finished, {len(failed)} failed"
    say(f"{done}{f', {stopped} stopped' if stopped else ''}; next:")
    for words in (("status",), ("report",), ("query", RECOMMENDED_QUERY)):
        say(f"  {command(words[0], run.path, *words[1:])}")
    say(report)
    return FAILED if failed else SUCCESS
