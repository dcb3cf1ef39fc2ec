"""Run the same short specs with two trees on this machine, and print each value in which their results differ.

    python -m tools.golden --base FOLDER_OF_CB2CAE13
    python -m tools.golden --only demo,settle

The trees are a worktree of cb2cae13, the last commit before version 0.3 took parts away, and the one of this file. Both
are driven only by what stays: `python -m transtailor` in a process of its own, specs, Parquet files and JSON. It needs
no network: the set by name of the part `prepared` is made-up images in the layout of CUB-200-2011.

Each launch has a folder below --keep, and is made once: of the base as long as base, machine, versions and specs are
the same, of the tree as long as its code is. A launch on Ray, killed, or on a SLURM (tests/slurm/testbed.py) is
compared with the serial one of its own tree, and serial ones with each other. The exit code is 1 if there is a
difference that tools/golden_differences.toml does not list.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.slurm.testbed import missing
from tools import golden_compare as compare
from tools import golden_parts
from tools.golden_launch import LIMIT_S, GoldenLaunch, Tree
from tools.golden_parts import PARTS, Part

ROOT = Path(__file__).resolve().parents[1]
DELIBERATE = Path(__file__).with_name("golden_differences.toml")
BASE = "cb2cae13"
CODE = ("transtailor", "hpc", "tailor", "sweeps", "results", "tests/results", "pyproject.toml")
VERSIONS = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "duckdb", "pillow", "ray", "optuna")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compare and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help=f"worktree of {BASE}; left out, one is made below --keep")
    parser.add_argument("--only", default="", metavar="PART,...", help=", ".join(part.name for part in PARTS))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transtailor-golden"
    parser.add_argument("--keep", type=Path, default=cache, help="folder of all launches (default: %(default)s)")
    given = parser.parse_args(arguments)
    names = [name for name in given.only.split(",") if name]
    if unknown := set(names) - {part.name for part in PARTS}:
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; see --help")
    parts = [part for part in PARTS if not names or part.name in names]
    keep = given.keep.resolve()
    keep.mkdir(parents=True, exist_ok=True)
    code = (given.base or keep / BASE).resolve()
    if given.base is None and not code.exists():
        add = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(code), BASE]
        subprocess.run(add, check=True, timeout=LIMIT_S)
    base = Tree("base", code, keep / f"base-{_key(code)}")
    tree = Tree("tree", ROOT, keep / f"tree-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}")
    for side in (base, tree):
        _prepare(side)
    if reason := missing():
        print(f"left out, on SLURM: {reason}")
    differences: dict[str, list[compare.GoldenDifference]] = {}
    for part in parts:
        for side in (base, tree):
            for launch in _launches(side, part):
                _make(side, part, launch, base)
        differences |= _compare(part, base, tree)
    is_all = len(parts) == len(PARTS)
    lines, is_good = compare.judge(differences, compare.read_deliberate(DELIBERATE), all_parts=is_all)
    print("\n".join([*lines, "no difference that is not listed" if is_good else "DIFFERENT"]))
    return 0 if is_good else 1


def _key(code: Path) -> str:
    """A digest of a tree's code, of this machine and its versions, and of the parts; not of their specs."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))]
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    digest = hashlib.sha256(json.dumps([platform.node(), sorted(set(cpu)), sys.version, versions]).encode())
    listed = ["git", "-C", str(code), "ls-files", "--cached", "--others", "--exclude-standard", "-z", *CODE]
    names = subprocess.run(listed, capture_output=True, check=True, timeout=LIMIT_S).stdout.decode().split("\0")
    files = [code / name for name in sorted(set(names)) if (code / name).is_file()]
    for path in [*files, Path(golden_parts.__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _prepare(tree: Tree) -> None:
    """Remove the launches that another state of the tree has made, and make sure that processes get its code.

    Raises:
        RuntimeError: they get another one's.
    """
    noted, key = tree.kept / "key", _key(tree.code)
    if noted.exists() and noted.read_text() != key:
        shutil.rmtree(tree.kept)
    tree.kept.mkdir(exist_ok=True)
    noted.write_text(key)
    typed = [sys.executable, "-c", "import transtailor; print(transtailor.__file__)"]
    imported = subprocess.run(
        typed, cwd=tree.kept, env=tree.environment, capture_output=True, text=True, check=True, timeout=LIMIT_S
    ).stdout.strip()
    if tree.code not in Path(imported).parents:
        raise RuntimeError(f"{tree.code}: its processes would import {imported}")


def _launches(tree: Tree, part: Part) -> list[str]:
    """Those of a part that can be made here; the base's made-up trials are both read and written."""
    can_write = tree.name == "tree" and (tree.code / "tests" / "results" / "many_trials.py").exists()
    left_out = {"slurm"} if missing() else set()
    left_out |= set() if can_write else {"written"}
    return [launch for launch in part.launches if launch not in left_out]


def _make(tree: Tree, part: Part, launch: str, base: Tree) -> None:
    """Make a launch that is not kept."""
    folder = tree.kept / part.name / launch
    spec = folder / part.spec.name
    has_spec = not part.spec.exists() or (spec.exists() and spec.read_bytes() == part.spec.read_bytes())
    if has_spec and (folder / "answers.json").exists():
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    print(f"{time.strftime('%H:%M:%S')} {tree.name}: {part.name}, {launch} ...", end="", flush=True)
    start_s, processor_s = time.monotonic(), _processor_s()
    if part.spec.exists():
        answers = GoldenLaunch(tree, part, folder).run(launch)
    else:
        is_written = tree.name == "base" or launch == "written"
        source = None if is_written else base.kept / part.name / launch
        answers = GoldenLaunch(tree, part, folder).made_up(source, launch)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "answers.json.tmp").write_text(json.dumps(answers))
    (folder / "answers.json.tmp").rename(folder / "answers.json")
    print(f" {time.monotonic() - start_s:.0f} s, {_processor_s() - processor_s:.0f} s of processor", flush=True)


def _processor_s() -> float:
    """Of all processes that have ended, but those of Ray and SLURM, which end on their own."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _compare(part: Part, base: Tree, tree: Tree) -> dict[str, list[compare.GoldenDifference]]:
    """The differences of a part between both trees, and of each other launch to the first of its tree."""
    first, *others = part.launches
    read = {}
    for tree_ in (base, tree):
        for launch in _launches(tree_, part):
            folder = tree_.kept / part.name / launch
            read[tree_.name, launch] = compare.read_launch(folder / "runs" / part.name, folder / "answers.json")
    found = {part.name: compare.compare_launches(read["base", first], read["tree", first])}
    for launch in others:
        for side in ("base", "tree"):
            if (side, launch) in read:
                of_side = compare.compare_same_tree(read[side, first], read[side, launch], launch)
                found[f"{part.name} of the {side}"] = found.get(f"{part.name} of the {side}", []) + of_side
    return found


if __name__ == "__main__":
    sys.exit(main())
