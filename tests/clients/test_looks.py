"""What another machine makes is looked for in one way, `is_there` and `read_there`: any other look has its reason here.

A client of NFS believes for up to a minute that a name is absent: a bare `exists()` would wait as long for a stop.
"""

import ast
from collections.abc import Iterator

from tests.product import ROOT, modules

PLACES = ("sweeps", "hpc.cluster", "hpc.ray.orphan_cleanup", "tailor.execution", "results.store")
LISTS = {"glob", "rglob", "iterdir", "scandir", "os.walk"}
LOOKS = {"exists", "is_file", "is_dir", "stat", "lstat", "isfile", "isdir", "getmtime", "getsize"}
USERS = "a user's own file, given or written by hand"
FRESH = "`is_there`, or a listing of its folder, has just asked"
OURS = "of this machine alone"
OTHERS = {
    ("hpc.cluster.head", "file.exists"): OURS,
    ("hpc.cluster.cluster_folder", "path.stat"): FRESH,
    ("hpc.ray.orphan_cleanup", "except FileNotFoundError"): OURS,
    ("hpc.ray.orphan_cleanup", "os.lstat"): OURS,
    ("hpc.ray.orphan_cleanup", "folder.lstat"): OURS,
    ("results.store.files", "run.is_dir"): FRESH,
    ("results.store.files", "path.stat"): FRESH,
    ("results.store.writer", "path.stat"): "this process has just written it",
    ("results.store.writer", "except FileNotFoundError"): "the server has answered the link",
    ("sweeps.driver.driver", "path.is_file"): FRESH,
    ("sweeps.driver.driver", "path.stat"): "an estimate of when a trial wrote last: a minute too early is harmless",
    ("sweeps.launch", "own.is_file"): OURS,
    ("sweeps.operations.clean", "self.path.is_dir"): FRESH,
    ("sweeps.operations.clean", "RunFolder(folder).plan.is_file"): "of a run that does not run",
    ("sweeps.operations.clean", "path.is_dir"): "what is not seen is removed the next time",
    ("sweeps.operations.clean", "path.stat"): FRESH,
    ("sweeps.operations.clean", "path.lstat"): FRESH,
    ("sweeps.operations.clean", "except FileNotFoundError"): "what is gone need not be removed",
    ("sweeps.operations.control", "path.is_file"): FRESH,
    ("sweeps.operations.control", "path.stat"): FRESH,
    ("sweeps.operations.launch", "folder.is_dir"): USERS,
    ("sweeps.operations.reproduce", "existing.is_dir"): USERS,
    ("sweeps.operations.runs", "folder.is_dir"): USERS,
    ("sweeps.operations.timed_models", "folder.exists"): OURS,
    ("sweeps.operations.timed_models", "program.exists"): OURS,
    ("sweeps.planning.hours", "folder.stat"): FRESH,
    ("sweeps.run.abandoned", "path.stat"): FRESH,
    ("sweeps.run.abandoned", "suppress(FileNotFoundError)"): FRESH,
    ("sweeps.run.run_folder", "temporary.path.exists"): OURS,
    ("sweeps.run.run_folder", "run.path.is_dir"): FRESH,
    ("sweeps.run.run_folder", "path.is_file"): FRESH,
    ("sweeps.run.run_lock", "except FileNotFoundError"): FRESH,
    ("sweeps.operations.status", "cluster.stop_file.stat"): FRESH,
    ("sweeps.operations.status", "points.stat"): FRESH,
    ("sweeps.spec.spec", "(folder / name).is_file"): USERS,
    ("sweeps.spec.spec", "shipped.is_file"): OURS,
    ("sweeps.spec.spec", "except FileNotFoundError"): USERS,
    ("tailor.execution.cache", "except FileNotFoundError"): "`open_there` has asked",
    ("hpc.cluster.cluster_folder", "except FileNotFoundError"): "`read_there` has asked",
    ("sweeps.slurm.cluster_run", "except FileNotFoundError"): "`read_there` has asked",
    ("sweeps.driver.progress_file", "except FileNotFoundError"): "`read_there` has asked",
    ("tailor.execution.weights_check", "file.is_file"): USERS,
    ("hpc.ray.orphan_cleanup", "below.glob"): OURS,
    ("hpc.ray.orphan_cleanup", "Path('/proc').iterdir"): OURS,
    ("hpc.ray.orphan_cleanup", "(process / 'fd').iterdir"): OURS,
    ("results.store.files", "folder.iterdir"): FRESH,
    ("results.store.files", "run.glob"): USERS,
    ("results.store.writer", "writing.glob"): "this process has made the folder, or makes it next",
    ("results.store.writer", "writing.iterdir"): "this process has made the folder",
    ("sweeps.driver.driver", "run.trial(trial_id).rglob"): "an estimate of when a trial wrote last",
    ("sweeps.driver.slurm_pool", "folder.path.glob"): "what is not seen is removed by the next driver",
    ("sweeps.operations.clean", "run.path.glob"): "what is not seen is removed the next time",
    ("sweeps.operations.clean", "folder.glob"): "what is not seen is removed the next time",
    ("sweeps.operations.clean", "os.walk"): "what is not seen is removed the next time",
    ("sweeps.planning.hours", "runs.glob"): "an estimate",
    ("sweeps.run.abandoned", "runs.glob"): "what this machine has left",
    ("sweeps.run.run_folder", "run.code.rglob"): FRESH,
    ("sweeps.spec.spec", "path.parent.glob"): USERS,
    ("sweeps.spec.spec", "SPECS.glob"): OURS,
}  # fmt: skip
"""Module and look -> why it may be a bare one."""


def looks_in(tree: ast.AST) -> Iterator[str]:
    """Each bare look, as it is written, and each place where the absence of a file decides."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if {node.func.attr, ast.unparse(node.func)} & (LOOKS | LISTS):
                yield ast.unparse(node.func)
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith("suppress(FileNotFoundError"):
            yield "suppress(FileNotFoundError)"
        elif isinstance(node, ast.ExceptHandler) and node.type and "FileNotFoundError" in ast.unparse(node.type):
            yield "except FileNotFoundError"


def test_a_bare_look_has_a_reason() -> None:
    bare = set()
    for module, path in modules(ROOT).items():
        if module.startswith(PLACES):
            bare |= {(module, look) for look in looks_in(ast.parse(path.read_text()))}
    assert bare - OTHERS.keys() == set(), "type is_there(path), or read_there(path), of transtailor.files"
    assert OTHERS.keys() - bare == set(), "these looks are gone: take their reasons away"


def test_each_kind_of_look_is_found() -> None:
    text = """
path.exists(); os.path.isfile(path); path.stat()
with suppress(FileNotFoundError): path.unlink()
try: path.read_text()
except (OSError, FileNotFoundError): pass
"""
    assert set(looks_in(ast.parse(text))) == {
        "path.exists", "os.path.isfile", "path.stat", "suppress(FileNotFoundError)", "except FileNotFoundError",
    }  # fmt: skip
