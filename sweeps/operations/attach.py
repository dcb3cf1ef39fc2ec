"""A sweep on SLURM from the login node: submit it once, follow it from any number of terminals."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc.errors import SlurmError
from hpc.sites.site import find_site
from hpc.slurm.jobs import BY_SLURM, JobState, QueuedJob, ends_before
from hpc.slurm.script import QUEUED_AGAIN
from sweeps.driver.display import Display, display_for_terminal
from sweeps.driver.progress_file import Seen, read_progress
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan
from sweeps.run.relaunch import check_may_resume, difference, is_other_spec, start, this_code_digest
from sweeps.run.run_folder import RunFolder, check_is_own, open_run
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome, Submission, job_texts
from transtailor.lines import lines_of
from transtailor.shell import command
from transtailor.waiting import Unlimited, WaitedTooLong, wait_for

POLL_S = 1.0
LOOK_EVERY_S = 30.0  # calls of squeue
GONE_LIMIT_S = 90.0  # a file in a shared folder may become visible late: above `CACHED_S`
LOG_LINES = 20
RUNS = Unlimited("SLURM queue, then as long as the trials take")


def submit_or_find(
    plan: Plan,
    runs: Path,
    submission: Submission,
    site_name: str,
    *,
    extend: bool,
    update_code: bool,
    options: Mapping[str, Any],
) -> tuple[ClusterRun, str]:
    """Submit a run to SLURM unless it is running there; return it, and what was done as a message.

    Args:
        submission: where finished stages are, and which trials to run.
        site_name: or the file of the site.
        extend, update_code, options: see `start`.

    Raises:
        SiteError, SlurmError: no such site, or it refuses the job.
        RunFolderError: the run cannot be resumed, or a change was requested while it is running.
    """
    site = find_site(site_name)
    run = RunFolder(runs / plan.name)
    digest = this_code_digest()
    job_texts(run, site, plan.resources, digest)  # refuses resources that the site does not have
    cluster = ClusterRun(run)
    controller = cluster.controller() if cluster.exists else None
    if controller is not None:
        check_is_own(run)
        record = open_run(run)
        check_may_resume(run, record, plan, digest, extend=extend, update_code=update_code)
        if submission.chosen or (plan.grows is None and difference(record, plan)):
            raise RunFolderError(
                f"{run.path} is running in job {controller.id}, which accepts no more trials; wait, or stop it first, "
                f"type: {command('stop', run.path)}"
            )
        message = f"is running in job {controller.id} ({job_text(controller)}); attached"
        of_run = cluster.submission
        is_other = {
            "spec": is_other_spec(run, plan), "site": cluster.folder.site() != site,
            "--cache": of_run.cache != submission.cache, "--max-disk-gb": of_run.max_disk_gb != submission.max_disk_gb,
        }  # fmt: skip
        old = " and ".join(name for name, other in is_other.items() if other)
        if old:
            message += f", with its old {old}: to apply the new, stop it and launch again"
        return cluster, message
    run, lock, what_was_done = start(plan, runs, extend=extend, update_code=update_code, options=options, for_jobs=True)
    with lock:
        cluster = ClusterRun(run)
        job_id = cluster.submit(site, submission)
    return cluster, f"{what_was_done}; submitted as job {job_id}"


def follow(cluster: ClusterRun, display: Display | None = None) -> RunOutcome:
    """Show the progress of the sweep until it has ended; return its outcome.

    Raises:
        RunFolderError: its controller ended without an outcome; the text has the end of its log.
        KeyboardInterrupt: the user detached; the sweep continues.
    """
    display = display or display_for_terminal()
    looked_s = time.monotonic()
    notes_shown = 0
    last_note = ""
    seen: Seen | None = None

    def find_outcome() -> RunOutcome | None:
        """Show what is new, and return the outcome once there is one."""
        nonlocal looked_s, notes_shown, seen, last_note
        outcome = cluster.outcome
        if outcome is not None:
            return outcome
        seen = read_progress(cluster.run.progress) or seen
        if seen is not None:
            new_notes = seen.noted - notes_shown
            if new_notes > 0:
                for text in seen.notes[len(seen.notes) - new_notes :]:
                    display.note(text)
            notes_shown = seen.noted
            display.show(seen.progress)
        if time.monotonic() - looked_s > LOOK_EVERY_S:
            looked_s = time.monotonic()
            last_note = _check_controller(cluster, display, last_note, is_silent=seen is not None)
        return None

    try:
        return wait_for(find_outcome, "the end of the sweep", RUNS, poll_s=POLL_S, tell=None)
    finally:  # also when the user detaches: what is said next begins a line
        if seen is not None:
            display.close(seen.progress)


def _check_controller(cluster: ClusterRun, display: Display, last_note: str, *, is_silent: bool) -> str:
    """Raise RunFolderError if the controller is gone; show why it waits, until the sweep runs. Return the last note."""
    try:
        job = cluster.controller()
    except SlurmError as error:
        display.note(str(error))
        return last_note
    if job is None:
        with suppress(WaitedTooLong):
            wait_for(lambda: cluster.outcome, "the outcome of the controller", GONE_LIMIT_S, poll_s=POLL_S)
        if cluster.outcome is None and cluster.controller() is None:
            state = cluster.controller_end()
            text = f"{cluster.run.path}: {end_text(cluster, state)}; launch again to resume"
            tail = "" if state.state in BY_SLURM else log_tail(cluster)  # killed processes print no cause
            raise RunFolderError(f"{text}. The log ends:\n{tail}" if tail else text)
        return last_note
    text = f"job {job.id}: {controller_text(cluster, job)}"
    if (not is_silent or job.state.state != "RUNNING") and text != last_note:
        display.note(text)
    return text


def job_text(job: QueuedJob) -> str:
    """Say where a job runs, or why it waits."""
    if job.state.state == "RUNNING":
        return f"running on {job.nodes}"
    return f"{job.state.state.lower()}: {job.state.explanation}"


def controller_text(cluster: ClusterRun, job: QueuedJob) -> str:
    """Say where the controller's job runs, or why it waits; if it has run before, why that ended."""
    outputs = [] if job.state.state == "RUNNING" else cluster.folder.outputs(job.id)
    for path in outputs:
        lines = lines_of(path.read_text(errors="replace"))
        if path.suffix == ".out" and lines and QUEUED_AGAIN in lines[-1]:  # else it does not say why
            return f"{job_text(job)}; before, it said: {lines[-1]}"
    ends = ends_before(job.id, cluster.folder.site().cluster) if outputs else []
    return f"{job_text(job)}; before, it ended: {ends[-1].end}" if ends else job_text(job)


def end_text(cluster: ClusterRun, state: JobState) -> str:
    """Say how the controller's job ended, of which there is no outcome, and where its log is."""
    text = f"its controller, job {cluster.submission.job}, ended without an outcome: {state.end}"
    if log_tail(cluster):
        return f"{text}; its log is in {cluster.folder.logs}"
    before = "setup, scratch_folder and container of the site come before it, or the disk is full"
    return f"{text}; its log in {cluster.folder.logs} is empty: {before}"


def log_tail(cluster: ClusterRun) -> str:
    """Return the last lines of what the controller's job has printed, of its output and of its errors; "": none."""
    lines: list[str] = []
    for path in cluster.folder.outputs(cluster.submission.job or "*")[-2:]:
        tail = lines_of(path.read_text(errors="replace"))[-LOG_LINES:]
        lines += [f"== {path}", *tail] if tail else []
    return "\n".join(lines)
