"""A sweep on the test bed by the real command line, and what one looks at while it runs."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import duckdb

from benchmarks.equality import Comparison, compare, points_of
from results.store.reader import load
from results.store.schema import TABLES
from sweeps.run.run_folder import RunFolder
from sweeps.slurm.cluster_run import ClusterRun
from tests.slurm.testbed import ACCOUNT, Testbed

ROOT = Path(__file__).resolve().parents[2]
SERIAL = ("--runs", "serial_runs", "--cache", "serial_cache")
SMALL = """
[trial]
source.epochs = 2
optimisation.epochs = 2
optimisation.head_epochs = 2
[[variants]]
method.name = "head_only"
[[variants]]
method = { name = "prune", criterion = "l1", asked_removed_macs_fraction = 0.3 }
[[variants]]
method = { name = "transtailor", steps = 2 }
"""
HELD = """
import os
import time
from pathlib import Path
from typing import Literal

from tailor.common import heartbeat
from tailor.extend import CRITERIA, REGULARISERS, Criterion, Regulariser


def held(limit_s=float("inf")):
    end_s = time.monotonic() + limit_s
    while "SLURM_JOB_ID" in os.environ and Path({hold!r}).exists() and time.monotonic() < end_s:
        heartbeat.beat()
        time.sleep(0.1)


def waits(scoring):
    from tailor.pruning.criteria.weights import l1

    held()
    return l1(scoring)


class Slow(Regulariser):
    name: Literal["slow"] = "slow"


CRITERIA.add("waits", Criterion(compute=waits, source="a test"))
REGULARISERS.add("slow", Slow)
if "RANK" in os.environ:  # not where the sweep is planned: this imports torch
    from tailor.training.penalties import penalty

    @penalty.register
    def slow(_settings: Slow, _model, _state, _ranks):
        def value(_batch, outputs):
            held(1.0)
            return 0.0 * outputs.sum()

        return value
"""
SITE = """
partition = "{partition}"
{charged}
container = {container}
cpus_per_node = {cpus}
memory_gb = 1.2
gpus_per_node = {gpus}
walltime_min = {walltime_min}
drain_before_s = {drain_before_s}
idle_s = 10
exclusive = {exclusive}
[controller]
partition = "main"
memory_gb = 1.2
walltime_min = {controller_min}
[limits]
max_jobs = {max_jobs}
"""


@dataclass(frozen=True)
class Sweep:
    """A spec and a site in a folder of their own."""

    folder: Path
    name: str
    site: Path
    testbed: Testbed

    @property
    def spec(self) -> Path:
        """Its spec's file."""
        return self.folder / f"{self.name}.toml"

    @property
    def run(self) -> RunFolder:
        """The run on SLURM."""
        return RunFolder(self.folder / "runs" / self.name)

    @property
    def place(self) -> ClusterRun:
        """Its jobs."""
        return ClusterRun(self.run)

    def launch(self, *options: str, site: str | None = None, limit_s: float = 600) -> subprocess.CompletedProcess[str]:
        """`python sweeps/launch.py` with the spec, in the folder."""
        words = [str(ROOT / "sweeps" / "launch.py"), f"{self.name}.toml", "--site", site or str(self.site), *options]
        return self._call(words, limit_s)

    def command(self, *words: str, limit_s: float = 600) -> subprocess.CompletedProcess[str]:
        """`python -m sweeps`."""
        return self._call(["-m", "transtailor", *words], limit_s)

    def start_serial(self, log: IO[str]) -> subprocess.Popen[str]:
        """The same sweep, one trial after the other, from an empty cache; for `beside_serial` when it has ended."""
        words = [str(ROOT / "sweeps" / "launch.py"), f"{self.name}.toml", "--site", "serial", *SERIAL]
        command = ["nice", "-n", "10", self.testbed.python, *words]
        return subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=log, stderr=log, text=True)

    def beside_serial(self) -> Comparison:
        """The run beside the serial one."""
        with load(self.run.path) as ours, load(self.folder / "serial_runs" / self.name) as theirs:
            return compare(points_of(ours), points_of(theirs))

    @property
    def _environment(self) -> dict[str, str]:
        return self.testbed.environment | {"PYTHONPATH": str(ROOT)}

    def _call(self, words: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.testbed.python, *words], cwd=self.folder, env=self._environment, text=True,
            capture_output=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def stages(self) -> int:
        """How many stages are finished."""
        return len(list((self.folder / "cache").glob("??/[!.]*.stage")))

    def ends(self) -> dict[str, int]:
        """How many rows say that a trial finished, by trial: in all files, of which a loaded run shows the last row."""
        parts = [str(part) for part in (self.run.tables / "trials").glob("**/[!.]*.parquet")]
        query = (  # a merged row is in two files
            "SELECT trial_id, count(DISTINCT epoch_us(written_at)) FROM read_parquet(?) WHERE status = 'finished' "
            "GROUP BY ALL"
        )
        return dict(duckdb.execute(query, [parts]).fetchall())

    def rows(self, query: str) -> list[dict[str, object]]:
        """Rows of the tables that a query names; it is asked each second while a test waits."""
        with load(self.run.path, [name for name in TABLES if name in query]) as tables:
            return tables.rows(query)


def make_sweep(testbed: Testbed, folder: Path, name: str, spec: str, **site: int | str) -> Sweep:
    """Writes a spec and a site; `site` fills the places of SITE."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, int | str] = {
        "partition": "main",
        "cpus": 1,
        "gpus": 0,
        "walltime_min": 10,
        "drain_before_s": 20,
        "controller_min": 30,
        "max_jobs": 4,
        "exclusive": "false",
        "charged": f'account = "{ACCOUNT}"' if testbed.foreign else "",
        "container": json.dumps(testbed.container),
    } | site
    (folder / f"{name}.toml").write_text(f'name = "{name}"\n{spec}')
    path = folder / f"{name}_site.toml"
    path.write_text(SITE.format(**values))
    return Sweep(folder, name, path, testbed)


def held(folder: Path) -> Path:
    """Write a module `held.py`; as long as the file that is returned is there, what the module registers waits in jobs.

    The criterion `waits` waits inside a stage, and the regulariser `slow` for a second in each step.
    """
    hold = folder / "hold"
    hold.touch()
    (folder / "held.py").write_text(HELD.format(hold=str(hold)))
    return hold


def until(condition: Callable[[], object], limit_s: float, what: str, every_s: float = 1.0) -> None:
    """Returns when the condition is true, at which it looks so often.

    Raises:
        AssertionError: it is not, after the limit.
    """
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {limit_s:g} s for {what}"
        time.sleep(every_s)
