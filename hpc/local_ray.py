"""A private Ray on this machine: started here, ended here, and nothing of it left afterwards."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from hpc.errors import ClusterError
from hpc.leftovers import MARK, guarded_folder, rays_own

OBJECT_STORE_BYTES = 100_000_000  # results travel through tables and the cache, Ray carries small messages only


@contextmanager
def local_ray(cpus: int) -> Iterator[Path]:
    """Ray with `cpus` CPUs, never somebody's running cluster; gives a folder for temporary files, removed at the end.

    On leaving, all processes of this Ray have ended. They also end, within seconds, when this process is killed.

    Raises:
        ClusterError: Ray did not start.
    """
    with guarded_folder() as folder:
        try:
            os.environ[MARK] = str(folder)
            try:
                _start(folder, cpus)
            finally:
                del os.environ[MARK]
            yield folder
        finally:
            ray.shutdown()


def _start(folder: Path, cpus: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(rays_own(folder)),
        )
    except Exception as error:  # Ray raises it plain, where a machine is too busy for its time limits
        advice = "type the same again when the machine is less busy, or --site serial, which needs no Ray"
        raise ClusterError(f"Ray did not start on this machine: {error}\n{advice}") from error
