"""A limit of a wait for another machine's file is above what its client may believe of it, or says why not."""

import ast
from importlib import import_module

from tests.clients.test_looks import PLACES
from tests.product import ROOT, modules
from transtailor.files import CACHED_S

AWAIT_FILES = {
    "hpc.cluster.head.FOLDER_LIMIT_S", "hpc.cluster.needs.START_LIMIT_S", "hpc.cluster.worker.HEAD_LIMIT_S",
    "hpc.cluster.cluster_folder.FAULT_LIMIT_S", "results.store.writer.EMPTIED_LIMIT_S",
    "results.store.writer.REPLACED_KEPT_S", "sweeps.driver.commits.FOUND_LIMIT_S",
    "sweeps.followed_run.START_LIMIT_S", "sweeps.operations.attach.GONE_LIMIT_S",
    "sweeps.operations.controller.LOCK_LIMIT_S",
}  # fmt: skip
BELOW = {
    "hpc.cluster.worker.WANTED_LIMIT_S": "a new name, which `is_there` sees at once; it only words the worker's end",
    "sweeps.driver.tune_site.FIRST_HOLD_S": "the slot asks again what to do",
    "sweeps.driver.tune_site.LONGEST_HOLD_S": "the slot asks again what to do",
    "sweeps.operations.control.STOP_LIMIT_S": "the driver sees the file at once, and SLURM's queue says that it ended",
    "sweeps.run.run_lock.PATIENCE_S": "the server has the lock",
}
OWN = {
    "hpc.cluster.cluster.TICK_LIMIT_S", "hpc.cluster.head.END_LIMIT_S", "hpc.cluster.head.START_LIMIT_S",
    "hpc.cluster.sweep_end.ON_END_LIMIT_S", "hpc.ray.orphan_cleanup.END_LIMIT_S",
    "sweeps.driver.committing.END_LIMIT_S", "sweeps.driver.commits.REFUSED_LIMIT_S",
    "sweeps.driver.display.QUIET_LIMIT_S", "sweeps.driver.signals.END_LIMIT_S",
    "sweeps.operations.timed_models.MEASURE_LIMIT_S", "sweeps.planning.this_machine.DRIVER_LIMIT_S",
}  # fmt: skip
"""Of waits for this machine, or for Ray."""
NAMES = ("_LIMIT_S", "_KEPT_S", "_HOLD_S", "PATIENCE_S")


def test_limits_are_above_what_caches_believe() -> None:
    limits = {}
    for module, path in modules(ROOT).items():
        for node in ast.parse(path.read_text()).body if module.startswith(PLACES) else []:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith(NAMES):
                name = ast.unparse(node.targets[0])
                limits[f"{module}.{name}"] = getattr(import_module(module), name)
    assert limits.keys() == AWAIT_FILES | BELOW.keys() | OWN
    assert {name: limits[name] for name in AWAIT_FILES if limits[name] <= CACHED_S} == {}
    assert {name for name in BELOW if limits[name] > CACHED_S} == set(), "these need no reason"
