"""Launches of sweeps: read the spec, plan, show, run, report; launched again, a sweep resumes.

Exit codes: 0 all trials finished, 1 some failed, 2 a mistake in the command, 130 interrupted.
Only code that runs trials imports torch and Ray, so `--plan` and `--help` are fast.
"""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hpc.errors import SiteError
from hpc.sites.site import ONE_MACHINE_SITES, find_site, site_files
from results.command_output import Output, prints_page, write
from results.text.page import Part
from sweeps.command_options import AGAIN_OPTION, plan_options, run_options
from sweeps.errors import RunFolderError, SpecError
from sweeps.planning.devices import slurm_site, spec_on_site
from sweeps.planning.plan import (
    NOT_SHARED,
    Plan,
    make_plan,
    no_sharing,
    refuse_missing_files,
    refuse_unfit_networks,
    select_trials,
)
from sweeps.planning.this_machine import check_resources
from sweeps.planning.trial_data import verify_data
from sweeps.spec.spec import EMBEDDED_SPEC, Spec, find_spec, load_spec
from transtailor import cli
from transtailor.errors import FAILED, INTERRUPTED, MISTAKE, SUCCESS, is_of_the_machine
from transtailor.files import is_there, refuse_unwritable
from transtailor.garbage import pause_collection
from transtailor.lines import hanging, lines_of
from transtailor.names import did_you_mean
from transtailor.shell import command, launch_words, rerun
from transtailor.terminal import ignore_closed_stdout, say

if TYPE_CHECKING:
    from results.store.writer import Writer
    from sweeps.run.run_folder import RunFolder
    from sweeps.run.run_lock import RunLock
    from sweeps.run.trial_producer import TrialProducer

FAILURES_SHOWN = 10
RECOMMENDED_QUERY = (
    "SELECT network, dataset, train_images, arm, asked_removed_macs_fraction AS asked, avg(validation_score) AS "
    "validation, avg(test_score) AS test, count(*) AS points FROM points WHERE is_compared GROUP BY ALL ORDER BY ALL "
    "LIMIT 20"
)


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What was typed to plan or run a sweep; `transtailor run --help` describes each option."""

    spec: Path = EMBEDDED_SPEC
    site: str = "local"
    assignments: tuple[str, ...] = ()
    imports: tuple[Path, ...] = ()
    name: str | None = None
    runs: Path = Path("runs")
    cache: Path = Path("cache")
    only: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    extend: bool = False
    update_code: bool = False
    no_sharing: bool = False
    detach: bool = False
    max_disk_gb: float | None = None

    def recorded(self) -> dict[str, Any]:
        """Return what `--retry` needs of this launch, as JSON values for the run's history."""
        return {
            "site": self.site,
            "cache": str(self.cache.resolve()),
            "only": list(self.only),
            "again": list(self.again),
            "no_sharing": self.no_sharing,
            "max_disk_gb": self.max_disk_gb,
        }


def retried(path: Path, typed: Mapping[str, Any]) -> LaunchOptions:
    """Return the options of the last launch of a whole run, which begins from the run's own copy of its spec.

    Launches of chosen trials alone (`--again`) are passed over. This changes to the folder of that launch: the spec
    may name data by relative paths.

    Args:
        path: of the run's folder.
        typed: options that this launch has in their place.

    Raises:
        RunFolderError: no run, other users may have changed it, or version 0.2 began it.
    """
    from sweeps.run.run_folder import RunFolder, check_is_own, open_run, refuse_version_0_2

    run = RunFolder(path.resolve())
    check_is_own(run)
    record = open_run(run)
    refuse_version_0_2(run, record)
    recorded = record.last_launch.get("options", {})
    try:
        disk_gb = recorded["max_disk_gb"]
        options = {
            "spec": run.spec,
            "name": run.name.removesuffix(NOT_SHARED) if recorded["no_sharing"] else run.name,
            "runs": run.path.parent,
            "site": str(recorded["site"]),
            "cache": Path(recorded["cache"]),
            "only": tuple(map(str, recorded["only"])),
            "no_sharing": bool(recorded["no_sharing"]),
            "max_disk_gb": None if disk_gb is None else float(disk_gb),
        }
    except (LookupError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{run.provenance} does not say how the run was launched ({error!r}); to launch it, type: "
            f"{command('run', run.spec, '--runs', run.path.parent, '--name', run.name)}"
        ) from None
    folder = Path(record.last_launch["folder"])
    if folder.is_dir():
        os.chdir(folder)
    return LaunchOptions(**{**options, **typed})


