"""Targets for the tests of ranks: importable by 'rank_target:Name' in the ranks' own processes."""

import importlib
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpc.ranks import ranks
from hpc.ranks.ranks import Heartbeat


class Plain:
    """A target without torch."""

    def __init__(self) -> None:
        self.calls = 0

    def cores(self) -> set[int]:
        importlib.import_module("torch").ones(1)
        return os.sched_getaffinity(0)

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def place_of(self, package: str) -> str:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        return spec.origin

    def process_id(self) -> int:
        return os.getpid()

    def compute(self) -> None:
        while True:
            pass

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def fail_on(self, rank: int) -> None:
        if int(os.environ["RANK"]) == rank:
            raise ValueError(f"rank {rank} does not like this")
        time.sleep(3600)  # stands for a collective that waits for the rank that failed

    def die_on(self, rank: int) -> None:
        if int(os.environ["RANK"]) == rank:
            os.write(1, b"the last words of a rank\n")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)

    def die_and_neighbour_fails(self, rank: int) -> None:
        """What a collective does: the neighbour raises because the other end is gone."""
        if int(os.environ["RANK"]) == rank:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("Connection closed by peer")

    def hang(self) -> None:
        time.sleep(3600)


class Watched(Plain):
    """A target that gives signs of life."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(number=self.given, done_fraction=0.5, words=f"after {self.given} \u00b7")

    def work(self, seconds: float) -> str:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.given += 1
            time.sleep(0.1)
        return "done"

    def work_on(self, rank: int, seconds: float) -> str:
        """One works, the other waits for it without a sign, as in a collective."""
        if int(os.environ["RANK"]) == rank:
            return self.work(seconds)
        time.sleep(seconds)
        return "waited"

    def loop_for_ever(self) -> None:
        while True:
            pass


class Unclosable(Plain):
    def close(self) -> None:
        time.sleep(3600)


class Unmakeable:
    def __init__(self) -> None:
        raise OSError("no such weights")


class Gloo(Plain):
    """A target that joins torch's process group from the variables alone."""

    def __init__(self) -> None:
        super().__init__()
        import torch.distributed

        torch.distributed.init_process_group("gloo")

    def reduce(self) -> float:
        import torch

        value = torch.tensor([1.0 + torch.distributed.get_rank()])
        torch.distributed.all_reduce(value)
        return float(value)

    def listening_addresses(self) -> list[str]:
        """Local addresses (hex, as the kernel writes them) on which this process listens."""
        inodes = set()
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                link = str(descriptor.readlink())
            except FileNotFoundError:  # the listing's own descriptor
                continue
            if link.startswith("socket:["):
                inodes.add(link[len("socket:[") : -1])
        addresses = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    addresses.append(fields[1].split(":")[0])
        return addresses

    def close(self) -> None:
        import torch.distributed

        torch.distributed.destroy_process_group()


class Holder:
    """Starts ranks under Ray from the process that is rank 0 of them; errors are returned as their parts."""

    def start(self, target: str, ranks: int, settings: dict[str, Any]) -> tuple[Any, ...]:
        from hpc.ranks import ray_ranks

        ray_ranks.DEATH_GRACE_S = 30.0  # on a busy machine Ray may tell a death late
        ray_ranks.STACKS_LIMIT_S = 15.0  # is waited for as a whole where a rank was stopped
        return self._tried(lambda: self._started(ray_ranks.RayRanks(target, ranks, **settings)))

    def call(self, method: str, *args: Any) -> tuple[Any, ...]:
        return self._tried(lambda: self._ranks.call(method, *args))

    def close(self, limit_s: float = 60.0) -> tuple[Any, ...]:
        ranks.CLOSE_LIMIT_S = limit_s
        return self._tried(self._ranks.close)

    def words_on_the_way(self, method: str, *args: Any) -> tuple[Any, ...]:
        calling = self._ranks.call_in_steps(method, *args)
        words = next(calling).words
        calling.close()
        return "answers", words

    def _started(self, started: Any) -> list[Any]:
        self._ranks = started
        return list(started.places)

    def _tried(self, act: Any) -> tuple[Any, ...]:
        try:
            return "answers", act()
        except ranks.RankDied as death:
            return type(death).__name__, str(death), death.log_tail
        except ranks.RankFailed as failure:
            return "RankFailed", str(failure), failure.traceback
