"""What the driver keeps of trials that have ended, on a real Ray; benchmarks/soak.py measures it in megabytes."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
TRIALS, SLOTS = 60, 2
HELD = 8  # trials at once: those that run and wait for a slot, the one that Tune is left with


def test_ended_trials_leave_the_drivers_memory(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        held, references = process.submit(held_by_the_driver, tmp_path).result()
    assert len(held) == len(references) == TRIALS
    assert max(held) <= HELD, held
    assert max(references[TRIALS // 2 :]) <= max(references[: TRIALS // 2]) + HELD, references


def held_by_the_driver(folder: Path) -> tuple[list[int], list[int]]:
    """Runs idle trials; how many of Tune's trials, and of Ray's references, there are as each one has ended."""
    from ray._private.worker import global_worker
    from ray.tune.experiment import Trial

    from benchmarks.idle_sweep import make_run
    from benchmarks.record import show_to_ranks
    from sweeps.driver.display import SweepProgress
    from tests.sweeps.other_ranks import sweep_with_ranks

    class Looks:
        """A display that looks at the driver's own memory."""

        def __init__(self) -> None:
            self.held: dict[int, int] = {}  # by how many have ended
            self.references: dict[int, int] = {}

        def show(self, progress: SweepProgress) -> None:
            if (ended := progress.counts.finished) and ended not in self.held:
                self.held[ended] = sum(type(one) is Trial for one in gc.get_objects())
                self.references[ended] = len(global_worker.core_worker.get_all_reference_counts())

        def note(self, text: str) -> None:
            raise AssertionError(text)

        def close(self, progress: SweepProgress) -> None:
            self.show(progress)

    show_to_ranks()
    plan, run = make_run(TRIALS, folder / "runs", folder)
    looks = Looks()
    sweep_with_ranks(
        "benchmarks.idle_rank:IdleRank", plan, run, folder / "cache", display=looks, site="local", slots=SLOTS
    )
    return list(looks.held.values()), list(looks.references.values())
