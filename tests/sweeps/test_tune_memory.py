"""What the driver keeps of trials that have ended, without a Ray; benchmarks/soak.py measures it with one."""

import json
import tracemalloc
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
TRIALS, STAGES = 200, 7
LIMIT_BYTES = 5_000  # of each; a quarter of what Tune keeps


def test_an_ended_trial_leaves_little_in_the_drivers_memory(tmp_path: Path) -> None:
    from ray import tune
    from ray.train._internal.storage import StorageContext
    from ray.tune.experiment import Trial

    from sweeps.stop import StopSignals
    from sweeps.tune_site import _LiveFIFO

    storage = StorageContext(storage_path=str(tmp_path), experiment_dir_name="experiment")
    scheduler = _LiveFIFO(StopSignals(None))

    def ended(number: int) -> Trial:
        order = json.dumps({"task": {"trial_id": f"{number:01000d}"}})
        group = tune.PlacementGroupFactory([{}, {"CPU": 1.0}])
        trial = Trial(
            "stub", stub=True, config={"order": order}, storage=storage, trial_id=f"{number:08x}",
            placement_group_factory=group,
        )  # fmt: skip
        scheduler.on_trial_add(None, trial)
        for stage in range(STAGES):
            result = {"report": f"{number:01000d}", "training_iteration": stage, "timestamp": stage, "done": False}
            seconds = {"time_this_iter_s": 0.5, "time_total_s": 0.5, "time_since_restore": 0.5}
            trial.update_last_result(result | seconds | {"iterations_since_restore": stage, "config": trial.config})
        scheduler.on_trial_complete(None, trial, {})
        assert trial.last_result["report"] == f"{number:01000d}"  # what the searcher is told only now
        scheduler.choose_trial_to_run(None)
        return trial

    ended(0)
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    kept = [ended(number) for number in range(TRIALS)]
    after_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after_bytes - before_bytes) / len(kept) < LIMIT_BYTES
