"""The result of a check, and the folder by which the login node and the nodes of the doctor's job communicate."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar

from hpc.errors import ClusterError
from transtailor.documents import Record
from transtailor.files import read_there, write_file
from transtailor.sources import code_digest, sources
from transtailor.waiting import wait_for

State = Literal["fine", "missing", "unknown"]
PACKAGES = ("torch", "ray", "submitit")
Message = TypeVar("Message", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """The result of one check: fine, missing (`advice` says what to do), or unknown if it could not be checked."""

    state: State
    text: str
    advice: str = ""
    node: str = ""  # where the check was made; empty: on several nodes, or on the login node


@dataclass(frozen=True, kw_only=True)
class Checks(Record):
    """What the nodes have to check."""

    ranks: int
    gpus: int
    interface: str | None
    scratch: str | None
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Meeting(Record):
    """Where the ranks of an all-reduce meet."""

    address: str
    port: int


def fine(text: str) -> Finding:
    """Return the finding of a passed check."""
    return Finding(state="fine", text=text)


def failure(text: str, advice: str) -> Finding:
    """Return the finding of a failed check, with what to do about it."""
    return Finding(state="missing", text=text, advice=advice)


def unknown(text: str) -> Finding:
    """Return the finding of a check that was not possible, or is not needed."""
    return Finding(state="unknown", text=text)


def rights_finding(folder: Path) -> Finding:
    """Return whether a private folder and a private file that are made here keep their rights."""
    with TemporaryDirectory(prefix="rights-", dir=folder) as private_folder:
        file = Path(private_folder, "file")
        file.touch(mode=0o600)
        rights = tuple(oct(path.stat().st_mode & 0o777) for path in (Path(private_folder), file))
    if rights == ("0o700", "0o600"):
        return fine("what is made private there is so")
    text = f"a private folder and a private file have the rights {' and '.join(rights)}"
    return failure(text, "expected 0o700 and 0o600: use a file system that keeps rights, see --folder")


def merge_findings(findings: dict[str, Finding]) -> Finding:
    """Merge the findings of several nodes, by name of the node: the misses if there are any, or else all.

    >>> merge_findings({"node1": fine("4 GPUs"), "node2": failure("no GPU", "see gres")}).text
    'node2: no GPU'
    """
    misses = {node: finding for node, finding in findings.items() if finding.state == "missing"}
    shown = misses or findings
    first = next(iter(shown.values()))
    all_say_the_same = len(shown) == len(findings) and len({finding.text for finding in shown.values()}) == 1
    texts = [first.text] if all_say_the_same else [f"{node}: {finding.text}" for node, finding in shown.items()]
    advice: list[str] = []
    for finding in shown.values():
        if finding.advice and finding.advice not in advice:
            advice.append(finding.advice)
    return Finding(state=first.state, text="; ".join(texts), advice="; ".join(advice))


@dataclass(frozen=True)
class DoctorFolder:
    """A folder of small JSON files, each whole or absent, that both sides read by name; `Record()` is a mark."""

    path: Path

    @property
    def lock(self) -> Path:
        """A file that the login node has locked."""
        return self.path / "lock"

    def write(self, name: str, message: Record) -> None:
        """Write one file."""
        write_file(self.path / f"{name}.json", message.to_json(), mode=0o600)

    def read(self, name: str, kind: type[Message]) -> Message | None:
        """Read one file; None while it is absent."""
        try:
            return kind.from_json(read_there(self.path / f"{name}.json"))
        except FileNotFoundError:
            return None

    def wait_to_read(self, name: str, kind: type[Message], limit_s: float) -> Message:
        """Wait for a file and read it; raises ClusterError if it is absent after `limit_s`."""
        return wait_for(lambda: self.read(name, kind), f"{name}.json in {self.path}", limit_s, error=ClusterError)

    def report(self, check: str, rank: int, finding: Finding) -> None:
        """Write a node's finding; the first report of a check stays."""
        if self.read(f"{check}-{rank}", Finding) is None:
            self.write(f"{check}-{rank}", replace(finding, node=platform.node()))

    def read_findings(self, check: str, ranks: Sequence[int]) -> Finding | None:
        """Read and merge the nodes' findings; None while one of them has not reported."""
        findings: dict[str, Finding] = {}
        for rank in ranks:
            finding = self.read(f"{check}-{rank}", Finding)
            if finding is None:
                return None
            is_second_of_node = finding.node in findings
            name = f"{finding.node} (rank {rank})" if is_second_of_node else finding.node
            findings[name] = finding
        return merge_findings(findings)


def environment() -> dict[str, str]:
    """Return what has to be equal on all machines: versions, and the digest of the code."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions | {"code": code_digest(sources())[:12]}
