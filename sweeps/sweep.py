"""A sweep in Python: defined, planned, and run by a process of its own that survives this one."""

import html
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hpc.sites.site import ONE_MACHINE_SITES
from results.text.formats import answer_of, frame_of, terminal_lines
from results.text.page import Page
from sweeps.followed_run import PAGE_WIDTH, FollowedRun, LaunchProcess
from sweeps.operations.control import LAUNCHER
from sweeps.operations.launch import plan_on
from sweeps.operations.preview import preview
from sweeps.planning.plan import Plan, refuse_missing_files, refuse_unfit_networks
from sweeps.spec.spec import Spec, find_spec, load_spec, spec_of
from transtailor.files import make_folder, write_file

if TYPE_CHECKING:
    import pandas


class Sweep:
    """A sweep: the tables of a spec as keywords, as docs/spec_keys.md lists them; it is checked at once.

    Example:
        Four trials, planned; `sweep.run()` would run them.

        >>> sweep = Sweep(
        ...     "two_rates",
        ...     trial={"network": "digits_vgg", "method": {"name": "fine_tune"}},
        ...     axes={"seed": [0, 1], "optimisation.learning_rate": [0.001, 0.01]},
        ... )
        >>> len(sweep.plan().trials)
        4

    Attributes:
        spec: the sweep as it is read from a file.
    """

    spec: Spec

    def __init__(self, name: str, **tables: Any) -> None:
        """Take the name of the run folder, and `trial`, `axes`, `variants`, ... as a TOML file would have them.

        A dictionary with a name is given as `Sweep(**document)`. Paths in it are relative to the working folder.

        Raises:
            SpecError: an unknown key or a wrong value; the text says what to write.
        """
        self.spec = spec_of({"name": name, **tables}, f"Sweep {name!r}")

    @classmethod
    def read(cls, spec: str | os.PathLike[str], assignments: Sequence[str] = (), *, name: str | None = None) -> Self:
        """Read a TOML file, or a shipped spec by its name.

            >>> Sweep.read("demo", ["axes.seed=[0, 1]"], name="two_seeds").spec.axes["seed"]
            [0, 1]

        Args:
            spec: the file, or a name such as "demo".
            assignments: what `--set` would take, such as "trial.optimisation.epochs=3".
            name: of the run, instead of the spec's.

        Raises:
            SpecError: no such file, an unknown key or a wrong value; the text says what to write.
        """
        sweep = cls.__new__(cls)
        sweep.spec = load_spec(find_spec(Path(spec)), assignments, name)
        return sweep

    def plan(
        self, site: str = "local", *, runs: str | os.PathLike[str] = "runs", cache: str | os.PathLike[str] = "cache"
    ) -> "SweepPlan":
        """Return the trials, what they share and what they cost; nothing is run or written.

        Args:
            site: "local", "serial", or the name or file of a SLURM site.
            runs: folder of the run folders.
            cache: folder of finished stages.

        Raises:
            UserError: a trial is impossible, or does not fit on the site; the text says what to change.
        """
        plan, _producer = plan_on(self.spec, site, Path(runs))
        return SweepPlan(plan, tuple(preview(plan, site, runs=Path(runs), cache=Path(cache), command=None)))

    def run(
        self,
        site: str = "local",
        *,
        runs: str | os.PathLike[str] = "runs",
        cache: str | os.PathLike[str] = "cache",
        options: Iterable[str] = (),
    ) -> FollowedRun:
        """Start the sweep in a process of its own, or resume it; return when its run folder exists.

        The process does not end with this one. It is the command `transtailor run RUNS/NAME.toml`, and what it prints
        is in RUNS/NAME.log. On SLURM the jobs are submitted.

        Args:
            site: "local", "serial", or the name or file of a SLURM site.
            runs: folder of the run folders.
            cache: folder of finished stages.
            options: more of the command's, such as ["--extend"].

        Raises:
            UserError: what the command would refuse, with its text; nothing runs.
        """
        options = list(options)
        plan, _producer = plan_on(self.spec, site, Path(runs), extend="--extend" in options)
        refuse_missing_files(plan)  # what this and the next refuse is raised here, before a process
        refuse_unfit_networks(plan)
        folder = Path(runs)
        spec = folder / f"{self.spec.name}.toml"
        make_folder(folder)
        write_file(spec, self.spec.to_toml())
        words = [str(spec), "--site", site, "--runs", str(folder), "--cache", str(cache), *options]
        if site not in ONE_MACHINE_SITES:
            words.append("--detach")
        log = spec.with_suffix(".log")
        with log.open("ab") as output:
            began_byte = output.tell()
            process = subprocess.Popen(
                [sys.executable, str(LAUNCHER), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a notebook, or its end, is not the sweep's
            )
        launch = LaunchProcess(process, log, began_byte)
        run = FollowedRun(folder / self.spec.name, launch)
        run.wait_for_start(launch)
        return run

    def __repr__(self) -> str:
        return f"Sweep({self.spec.name!r}): plan() shows its trials, run() runs them"


@dataclass(frozen=True)
class SweepPlan:
    """A planned sweep. `print(plan)` shows what `transtailor run --plan` shows."""

    plan: Plan
    page: Page

    @cached_property
    def trials(self) -> "pandas.DataFrame":
        """A row for each trial: its id, arm, network, data set, seed, numbers of points and stages, and its state."""
        return frame_of(answer_of(self.page).tables["trials"])

    def __str__(self) -> str:
        return "\n".join(terminal_lines(self.page, PAGE_WIDTH))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
