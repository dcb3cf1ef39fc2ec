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
        "a stop cancels no job",
        "sweeps.operations.control:cancel",
        "cluster.cancel(ids)",
        "pass",
    ),
    _Planted(
        "a driver that was replaced continues",
        f"{POOL}:_SlurmPool.check",
        "raise TakenOverError",
        "TakenOverError",
    ),
    _Planted(
        "a lost node counts as an attempt of its trials",
        f"{POOL}:_SlurmPool.has_lost",
        "return bool(self._cluster.lost_nodes(nodes))",
        "return False",
    ),
    _Planted(
        "a lost worker is not replaced",
        f"{CLUSTER}:Cluster._forget",
        "del self._jobs[job.id]",
        "job.leaves, job.joined_s = False, now_s",
    ),
    _Planted(
        "a worker whose job has ended before it joined is waited for",
        f"{CLUSTER}:Cluster._take_queue",
        "elif job.joined_s is None and",
        "elif False and",
    ),
    _Planted(
        "a clock that is set changes waits",
        f"{CLUSTER}:Cluster._run",
        "self.tick(self.now_s)",
        "self.tick(time.time())",
    ),
    _Planted(
        "a worker serves a head that has ended",
        f"{WORKER}:_why_now",
        "if head is None or head.generation != generation:",
        "if False:",
    ),
    _Planted(
        "a job without its Ray head is not queued again",
        f"{HEAD}:main",
        "return _queue_again(folder, error)\n        _say",
        "return 1\n        _say",
    ),
    _Planted(
        "a controller that was warned is not queued again",
        f"{HEAD}:main",
        "return TRY_AGAIN\n    return _queue_again(folder)",
        "return TRY_AGAIN\n    return TRY_AGAIN",
    ),
    _Planted(
        "a submission without an answer is repeated at once",
        f"{JOBS}:submit",
        "number_in_queue = _number_of(path, need.job_name, site.cluster)",
        "number_in_queue = None",
    ),
    _Planted(
        "a command of SLURM that hangs is waited for",
        "hpc.slurm.calls:run",
        "timeout=LIMIT_S",
        "timeout=1e9",
    ),
    Planted(
        "a search on SLURM decides only when a slot is free",
        "sweeps.driver.tune_site:_TuneSearcher.suggest",
        "self._sweep_state.take_more(if_idle=True)",
        "pass",
        kind="slurm search",
    ),
    _Planted(
        "the worker of a cancelled job is not given up",
        f"{CLUSTER}:Cluster._adopt",
        "if job_id not in self._given_up:",
        "if True:",
    ),
    _Planted(
        "the name of the folder by which jobs are found is not synced",
        "hpc.cluster.cluster_folder:ClusterFolder.make",
        "make_folder(self.logs)",
        "self.logs.mkdir(exist_ok=True)",
    ),
)
