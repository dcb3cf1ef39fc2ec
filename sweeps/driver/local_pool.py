"""A private Ray on this machine as the pool of slots; their number is fixed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpc.errors import ClusterError
from hpc.ray.local import has_raylet, local_ray
from hpc.ray.node import last_errors
from hpc.ray.orphan_cleanup import folder_for_ray
from hpc.ray.private import check_shows_token
from sweeps.driver.tune_site import RayPool
from sweeps.planning.this_machine import gpus_of
from sweeps.spec.resources import Resources


class _LocalPool(RayPool):
    comes_and_goes = False

    def __init__(self, folder: Path, slots: int) -> None:
        self.storage = folder / "tune"
        self.most_slots = slots
        self._ray_folder = folder_for_ray(folder)

    @property
    def slots(self) -> int:
        return self.most_slots

    def check(self) -> None:
        """See `RayPool.check`; if its head has ended, Ray ends this process itself."""
        if not has_raylet():
            raise ClusterError(
                "Ray's raylet on this machine has ended: it was killed, or the memory was full; finished work is "
                "kept: to resume, type the same command again"
            )

    def last_errors(self) -> str:
        return last_errors(self._ray_folder)


@contextmanager
def local_pool(resources: Resources, slots: int) -> Iterator[RayPool]:
    """Yield a Ray with the CPUs of `slots` trials, and this machine's GPUs if they need some; it ends with the context.

    Raises:
        ClusterError: it did not start, or is not in its token mode.
    """
    with local_ray(slots * resources.ranks * resources.threads_per_rank, gpus_of(resources)) as folder:
        check_shows_token()
        yield _LocalPool(folder, slots)
