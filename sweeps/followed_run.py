"""A run as Python follows it: its state, its progress, its results; it reads the run's folder."""

import html
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from results.text.formats import terminal_lines
from sweeps.driver.display import PlainDisplay
from sweeps.driver.progress_file import read_progress
from sweeps.errors import LaunchError
from sweeps.operations import control
from sweeps.operations.attach import follow as follow_jobs
from sweeps.operations.known_trials import find_trial
from sweeps.operations.reproduce import Saving, reproduce
from sweeps.operations.status import count_trials, state_of, status
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import holder_of
from sweeps.slurm.cluster_run import ClusterRun
from transtailor.errors import MISTAKE
from transtailor.shell import command
from transtailor.terminal import say
from transtailor.waiting import Unlimited, wait_for

if TYPE_CHECKING:
    from results.loaded_run import LoadedRun

PAGE_WIDTH = 120  # characters
POLL_S = 0.5
START_LIMIT_S = 900.0  # planning 100,000 trials takes half a minute on an idle machine
RUNS = Unlimited("as long as the trials take; Ctrl-C ends the waiting, not the sweep")


@dataclass(frozen=True)
class LaunchProcess:
    """The process that runs a sweep, started by this one."""

    process: "subprocess.Popen[bytes]"
    output: Path  # the file that has what it prints ...
    began_byte: int  # ... from here on

    def refuse_mistake(self) -> None:
        """Raise LaunchError if it has ended with a mistake of the user; the text is what it has printed."""
        if self.process.poll() == MISTAKE:
            raise LaunchError(self.output.read_bytes()[self.began_byte :].decode(errors="replace").strip())


class FollowedRun:
    """A run that another process runs, or has run; that process does not need this one.

    Example:
        run = Sweep.read("demo").run()
        run.wait()
        run.results().best()
    """

    def __init__(self, path: Path, launch: LaunchProcess | None = None) -> None:
        """Take the run's folder, and the process that runs it if this one has started it."""
        self.folder = RunFolder(path)
        self._launch = launch

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.folder.path

    @property
    def state(self) -> str:
        """ "running", "finished", "failed" (some trials have), or "interrupted": launched again, it resumes."""
        return "running" if self._is_running() else state_of(self.counts(), is_run=False)

    def counts(self) -> dict[str, int]:
        """Return the number of trials that are finished, running, waiting and failed; of a search also the others."""
        return count_trials(self.folder)

    def status(self) -> str:
        """Return what `transtailor status` prints: trials, nodes, the best so far, failures."""
        return "\n".join(terminal_lines(tuple(status(self.folder)), PAGE_WIDTH, wide=True))

    def log(self, trial_id: str | None = None, *, lines: int = 20) -> str:
        """Return the last lines of a trial's log (its id or the first digits), or of all logs written last."""
        return "\n".join(control.logs(self.folder, trial_id, lines))

    def results(self) -> "LoadedRun":
        """Return the tables with all rows so far, also while it runs."""
        from results.loaded_run import load

        return load(self.path)

    def save_model(
        self, trial_id: str, point: int, folder: str | os.PathLike[str], *, cache: str | os.PathLike[str] = "cache"
    ) -> Path:
        """Save the sub-model of an operating point, and return its folder; `tailor.load_model(folder)` loads it.

        Stages that are not in the cache are computed again. `results().best()` has `trial_id` and `point`.

        Raises:
            RunFolderError: no such trial or point, or this code makes another trial of its settings.
        """
        made_by = command("reproduce", self.path, trial_id, "--point", point, "--save", folder)
        saving = Saving(folder=Path(folder), command=made_by)
        trial = find_trial(trial_id, self.path)
        for line in reproduce(trial, cache=Path(cache), point=point, saving=saving):
            say(line)
        return saving.folder

    def wait(self) -> Self:
        """Print the progress until the sweep has ended; returns this run, whose `state` says how.

        Raises:
            UserError: it ended with a mistake of the user, such as a full disk; the text is the command's.
            KeyboardInterrupt: Ctrl-C; the sweep continues.
        """
        cluster = ClusterRun(self.folder)
        display = PlainDisplay(sys.stdout)
        if cluster.is_last_launch:
            outcome = follow_jobs(cluster, display)
            if outcome.code == MISTAKE:
                raise LaunchError(outcome.text)
            return self
        last_progress = None

        def has_ended() -> bool:
            nonlocal last_progress
            is_running = self._is_running()  # before reading, so that the last progress is shown
            seen = read_progress(self.folder.lock)
            if seen is not None:
                last_progress = seen.progress
                display.show(last_progress)
            return not is_running

        wait_for(has_ended, f"the end of {self.path}", RUNS, poll_s=POLL_S, tell=None)
        if last_progress is not None:
            display.close(last_progress)
        if self._launch is not None:
            self._launch.refuse_mistake()
        return self

    def stop(self, limit_s: float = control.STOP_LIMIT_S) -> Self:
        """End the sweep, and print what was done; finished stages are kept, and launched again it resumes.

        Raises:
            RunFolderError: it runs on another machine and must be stopped there.
            SlurmError: SLURM does not answer.
        """
        for line in control.stop(self.folder, limit_s):
            say(line)
        return self

    def wait_for_start(self, launch: LaunchProcess) -> None:
        """Return when this process runs the trials, or has ended well.

        Raises:
            LaunchError: it has refused; the text is what it has printed.
        """

        def has_begun() -> bool:
            if launch.process.poll() is not None:
                return True
            holder = holder_of(self.folder.lock) or {}
            is_holder = holder.get("pid") == launch.process.pid
            return is_holder and read_progress(self.folder.lock) is not None  # a holder may still refuse to run

        what = f"the start of {self.path} (what it prints is in {launch.output})"
        wait_for(has_begun, what, START_LIMIT_S, error=LaunchError)
        launch.refuse_mistake()

    def _is_running(self) -> bool:
        if self._launch is not None and self._launch.process.poll() is None:
            return True
        cluster = ClusterRun(self.folder)
        return holder_of(self.folder.lock) is not None or (cluster.is_last_launch and cluster.outcome is None)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items() if count)
        return f"{self.path}: {self.state} ({counts})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.status())}</pre>"


def follow(run: str | os.PathLike[str]) -> FollowedRun:
    """Follow a run that was launched elsewhere: by a command, by another notebook, or on SLURM.

    Example:
        follow("runs/demo").wait()

    Raises:
        RunFolderError: the folder is no run.
    """
    followed = FollowedRun(Path(run))
    open_run(followed.folder)
    return followed
