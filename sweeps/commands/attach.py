"""A sweep on SLURM from the login node: submitted once, followed by whoever looks, from any number of terminals."""

import time
from contextlib import suppress
from pathlib import Path

from hpc.errors import SlurmError
from hpc.sites.site import find_site
from hpc.slurm.jobs import QueuedJob
from sweeps.driver.display import Display, display_for_terminal
from sweeps.driver.progress_file import Seen, read_progress
from sweeps.errors import RunFolderError
from sweeps.planning.plan import Plan
from sweeps.run.relaunch import check_may_resume, start, this_code_digest
from sweeps.run.run_folder import RunFolder, check_is_own, open_run
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome, Submission, job_texts
from transtailor.shell import command
from transtailor.waiting import Unlimited, WaitedTooLong, wait_for

POLL_S = 1.0
LOOK_EVERY_S = 30.0  # calls of squeue
GONE_LIMIT_S = 30.0  # a file on a shared folder may be seen a while after it was written
LOG_LINES = 20
RUNS = Unlimited("SLURM queue, and as long as the trials take")


def submit_or_find(
    plan: Plan,
    runs: Path,
    submission: Submission,
    site_name: str,
    *,
    extend: bool,
    update_code: bool,
) -> tuple[ClusterRun, str]:
    """The run on SLURM, and what was done, in words: submitted, or found running.

    Args:
        plan: of the whole sweep.
        runs: the folder of all runs.
        submission: where finished stages are, and which trials to run.
        site_name: or the file of the site.
        extend, update_code: see `start`.

    Raises:
        SiteError, SlurmError: there is no such site, or it gives no job.
        RunFolderError: the run may not be gone on with; or a change was asked for while it is being run.
    """
    site = find_site(site_name)
    run = RunFolder(runs / plan.name)
    digest = this_code_digest()
    job_texts(run, site, plan.resources, digest)  # refuses what the site cannot give
    cluster = ClusterRun(run)
    if cluster.exists and (job := cluster.controller()) is not None:
        check_is_own(run)
        check_may_resume(run, open_run(run), plan, digest, extend=False, update_code=update_code)
        if submission.chosen:
            raise RunFolderError(
                f"{run.path} is being run by job {job.id}, which takes no more trials; wait, or end it first, "
                f"type: {command('stop', run.path)}"
            )
        return cluster, f"is being run by job {job.id} ({job_text(job)}); attached"
    run, lock, what = start(plan, runs, extend=extend, update_code=update_code)
    with lock:
        cluster = ClusterRun(run)
        job_id = cluster.submit(site, submission)
    return cluster, f"{what}; submitted as job {job_id}"


def follow(cluster: ClusterRun, display: Display | None = None) -> RunOutcome:
    """Shows how the sweep stands until it has ended; how it did.

    Raises:
        RunFolderError: its controller has ended without an outcome; the text has the end of its log.
        KeyboardInterrupt: the user has seen enough; the sweep goes on.
    """
    display = display or display_for_terminal()
    looked_s, noted, said = time.monotonic(), 0, ""
    seen: Seen | None = None

    def ended() -> RunOutcome | None:
        nonlocal looked_s, noted, seen, said
        if (outcome := cluster.outcome) is not None:
            return outcome
        seen = read_progress(cluster.run.progress) or seen
        if seen is not None:
            for text in seen.notes[len(seen.notes) - (seen.noted - noted) :] if seen.noted > noted else ():
                display.note(text)
            noted = seen.noted
            display.show(seen.progress)
        if time.monotonic() - looked_s > LOOK_EVERY_S:
            looked_s = time.monotonic()
            said = _look(cluster, display, said, is_silent=seen is not None)
        return None

    outcome = wait_for(ended, "the end of the sweep", RUNS, poll_s=POLL_S, tell=None)
    if seen is not None:
        display.close(seen.progress)
    return outcome


def _look(cluster: ClusterRun, display: Display, said: str, *, is_silent: bool) -> str:
    """Makes sure that there is a controller; says why it waits, as long as nothing runs."""
    try:
        job = cluster.controller()
    except SlurmError as error:
        display.note(str(error))
        return said
    if job is None:
        with suppress(WaitedTooLong):
            wait_for(lambda: cluster.outcome, "the last word of the controller", GONE_LIMIT_S, poll_s=POLL_S)
        if cluster.outcome is None and cluster.controller() is None:
            raise RunFolderError(
                f"the controller of {cluster.run.path} has ended without a message; launch again to resume. "
                f"Its log ends:\n{log_tail(cluster)}"
            )
        return said
    text = f"job {job.id}: {job_text(job)}"
    if not is_silent and text != said:
        display.note(text)
    return text


def job_text(job: QueuedJob) -> str:
    """Where a job runs, or why it waits, in plain words."""
    if job.state.state == "RUNNING":
        return f"running on {job.nodes}"
    return f"{job.state.state.lower()}: {job.state.explanation}"


def log_tail(cluster: ClusterRun, lines: int = LOG_LINES) -> str:
    """The last lines of the controller's log."""
    logs = cluster.folder.outputs(cluster.submission.job or "*")
    return "\n".join(logs[-1].read_text(errors="replace").splitlines()[-lines:]) if logs else "(it has none)"
