"""A private Ray on this machine as the place of trials: a fixed number of slots, which never go away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from hpc.errors import ClusterError
from hpc.folders.orphan_cleanup import folder_for_ray
from hpc.ray.local import has_raylet, local_ray
from hpc.ray.node import last_words
from hpc.ray.stranger import check_driver
from sweeps.driver.tune_site import Place
from sweeps.spec.resources import Resources


class _LocalPlace:
    comes_and_goes = False

    def __init__(self, folder: Path, slots: int) -> None:
        self.storage, self.most_slots = folder / "tune", slots
        self._own = folder_for_ray(folder)

    def slots(self, could_run: int) -> int:  # noqa: ARG002  # the interface of all places
        """All of them."""
        return self.most_slots

    def check(self) -> None:
        """See `Place.check`; where its head has gone, Ray ends this process itself."""
        if not has_raylet():
            raise ClusterError(
                "Ray's raylet on this machine has ended: it was killed, or the memory was full; what is finished "
                "is kept: to resume, type the same command again"
            )

    def lost(self, nodes: tuple[str, ...]) -> bool:  # noqa: ARG002
        """Never: this machine is there as long as this process is."""
        return False

    def waits_for(self) -> str | None:
        """Nothing: all slots are there."""
        return None

    def last_words(self) -> str:
        """See `Place.last_words`."""
        return last_words(self._own)


@contextmanager
def local_place(resources: Resources, slots: int) -> Iterator[Place]:
    """Ray with as many CPUs as `slots` trials need; gone on leaving.

    Raises:
        ClusterError: it did not start, or does not ask for its token.
    """
    with local_ray(slots * resources.ranks * resources.threads_per_rank) as folder:
        check_driver(ray.get_runtime_context().gcs_address)
        yield _LocalPlace(folder, slots)
