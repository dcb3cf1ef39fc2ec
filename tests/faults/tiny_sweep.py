"""A sweep of a second, launched by its real command in forks of a process that has all libraries imported already.

Importing torch takes longer than the sweep, so launcher and ranks are forks instead of fresh programs. All else is the
product's: the command line, the run's lock and folder, the ranks' loop (hpc.ranks.process_ranks.serve) and their pipe.
"""

import gc
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.faults.moments import Fault, Watch
from tests.forked_ranks import ForkedRank, be_rank, forking

NAME = "tiny"
SPEC = f"""
name = "{NAME}"
[trial]
network = "friedman_mlp"
pruning.linear = true
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 2, head_epochs = 1 }}
[[variants]]
method.name = "fine_tune"
[[variants]]
method = {{ name = "transtailor", steps = 2, alpha_epochs = 1 }}
"""
SEARCH = f"""
name = "{NAME}"
[trial]
network = "friedman_mlp"
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 3, head_epochs = 1 }}
method.name = "fine_tune"
[axes]
optimisation.learning_rate = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]
[search]
sampler = "tpe"
trials = 4
batch = 2
halving = {{ eta = 2, epochs = [1] }}
[confirm]
top = 1
seeds = 2
"""
SETTLE = f"""
name = "{NAME}"
[trial]
network = "friedman_mlp"
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 1, head_epochs = 1 }}
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "head_only"
[[variants]]
label = "fine_tune more"
method.name = "fine_tune"
optimisation.epochs = 2
[settle]
against = "fine_tune"
matters = 0.05
looks = [6, 7, 8]
"""
LIMIT_S = 900.0  # on a busy machine; a launch takes a second


@dataclass(frozen=True)
class Launch:
    """How a launch ended."""

    code: int  # as subprocess has it: negative is the number of a signal
    said: str  # both streams


@dataclass(frozen=True)
class TinySweep:
    """A folder for one sweep; what its launches change is all below `folder`."""

    folder: Path
    notes: Path  # traces and outputs, beside the folder that faults may hit

    @classmethod
    def below(cls, place: Path, spec: str = SPEC) -> "TinySweep":
        """A new one."""
        sweep = cls(place / "sweep", place / "notes")
        sweep.folder.mkdir(parents=True)
        sweep.notes.mkdir()
        (sweep.notes / "spec.toml").write_text(spec)
        return sweep

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / NAME

    @property
    def cache(self) -> Path:
        """The cache's folder."""
        return self.folder / "cache"

    def trace(self, number: int) -> Path:
        """The moments of a launch."""
        return self.notes / f"trace{number}"

    def launch(self, number: int, fault: Fault | None = None, words: tuple[str, ...] = ()) -> Launch:
        """Launches it, with more words in the command, in a fork and waits for its end.

        Raises:
            TimeoutError: it did not end; it was killed.
        """
        output = self.notes / f"output{number}"
        child = os.fork()
        if child == 0:
            _in_a_fork(lambda: self._be_launched(number, fault, words), output)
        handle = os.pidfd_open(child)
        try:
            if not select.select([handle], [], [], LIMIT_S)[0]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TimeoutError(f"launch {number} in {self.folder} did not end: {output.read_text()}")
        finally:
            os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Launch(code, output.read_text(errors="replace"))

    def _be_launched(self, number: int, fault: Fault | None, words: tuple[str, ...]) -> int:
        from hpc.ranks import process_ranks
        from tailor.execution import runner
        from transtailor.__main__ import main

        os.chdir(self.folder)
        watch = Watch(self.folder, self.trace(number), fault)
        process_ranks.subprocess = forking(watch.inherited, _fork)  # type: ignore[assignment]
        runner.run_trial.__kwdefaults__["checkpoint_every_s"] = 0.0  # as after half a minute in a longer one
        sys.argv = ["sweeps/launch.py", str(self.notes / "spec.toml"), "--site", "serial", *words]
        watch.install()
        return main(["run", *sys.argv[1:], "--runs", str(self.run.parent), "--cache", str(self.cache)])


def warm_up() -> None:
    """Imports what launcher and ranks import, so that forks need not; starts no thread, which a fork would lack."""
    for name in (
        "sweeps.driver.driver",
        "sweeps.driver.serial_site",
        "sweeps.run.relaunch",
        "sweeps.worker.trial",
        "results.report",
        "optuna.samplers",
        "scipy.optimize",
        "sweeps.settle.run_settle",
        "scipy.stats",
    ):
        importlib.import_module(name)
    for name in (
        "duckdb",
        "pyarrow.parquet",
        "tailor.data.friedman",
        "tailor.networks.embedded",
        "tests.faults.invariants",
    ):
        importlib.import_module(name)
    import torch

    from results.render.figures import bundle

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)], lr=0.0)  # imports more than torch itself
    bundle()  # the script of every report, which forks have then, too
    gc.collect()
    gc.freeze()


def _fork(command: list[str], environment: dict[str, str], output: int, keep: Sequence[int]) -> ForkedRank:
    process_id = os.fork()
    if process_id == 0:
        os.setsid()
        be_rank(tuple(map(int, command[-3:])), os.environ | environment, output, keep)
    return ForkedRank(command, process_id)


def _in_a_fork(act: Callable[[], int], output: Path) -> NoReturn:
    """Runs a function with its output in a file and ends this process with its result, as a program would."""
    code = 70
    try:
        os.setsid()
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = act()
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # as the interpreter does at the end of a program
        traceback.print_exc()
        code = 1
    os._exit(code)
