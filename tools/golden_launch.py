"""One launch of a part by one tree: straight, on Ray, killed and launched again, or on a SLURM; for tools/golden.py."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.testbed import Testbed, alone
from tools.golden_parts import ANSWERS, Part, make_pictures
from transtailor.waiting import reap, wait_for

TRIALS = 960  # made up; every fifty-third failed
KILLS = (("local", 6), ("serial", 30))  # launched on this site, and killed once so many stages are finished
LIMIT_S = 3600.0  # of one command
SITE = """
partition = "main"
cpus_per_node = 1
memory_gb = 1.2
walltime_min = 20
drain_before_s = 20
idle_s = 10
[controller]
partition = "main"
memory_gb = 1.2
walltime_min = 60
[limits]
max_jobs = 4
"""

TYPED_BY_TREE = dict.fromkeys(
    ("compare --across", "compare --donors", "compare --stops", "effects", "images", "power", "settled"), ""
)
"""Answers that the tree at hand types in another way than cb2cae13; an empty text: it has none.

Its `effects` is another question: contrasts in place of an analysis of variance.
"""

Answer = dict[str, Any]  # "code", and "tables" as --format json has them


@dataclass(frozen=True)
class Tree:
    """A tree, and the folder of its launches."""

    name: str
    code: Path
    kept: Path

    @property
    def environment(self) -> dict[str, str]:
        """With which its processes find its code before any installed one."""
        return os.environ | {"PYTHONPATH": str(self.code)}


@dataclass(frozen=True)
class GoldenLaunch:
    """A launch of a part in a folder of its own."""

    tree: Tree
    part: Part
    folder: Path

    def made_up(self, source: Path | None, launch: str) -> dict[str, Answer]:
        """Have made-up trials written, or copy those of another launch; ask all questions if they are only read."""
        run = self.folder / "runs" / self.part.name
        if source is None:
            self._call(["-m", "tests.results.many_trials", f"runs/{run.name}", str(TRIALS)])
        else:
            shutil.copytree(source / "runs" / run.name, run, ignore=shutil.ignore_patterns("points.parquet"))
        renew = "import sys; from pathlib import Path; from results.store.points import renew_points as renew"
        written = self._call(["-c", f"{renew}; renew(Path(sys.argv[1]), print)", f"runs/{run.name}"])
        answers: dict[str, Answer] = {"points": {"code": written.returncode, "tables": {}}}
        return answers | (self._ask(self.part.asked) if launch == "read" else {})

    def run(self, launch: str) -> dict[str, Answer]:
        """Prepare data, launch until it has ended, and ask all questions; of another launch than serial, none."""
        shutil.copy(self.part.spec, self.folder)
        answers = {}
        if self.part.prepare:
            make_pictures(self.folder / "pictures")
        for words in self.part.prepare:
            name = words.split()[0]
            answers[f"data prepare {name}"] = self._code(["data", "prepare", *words.split()])
            answers[f"data check {name}"] = self._code(["data", "check", f"datasets/{name}"])
        if self.part.prepare:
            answers["data prepare"] = {"code": 0, "tables": {"files": self._prepared_files()}}
        before = ("plan",)  # later it expects what was measured
        if launch == "serial":
            answers |= self._ask([name for name in self.part.asked if name in before])
        if launch == "slurm":
            (self.folder / "site.toml").write_text(SITE)
            with _slurm() as variables:
                answers["run"] = self._code(self._typed("site.toml"), variables)
        elif launch == "killed" and not all(self._is_killed(*kill) for kill in KILLS):
            answers["run"] = {"code": "it ended before it could be killed", "tables": {}}
        else:
            answers["run"] = self._code(self._typed("local" if launch == "ray" else "serial"))
        if launch == "serial":
            answers |= self._ask([name for name in self.part.asked if name not in before])
        return answers

    def _typed(self, site: str) -> list[str]:
        return ["run", f"{self.part.name}.toml", "--site", site]

    def _call(self, words: Sequence[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python with the tree's code, and write what it printed to the folder's log."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=self.tree.environment | (variables or {}), text=True,
            capture_output=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        with (self.folder / "log.txt").open("a") as log:
            log.write(f"{' '.join(words)}\n{done.stdout[-4000:]}{done.stderr}ended with {done.returncode}\n")
        return done

    def _code(self, words: Sequence[str], variables: dict[str, str] | None = None) -> Answer:
        return {"code": self._call(["-m", "transtailor", *words], variables).returncode, "tables": {}}

    def _prepared_files(self) -> list[dict[str, str]]:
        """The files of each prepared set; its manifest.json has versions of libraries."""
        files = [path for path in sorted(self.folder.glob("datasets/*/*")) if path.name != "manifest.json"]
        return [{"set": path.parent.name, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for path in files]  # fmt: skip

    def _ask(self, names: Sequence[str]) -> dict[str, Answer]:
        """What each answer is, two asked at a time."""
        typed = {name: typed_words(name, self.part, of_tree=self.tree.name == "tree") for name in names}

        def answer(words: list[str]) -> Answer:
            done = self._call(["-m", "transtailor", *words, "--format", "json"])
            return {"code": done.returncode, "tables": {} if done.returncode else json.loads(done.stdout)["tables"]}

        with ThreadPoolExecutor(2) as pool:
            asked = {name: pool.submit(answer, words) for name, words in typed.items() if words}
            return {name: future.result(LIMIT_S) for name, future in asked.items()}

    def _is_killed(self, site: str, stages: int) -> bool:
        """Launch, and kill the launch with SIGKILL once so many stages are finished; False if it ended before."""
        typed = [sys.executable, "-m", "transtailor", *self._typed(site)]
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(typed, cwd=self.folder, env=self.tree.environment, stdout=log, stderr=log)

        def is_far_or_ended() -> bool:
            finished = sum(path.is_file() for path in self.folder.glob("cache/**/[!.]*"))
            return finished >= stages or process.poll() is not None

        wait_for(is_far_or_ended, f"{stages} stages of {self.part.name}", LIMIT_S, poll_s=0.05, tell=None)
        return reap(process) == -signal.SIGKILL


def typed_words(name: str, part: Part, *, of_tree: bool) -> list[str]:
    """The words of an answer after `transtailor`; none if the tree at hand no longer has it."""
    template = TYPED_BY_TREE.get(name, ANSWERS[name]) if of_tree else ANSWERS[name]
    values = {"RUN": f"runs/{part.name}", "SPEC": f"{part.name}.toml", "CONTROL": part.control, "OTHER": part.other}
    return [values.get(word, word) for word in template.split()]


@contextlib.contextmanager
def _slurm() -> Iterator[dict[str, str]]:
    """A SLURM of two nodes on this machine, and the variables with which its commands find it."""
    with alone(), tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        testbed = Testbed(Path(folder), nodes=2, accounting=False)
        testbed.up()
        try:
            yield {"SLURM_CONF": testbed.environment["SLURM_CONF"]}
        finally:
            testbed.down()
