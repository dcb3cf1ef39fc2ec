"""Control a run from any terminal: stop it, read its logs."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.slurm.jobs import QueuedJob
from sweeps.errors import RunFolderError
from sweeps.operations.attach import controller_text, job_text
from sweeps.operations.known_trials import find_trial
from sweeps.run.run_folder import RunFolder, check_is_own, open_run
from sweeps.run.run_lock import holder_of
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome
from transtailor import cli
from transtailor.documents import DocumentError, read_json
from transtailor.errors import INTERRUPTED
from transtailor.files import list_there
from transtailor.lines import lines_of
from transtailor.plural import counted
from transtailor.shell import command
from transtailor.sources import ROOT
from transtailor.waiting import KILL_LIMIT_S, Unlimited, WaitedTooLong, wait_for

LAUNCHER = ROOT / "sweeps" / "launch.py"
STOP_LIMIT_S = 60.0  # to interrupt stages, release nodes and write files
POLL_S = 1.0
LOOK_EVERY_S = 5.0
LOGS_SHOWN = 10  # of a run
# Tells processes that follow a run that it has ended.
ENDED_BY_USER = RunOutcome(code=INTERRUPTED, text="it was ended before its driver had an outcome")
FOLLOWED = Unlimited("until the sweep is no longer running, or Ctrl-C")


def stop(run: RunFolder, limit_s: float = STOP_LIMIT_S) -> Iterator[str]:
    """End a run cleanly; finished stages are kept, and launching it again resumes it. Yield lines to print.

    Raises:
        RunFolderError: no run, or it runs on another machine and must be stopped there.
        SlurmError: SLURM does not answer.
    """
    open_run(run)
    check_is_own(run)  # or it would say which processes and jobs of yours are ended
    cluster = ClusterRun(run)
    jobs = cluster.jobs() if cluster.exists else []
    if not jobs:
        yield _stop_here(run, limit_s)
        return
    if cluster.is_controller(jobs[0]) and jobs[0].state.state == "RUNNING":
        cluster.stop_file.touch()
        yield f"asked job {jobs[0].id} to stop"

        def has_ended() -> bool:
            jobs_now = cluster.jobs()
            return not jobs_now or _later_controller(cluster, jobs, jobs_now) is not None

        if not _wait(has_ended, limit_s):
            yield f"it has not ended after {limit_s:g} s; perhaps a stage or a node does not respond"
    later_id = _later_controller(cluster, jobs, cluster.jobs())
    if later_id is not None:
        yield f"{run.path} was launched again as job {later_id}, which is not stopped; to stop it too, type this again"
        return
    yield from cancel(run)
    cluster.set_outcome(ENDED_BY_USER)  # also if its job has ended by itself, without an outcome


def _later_controller(
    cluster: ClusterRun, jobs_before: Sequence[QueuedJob], jobs_now: Sequence[QueuedJob]
) -> str | None:
    """Return the id of a controller that a launch has submitted meanwhile; None if there is none."""
    ids_before = {job.id for job in jobs_before}
    for job in jobs_now:
        if cluster.is_controller(job) and job.id not in ids_before:
            return job.id
    return None


def cancel(run: RunFolder, limit_s: float = STOP_LIMIT_S) -> Iterator[str]:
    """End all jobs of a run at once, and no others; launching it again resumes it. Yield lines to print.

    Raises:
        RunFolderError: no run, or it was not launched on SLURM.
        SlurmError: SLURM does not answer.
    """
    open_run(run)
    check_is_own(run)  # or it would say which processes and jobs of yours are ended
    cluster = ClusterRun(run)
    if not cluster.exists:
        raise RunFolderError(f"{run.path} has no jobs: it was not launched on SLURM; type: {command('stop', run.path)}")
    ids = [job.id for job in cluster.jobs()]
    if ids:
        cluster.cancel(ids)
        cluster.set_outcome(ENDED_BY_USER)
        yield f"cancelled {counted(len(ids), 'job')}: {', '.join(ids)}"
        if not _wait(lambda: not cluster.jobs(), limit_s):
            ids_left = ", ".join(job.id for job in cluster.jobs())
            why = f"perhaps a node does not respond. To look at them: {cluster.squeue}"
            yield f"not ended after {limit_s:g} s: {ids_left}; {why}"
            return
    yield f"{run.path} has no jobs; to resume, launch it again"


def _stop_here(run: RunFolder, limit_s: float) -> str:
    """End the process on this machine that runs it; return a message."""
    holder = holder_of(run.lock)
    if holder is None:
        return f"{run.path}: not running"
    if holder.get("host") != socket.gethostname():
        raise RunFolderError(
            f"{run.path} is running in process {holder.get('pid', '?')} on {holder.get('host', '?')}; stop it there"
        )
    process_id = int(holder["pid"])
    os.kill(process_id, signal.SIGTERM)
    if _wait(lambda: holder_of(run.lock) is None, limit_s):
        return f"{run.path} was stopped; launched again, it goes on with what is left"
    if holder_of(run.lock) == holder:  # the same process; the processes that it started end with it
        os.kill(process_id, signal.SIGKILL)
    if not _wait(lambda: holder_of(run.lock) is None, KILL_LIMIT_S):
        raise RunFolderError(f"process {process_id} was killed and still holds {run.path}: a disk may not respond")
    return f"{run.path}: process {process_id} did not stop in {limit_s:g} s and was killed; to resume, launch it again"


def _wait(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether the condition became true in time; polled slowly, since it may call SLURM."""
    try:
        return wait_for(condition, "the end of the run", limit_s, poll_s=POLL_S, poll_to_s=LOOK_EVERY_S)
    except WaitedTooLong:
        return False


