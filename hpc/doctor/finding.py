"""The result of a check, and the folder by which the login node and the nodes of the doctor's job communicate."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from hpc.errors import ClusterError
from transtailor.documents import read_json
from transtailor.files import write_file
from transtailor.sources import code_digest, sources
from transtailor.waiting import wait_for

State = Literal["fine", "missing", "unknown"]
PACKAGES = ("torch", "ray", "submitit")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check: fine, missing (`advice` says what to do), or unknown if it could not be checked."""

    state: State
    text: str
    advice: str = ""


def fine(text: str) -> Finding:
    """The finding of a passed check."""
    return Finding(state="fine", text=text)


def failure(text: str, advice: str) -> Finding:
    """The finding of a failed check, with what to do about it."""
    return Finding(state="missing", text=text, advice=advice)


def unknown(text: str) -> Finding:
    """The finding of a check that was not possible, or is not needed."""
    return Finding(state="unknown", text=text)


def merge_findings(findings: dict[str, Finding]) -> Finding:
    """Merge the findings of several nodes, by name of the node: the misses if there are any, or else all.

    >>> merge_findings({"node1": fine("4 GPUs"), "node2": failure("no GPU", "see gres")}).text
    'node2: no GPU'
    """
    shown = {node: found for node, found in findings.items() if found.state == "missing"} or findings
    texts = dict.fromkeys(found.text for found in shown.values())
    first = next(iter(shown.values()))
    same = len(texts) == 1 and len(shown) == len(findings)
    text = first.text if same else "; ".join(f"{node}: {found.text}" for node, found in shown.items())
    advice = "; ".join(dict.fromkeys(found.advice for found in shown.values() if found.advice))
    return Finding(state=first.state, text=text, advice=advice)


@dataclass(frozen=True)
class DoctorFolder:
    """A folder of small JSON files, each of them whole or absent, that both sides read by name."""

    path: Path

    @property
    def lock(self) -> Path:
        """A file that the login node has locked."""
        return self.path / "lock"

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write one file."""
        write_file(self.path / f"{name}.json", json.dumps(values), mode=0o600)

    def read(self, name: str) -> dict[str, Any] | None:
        """Read one file; None while it is absent."""
        list(self.path.iterdir())  # a network file system may cache for a minute that a file was absent
        try:
            content: dict[str, Any] = read_json(self.path / f"{name}.json")
        except FileNotFoundError:
            return None
        return content

    def wait_to_read(self, name: str, limit_s: float) -> dict[str, Any]:
        """Wait for a file and read it; raises ClusterError if it is absent after `limit_s`."""
        return wait_for(lambda: self.read(name), f"{name}.json in {self.path}", limit_s, error=ClusterError)

    def report(self, check: str, rank: int, finding: Finding) -> None:
        """Write a node's finding; the first report of a check stays."""
        if self.read(f"{check}-{rank}") is None:
            self.write(f"{check}-{rank}", {"node": platform.node(), **asdict(finding)})

    def read_findings(self, check: str, ranks: Sequence[int]) -> Finding | None:
        """Read and merge the nodes' findings; None while one of them has not reported."""
        findings = {}
        for rank in ranks:
            if (values := self.read(f"{check}-{rank}")) is None:
                return None
            node = values.pop("node")
            findings[f"{node} (rank {rank})" if node in findings else node] = Finding(**values)
        return merge_findings(findings)


def environment() -> dict[str, str]:
    """What has to be equal on all machines: versions, and the digest of the code."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions | {"code": code_digest(sources())[:12]}