def launch(options: LaunchOptions) -> int:
    """Run a sweep, or continue it; return the exit code. Raises ExplainedError: the user's mistake."""
    try:
        with ignore_closed_stdout():
            plan, producer = _read_plan(options)
            selected = _select_trials(plan, options)
            refuse_missing_files(selected)
            refuse_unfit_networks(selected)
            verify_data(trial.settings for trial in selected.trials)
            if options.site not in ONE_MACHINE_SITES:
                return _run_on_slurm(plan, producer, options)
            return _run(plan, producer, options)
        return INTERRUPTED  # the reader of the standard output has left
    except OSError as error:
        if not is_of_the_machine(error):
            raise
        say(f"{error}; no finished work is lost: fix this, then the same command resumes", to=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        say("interrupted; no finished work is lost: the same command resumes", to=sys.stderr)
        return INTERRUPTED


def planned_page(options: LaunchOptions, typed: Sequence[str]) -> Iterator[Part]:
    """Yield the page that shows the trials and the cost of a sweep; runs and writes nothing.

    Args:
        typed: the launch as it would be typed (as `sys.argv`), for the commands on the page.
    """
    from sweeps.operations.preview import preview

    with pause_collection():  # as in planning: tables of all trials, and no garbage
        plan, _producer = _read_plan(options)
        yield from preview(
            _select_trials(plan, options),
            options.site,
            runs=options.runs,
            cache=options.cache,
            command=typed,
            extend=options.extend,
            update_code=options.update_code,
        )


def job_texts_of(options: LaunchOptions) -> Iterator[str]:
    """Yield the texts of the jobs that a launch would submit, line by line; runs and writes nothing.

    Raises:
        SiteError: trials run on this machine, which has no jobs.
    """
    from sweeps.run.relaunch import this_code_digest
    from sweeps.run.run_folder import RunFolder
    from sweeps.slurm.cluster_run import job_texts

    if options.site in ONE_MACHINE_SITES:
        raise SiteError(f"--script: --site {options.site} is this machine, which runs no jobs; type --site SITE")
    plan, _producer = _read_plan(options)
    run = RunFolder(options.runs / plan.name)
    for title, text in job_texts(run, find_site(options.site), plan.resources, this_code_digest()):
        yield from ("", f"--- {title}", *lines_of(text))


def _read_plan(options: LaunchOptions) -> tuple[Plan, "TrialProducer | None"]:
    """Plan what was asked for, and print the warnings of the plan."""
    check_site(options.site)
    if options.detach and options.site in ONE_MACHINE_SITES:
        raise SpecError(
            "--detach needs a SLURM site (--site); on this machine leave it out, and type the command in tmux"
        )
    if options.max_disk_gb is not None and not 0 < options.max_disk_gb < math.inf:
        raise SpecError(f"--max-disk-gb {options.max_disk_gb:g}: expected more than 0, such as --max-disk-gb 50")
    spec = load_spec(find_spec(options.spec), options.assignments, options.name, options.imports)
    options_that_choose = {"--only": options.only, AGAIN_OPTION: options.again, "--no-sharing": options.no_sharing}
    for option, value in options_that_choose.items():
        if value and spec.adds_trials:
            table = "search" if spec.search is not None else "settle"
            raise SpecError(f"{spec.where} [{table}] chooses the trials, so {option} cannot be used; leave one out")
    plan, producer = plan_on(spec, options.site, options.runs, extend=options.extend)
    if options.site not in ONE_MACHINE_SITES:
        from sweeps.slurm.cluster_run import refuse_what_jobs_lack

        refuse_what_jobs_lack(plan.imports)
    if options.no_sharing:
        plan = no_sharing(plan)
    if options.only:
        plan = select_trials(plan, options.only)
    for text in plan.warnings:
        say(f"warning: {text}", to=sys.stderr)
    return plan, producer


def check_site(name: str) -> None:
    """Raise SiteError unless trials can run there; called first."""
    if name not in ONE_MACHINE_SITES:
        try:
            find_site(name)
        except SiteError as error:
            also = f" ({did_you_mean(name, ONE_MACHINE_SITES)}local and serial are this machine)"
            is_a_file = name.endswith(".toml") or "/" in name or name in site_files()
            raise SiteError(f"--site {name}: {error}{'' if is_a_file else also}") from error


def plan_on(spec: Spec, site: str, runs: Path, *, extend: bool = False) -> tuple[Plan, "TrialProducer | None"]:
    """Plan a spec for a site; of a sweep that adds trials, plan those so far, or those that it begins with.

    Raises:
        UserError: a trial is impossible, or does not fit on the site; the text says what to change.
    """
    check_site(site)
    spec = spec_on_site(spec, slurm_site(site))
    check_resources(spec, site)
    if not spec.adds_trials:
        return make_plan(spec), None
    from sweeps.producer import producer_of
    from sweeps.run.run_folder import RunFolder

    producer = producer_of(spec, RunFolder(runs / spec.name), extend=extend)
    assert producer is not None
    return producer.plan, producer


def _select_trials(plan: Plan, options: LaunchOptions) -> Plan:
    """Return the plan with the trials to run now: those of --again, or all."""
    return select_trials(plan, options.again) if options.again else plan


def _run(plan: Plan, producer: "TrialProducer | None", options: LaunchOptions) -> int:
    from results.store.points import renew_points
    from sweeps.producer import producer_of
    from sweeps.run.relaunch import start

    refuse_unwritable(options.cache, "--cache", RunFolderError)
    refuse_unwritable(options.runs, "--runs", RunFolderError)
    try:
        # A producer adds trials as it goes: a launch that was killed after it had decided has left some to add.
        extend = options.extend or producer is not None
        run, lock, what_was_done = start(
            plan, options.runs, extend=extend, update_code=options.update_code, options=options.recorded()
        )
    except OSError as error:
        raise RunFolderError(f"the run folder cannot be written: {error}; type another --runs") from error
    plan = _select_trials(plan, options)
    with lock:
        say(f"{run.path}: {what_was_done}")
        writer = _writer_of(run)  # before anything is read: from now on no earlier process can write
        if producer is not None:
            producer = producer_of(producer.spec, run)  # another launch may have decided until this one had the number
            assert producer is not None
            plan = producer.plan
        if _has_ended(plan, producer, run.path):
            state = "are finished" if producer is None else "have ended, and no more are added"
            say(f"all {len(plan.trials)} trials {state}")
            renew_points(run.path, say)  # the launch that finished them may have been killed before
        elif not _ran_uninterrupted(plan, run, lock, writer, producer, options):
            return _say_how_to_resume(plan if producer is None else producer.plan, run.path)
        return _finish(plan, producer, run)


def _writer_of(run: "RunFolder") -> "Writer":
    """Return what writes the run's rows. Raises RunFolderError: the disk refuses."""
    from results.store.writer import Writer

    try:
        return Writer(run.tables)
    except OSError as error:
        raise RunFolderError(f"the run folder cannot be written: {error}; make room, or type another --runs") from error


def _run_on_slurm(plan: Plan, producer: "TrialProducer | None", options: LaunchOptions) -> int:
    """Submit the controller, or find a running one; follow it until it has ended, unless --detach is given."""
    from sweeps.operations.attach import follow, submit_or_find
    from sweeps.producer import producer_of
    from sweeps.slurm.cluster_run import Submission

    refuse_unwritable(options.cache, "--cache", RunFolderError)
    refuse_unwritable(options.runs, "--runs", RunFolderError)
    selected = _select_trials(plan, options)
    run = options.runs / plan.name
    if _has_ended(selected, producer, run) and not _has_controller(run):
        return _run(plan, producer, options)  # no trial is left to submit
    try:
        cluster, what_was_done = submit_or_find(
            plan,
            options.runs,
            Submission(cache=options.cache.resolve(), max_disk_gb=options.max_disk_gb, chosen=options.again),
            options.site,
            extend=options.extend or producer is not None,
            update_code=options.update_code,
            options=options.recorded(),
        )
    except OSError as error:
        raise RunFolderError(f"{run} cannot be written: {error}; make room, or type another --runs") from error
    say(f"{cluster.run.path}: {what_was_done}")
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
    if producer is not None:
        producer = producer_of(producer.spec, cluster.run)  # with what the controller has decided
    if outcome.code == INTERRUPTED:
        return _say_how_to_resume(selected if producer is None else producer.plan, cluster.run.path)
    return _finish(selected, producer, cluster.run)


def _has_ended(plan: Plan, producer: "TrialProducer | None", run: Path) -> bool:
    """Whether no trial is left to run; `run` is the run's folder, which may not exist."""
    from results.store.reader import finished_trial_ids

    if producer is not None:
        return producer.has_ended()
    return is_there(run / "tables") and {trial.trial_id for trial in plan.trials} <= finished_trial_ids(run)


def _has_controller(run: Path) -> bool:
    """Whether a controller has a job, which may still write the report."""
    from sweeps.run.run_folder import RunFolder
    from sweeps.slurm.cluster_run import ClusterRun

    cluster = ClusterRun(RunFolder(run))
    return cluster.exists and cluster.controller() is not None


def _ran_uninterrupted(
    plan: Plan,
    run: "RunFolder",
    lock: "RunLock",
    writer: "Writer",
    producer: "TrialProducer | None",
    options: LaunchOptions,
) -> bool:
    """Run the trials that are not finished; return False if interrupted, True also if some have failed."""
    from sweeps.driver.display import display_for_terminal
    from sweeps.driver.driver import SweepSite, run_sweep
    from sweeps.driver.progress_file import ProgressFile

    display = ProgressFile(lock.tell, display_for_terminal())
    site = SweepSite(options.site, max_disk_gb=options.max_disk_gb)
    if producer is not None:
        producer.save(writer)
    try:
        ended = run_sweep(plan, run, options.cache, site, writer=writer, display=display, producer=producer)
        return not ended.interrupted
    except KeyboardInterrupt:  # the second Ctrl-C, which does not wait for a clean stop
        return False


def _say_how_to_resume(plan: Plan, run: Path) -> int:
    from results.store.reader import finished_trial_ids

    finished = len(finished_trial_ids(run) & {trial.trial_id for trial in plan.trials})
    say(f"interrupted: {finished} of {len(plan.trials)} trials are finished, and every finished stage is kept")
    say(f"to resume, type: {rerun(sys.argv)}")
    say(f"to see its state: {command('status', run)}")
    return INTERRUPTED


def _finish(plan: Plan, producer: "TrialProducer | None", run: "RunFolder") -> int:
    """Write the report, name failed trials, print the next commands; the last line is the report's path."""
    from results.questions.costs import bill
    from results.report import write_report
    from results.store.completeness import failed_trials
    from results.store.reader import load, stopped_trial_ids
    from sweeps.operations.status import best_so_far

    if producer is not None:
        plan = producer.plan
    report = write_report(run.path)
    outcome_lines: list[str] = []
    with load(run.path) as rows:
        if producer is not None:
            outcome_lines += producer.outcome_lines(rows)
        planned_ids = {trial.trial_id for trial in plan.trials}
        failed = [trial for trial in failed_trials(rows) if trial["trial_id"] in planned_ids]
        stopped = len(stopped_trial_ids(rows))
        outcome_lines += write(tuple(best_so_far(rows)), Output())
        outcome_lines.append(bill(rows))
        finds_rows = bool(rows.rows("SELECT trial_id FROM compared_points LIMIT 1"))
    for trial in failed[:FAILURES_SHOWN]:
        error = hanging(str(trial["error"]), 8)
        say(f"failed: trial {trial['trial_id']} ({trial['arm']}, seed {trial['seed']}): {error}")
        say(f"        its log: {command('logs', run.path, trial['trial_id'])}")
    if len(failed) > FAILURES_SHOWN:
        say(f"... and {len(failed) - FAILURES_SHOWN} more; {command('status', run.path)}")
    if failed:
        say(f"to try them again, type: {rerun(sys.argv)}")
    for line in outcome_lines:
        say(line)
    finished = len(plan.trials) - len(failed) - stopped
    counts = f"{finished} of {len(plan.trials)} trials finished, {len(failed)} failed"
    if stopped:
        counts += f", {stopped} stopped"
    say(f"{counts}; next:")
    say(f"  {command('status', run.path)}")
    say(f"  {command('report', run.path)}")
    if finds_rows:
        say(f"  {command('query', run.path, RECOMMENDED_QUERY)}")
    say(report)
    return FAILED if failed else SUCCESS


@cli.command(example="demo")
@run_options
def run_command(
    plan: bool,
    retry: bool,
    format: str | None,  # noqa: A002
    wide: bool,
    limit: int | None,
    **options: Any,
) -> Iterator[str] | int:
    """Run the sweep that the TOML file SPEC describes; launched again, it resumes.

    SPEC is a file, or the name of a shipped one, such as demo. The exit code is 0 if all trials finished, 1 if some
    failed, 2 for a mistake in the command, and 130 if it was interrupted.
    """
    launched = LaunchOptions(**options)
    if retry:
        context = click.get_current_context()
        typed = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        run = cli.RUN.convert(launched.spec, None, None)
        launched = retried(run, {name: options[name] for name in typed - {"spec"}})
    if plan:
        return write(planned_page(launched, sys.argv), Output(format, wide, limit))
    return launch(launched)


@cli.command(example="demo")
@plan_options
@cli.option("--script", is_flag=True, help="on SLURM: print only the texts of the jobs, as sbatch would get them")
@prints_page
def plan_command(script: bool, **options: Any) -> Iterator[Part]:
    """Show the trials of the sweep that the TOML file SPEC describes, what they share and what they cost.

    Nothing is run or written. SPEC is a file, or the name of a shipped one, such as demo.
    """
    if script:
        return job_texts_of(LaunchOptions(**options))
    typed = [sys.argv[0], "run", *launch_words(sys.argv)]
    return planned_page(LaunchOptions(**options), typed)