def logs(run: RunFolder, trial_id: str | None, lines: int, *, follow: bool = False) -> Iterator[str]:
    """Yield the last lines of a trial's log, or of the logs of the run's jobs and trials that were written last.

    Args:
        trial_id: or its first digits; None: all logs of the run.
        follow: continue with new lines until the run is no longer running.

    Raises:
        RunFolderError: no run, no log, or a negative number of lines.
    """
    if lines < 0:
        raise RunFolderError(f"--lines is {lines}; expected 0 or more")
    open_run(run)
    one_trial_id = None if trial_id is None else _trial_with_log(run, trial_id)
    if trial_id is None and not _find_logs(run) and not follow:
        raise RunFolderError(f"{run.path} has no logs yet: none of its trials has started")
    lines_shown: dict[Path, int] = {}
    last_path: Path | None = None

    def news() -> tuple[list[str], bool] | None:
        """Return new lines, and whether these are the last; None: there is nothing to show."""
        nonlocal last_path
        is_over = not follow or holder_of(run.lock) is None  # before reading, so that the last lines are read too
        news_lines: list[str] = []
        paths = _find_logs(run)[-LOGS_SHOWN:] if one_trial_id is None else run.logs(one_trial_id)
        logs_now = {path: lines_of(path.read_text(errors="replace"), only_ended=not is_over) for path in paths}
        unseen = {path: all_lines for path, all_lines in logs_now.items() if path not in lines_shown}
        lines_shown.update(_left_out(unseen, lines, together=one_trial_id is not None))
        for path, all_lines in logs_now.items():
            new_lines = all_lines[lines_shown[path] :]
            lines_shown[path] = len(all_lines)
            if new_lines and one_trial_id is None and path != last_path:
                news_lines.append(f"== {path}")
                last_path = path
            news_lines += [_log_line(line) for line in new_lines]
        return (news_lines, is_over) if news_lines or is_over else None

    is_over = False
    while not is_over:
        new_lines, is_over = wait_for(news, f"more lines in the logs of {run.path}", FOLLOWED, poll_s=POLL_S)
        yield from new_lines


def _left_out(logs_now: dict[Path, list[str]], lines: int, *, together: bool) -> dict[Path, int]:
    """Return how many lines at the start of each log are not shown: all but the last ones of each, or of all together.

    >>> _left_out({Path("1"): "abc", Path("2"): "de"}, 3, together=True)
    {PosixPath('1'): 2, PosixPath('2'): 0}
    """
    left_out = {}
    may_show = lines
    for path, all_lines in reversed(list(logs_now.items())):
        left_out[path] = max(0, len(all_lines) - may_show)
        if together:
            may_show -= len(all_lines) - left_out[path]
    return dict(reversed(list(left_out.items())))


def _trial_with_log(run: RunFolder, prefix: str) -> str:
    """Return the id of the one trial that begins with `prefix`; raise RunFolderError if its log cannot be shown."""
    trial_id = find_trial(prefix, run.path).trial_id
    if not run.logs(trial_id):
        raise RunFolderError(f"trial {trial_id} has no log yet: it has not started")
    return trial_id


def _find_logs(run: RunFolder) -> list[Path]:
    """Return the logs of the run's jobs and trials, the one written last at the end."""
    paths = [*list_there(ClusterFolder(run.cluster).logs, "*_log.*"), *run.trial_logs()]
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime)


def _log_line(line: str) -> str:
    """Write a record of a trial's log as text; return other and half-written lines as they are."""
    try:
        record = read_json(line)
        return f"{record['at']} {record['level']} {record['text']}"
    except (DocumentError, LookupError, TypeError):
        return line


def job_lines(run: RunFolder) -> Iterator[str]:
    """Yield one line for each job of a run on SLURM: what it is, where it runs, or why it waits.

    Raises:
        SlurmError: the queue cannot be read.
    """
    cluster = ClusterRun(run)
    for job in cluster.jobs() if cluster.exists else []:
        if cluster.is_controller(job):
            yield f"job       {job.id}  controller  {controller_text(cluster, job)}"
        else:
            yield f"job       {job.id}  worker  {job_text(job)}"


@cli.command(example="runs/demo")
@cli.run_argument
@cli.option("--now", is_flag=True, help="on SLURM: end all jobs of the run at once")
def stop_command(run: Path, now: bool) -> Iterator[str]:
    """End a run cleanly, wherever it runs; launching it again resumes it."""
    return cancel(RunFolder(run)) if now else stop(RunFolder(run))


@cli.command(example="runs/demo 3f2a")
@cli.run_argument
@cli.argument("trial", required=False)
@cli.option("--lines", default=20, help="how many of each")
@cli.option("--follow", is_flag=True, help="print new lines until the sweep is no longer running")
def logs_command(run: Path, trial: str | None, lines: int, follow: bool) -> Iterator[str]:
    """Print stages and scores of a trial, by its id or the first digits.

    Without TRIAL, print the last lines of the logs of jobs and trials that were written last.
    """
    return logs(RunFolder(run), trial, lines, follow=follow)
