"""Faults that are planted in what runs a sweep on SLURM, as in `tests.simulation.planted`."""

from functools import partial

from tests.simulation.planted_fault import Planted

CLUSTER, CONTROLLER, POOL = "hpc.cluster.cluster", "sweeps.operations.controller", "sweeps.driver.slurm_pool"
HEAD, WORKER, JOBS = "hpc.cluster.head", "hpc.cluster.worker", "hpc.slurm.jobs"

_Planted = partial(Planted, kind="slurm")
PLANTED_ON_SLURM = (
    _Planted(
        "a driver that gets a second SIGTERM ends with a traceback",
        f"{CONTROLLER}:main",
        "except KeyboardInterrupt:",
        "except ZeroDivisionError:",
    ),
    _Planted(
        "an outcome that cannot be written ends the driver with a traceback",
        f"{CONTROLLER}:main",
        "except OSError as error:",
        "except ZeroDivisionError as error:",
    ),
    _Planted(
        "a driver on SLURM does not look for a stop",
        f"{CONTROLLER}:_run",
        "stop_file=cluster.stop_file",
        "stop_file=None",
    ),
    _Planted(
        "a clock that is set changes waits",
        f"{CLUSTER}:Cluster._run",
        "self.tick(self.now_s)",
        "self.tick(time.time())",
    ),
    Planted(
        "a search on SLURM decides only when a slot is free",
        "sweeps.driver.tune_site:_TuneSearcher.suggest",
        "self._sweep_state.take_more(if_idle=True)",
        "pass",
        kind="slurm search",
    ),
    _Planted(
        "the name of the folder by which jobs are found is not synced",
        "hpc.cluster.cluster_folder:ClusterFolder.make",
        "make_folder(self.logs)",
        "self.logs.mkdir(exist_ok=True)",
    ),
)
