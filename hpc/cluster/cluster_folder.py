"""Where the jobs of one cluster meet: small files in a shared folder, each of them whole or absent.

cluster/            mode 0700
    token           the secret of all processes of the cluster (0600); in no command line, in no job's text
    ca.pem, ca.key  with `tls`: the authority that signs the certificates of nodes (0600)
    site.json       the site as it was at the launch
    head.json       where the Ray head listens, and its generation; absent while there is none
    stop            exists once a user asked the sweep to stop
    generations/GEN exists once a head of that generation listens: SLURM may have jobs of its workers
    released/JOB    exists once the driver wants that worker's node to end
    logs/           what the jobs print
"""

import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc.errors import ClusterError, FolderError
from hpc.sites.site import Site
from transtailor.documents import Record
from transtailor.files import is_there, list_there, make_folder, read_there, write_file
from transtailor.ownership import refuse_shared
from transtailor.terminal import say

GENERATION_DIGITS = 8  # of a generation, in the names of its workers' jobs
FAULT_LIMIT_S = 120.0  # in which a file system may come back


@dataclass(frozen=True, kw_only=True)
class Head(Record):
    """A Ray head that listens."""

    address: str  # "ip:port"
    generation: str  # differs for each start of a head; workers serve only one generation
    job: str  # SLURM's id of the job that holds it


class ClusterFolder:
    """The files by which the jobs of one cluster find each other; the constructor reads and writes none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = path / "token"  # the cluster's secret
        self.logs = path / "logs"  # the jobs' outputs and texts
        self.stop = path / "stop"  # exists once a stop was requested
        self._authority = (path / "ca.pem", path / "ca.key")  # certificate and key
        self._site = path / "site.json"
        self._head = path / "head.json"
        self._name = path / "name"
        self._released = path / "released"
        self._generations = path / "generations"

    def outputs(self, job: str = "*") -> list[Path]:
        """Return the files with what a job (SLURM's id) has printed, or all jobs have; the newest is the last."""
        return sorted(list_there(self.logs, f"{job}_*_log.*"), key=lambda path: path.stat().st_mtime)

    def make(self, site: Site, name: str) -> None:
        """Make the folder and its secret; an existing one keeps its secret and its name.

        Args:
            site: copied, so that waiting jobs do not see later changes of its file.
            name: prefix of the names of the cluster's jobs; random digits are added.

        Raises:
            ClusterError: see `check`.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        make_folder(self.logs)  # syncs the names of both folders; without them, no one finds the jobs
        self.check()
        if not is_there(self.token):
            write_file(self.token, secrets.token_hex(32), mode=0o600)
        if not is_there(self._name):
            write_file(self._name, f"{name}-{uuid.uuid4().hex[:8]}")
        authority_certificate, authority_key = self._authority
        if site.tls and not is_there(authority_certificate):
            from hpc.cluster.certificates import make_authority  # imports cryptography, which other sites do without

            make_authority(authority_certificate, authority_key)
        write_file(self._site, site.model_dump_json())

    def check(self) -> None:
        """Raise ClusterError if another user could change the folder's files or read its secret."""
        with self._faults():
            refuse_shared((self._site, self._head, self._name), ClusterError)
            refuse_shared((self.path, self.token, *self._authority), ClusterError, secret=True)

    @property
    def name(self) -> str:
        """Prefix of the names of this cluster's jobs; raises ClusterError if this is not the folder of a cluster."""
        return self._read(self._name)

    @property
    def controller_name(self) -> str:
        """The name of the controller's job."""
        return f"{self.name}-controller"

    def worker_name(self, generation: str) -> str:
        """Return the name of the jobs of workers that serve one generation."""
        return f"{self.name}-worker-{generation[:GENERATION_DIGITS]}"

    def job_names(self) -> tuple[str, ...]:
        """Return the names of all jobs that this cluster may have: the controller's, and the workers' by generation.

        Raises:
            FolderError: they cannot be read.
        """
        with self._faults():
            generations = [path.name for path in list_there(self._generations, "[!.]*")]
        worker_names = [self.worker_name(generation) for generation in generations]
        return (self.controller_name, *worker_names)

    def tls(self, address: str, folder: Path) -> dict[str, str]:
        """Make a certificate for the node with this address; return Ray's variables for it.

        Without `tls` in the site there is no certificate and no variable.

        Args:
            address: IPv4, of the node.
            folder: a private one, for the certificate and its key.

        Raises:
            ClusterError: the authority is damaged or absent.
        """
        if not self.site().tls:
            return {}
        from hpc.cluster.certificates import sign

        certificate = folder / "node.pem"
        key = folder / "node.key"
        try:
            sign(self._authority, address, certificate, key)
        except (OSError, ValueError) as error:
            raise ClusterError(f"no certificate for {address} can be made: {error}; launch the sweep again") from error
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(certificate),
            "RAY_TLS_SERVER_KEY": str(key),
            "RAY_TLS_CA_CERT": str(self._authority[0]),
        }

    def site(self) -> Site:
        """Return the site as it was at the launch; raises ClusterError if it is absent or cannot be read."""
        text = self._read(self._site)
        try:
            return Site.model_validate_json(text)
        except ValueError as error:
            raise ClusterError(f"{self._site} is damaged; launch the sweep again: {error}") from error

    def head(self) -> Head | None:
        """Return the head that listens now; None if there is none."""
        try:
            return Head.from_json(read_there(self._head))
        except FileNotFoundError:
            return None

    def set_head(self, head: Head) -> None:
        """Publish where the head listens, in place of an earlier head."""
        self._generations.mkdir(exist_ok=True)
        write_file(self._generations / head.generation[:GENERATION_DIGITS], "")
        write_file(self._head, head.to_json())  # which syncs the names of both

    def unset_head(self, generation: str) -> None:
        """Remove what `set_head` wrote, unless another head has replaced it."""
        head = self.head()
        if head is not None and head.generation == generation:
            self._head.unlink(missing_ok=True)

    def release(self, job: str) -> None:
        """Tell the worker of that job that its node should end."""
        self._released.mkdir(exist_ok=True)
        (self._released / job).touch()

    def is_released(self, job: str) -> bool:
        """Whether that worker's node should end; raises FolderError if that cannot be read."""
        with self._faults():
            return is_there(self._released / job)

    def _read(self, path: Path) -> str:
        """Return the text of a file that each cluster's folder has."""
        with self._faults():
            try:
                return read_there(path).decode()
            except FileNotFoundError as error:
                raise ClusterError(f"{self.path} is not the folder of a cluster: it has no {path.name}") from error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise FolderError for what the file system reports, such as a stale handle."""
        try:
            yield
        except (OSError, UnicodeDecodeError) as error:
            raise FolderError(f"the cluster's folder {self.path} cannot be read: {error}") from error


class HeadReader:
    """Reads the newest head; while the file system fails, it returns the last one, for a limited time."""

    def __init__(self, folder: ClusterFolder) -> None:
        self._folder = folder
        self._last: Head | None = None
        self._faulty_since_s: float | None = None

    def __call__(self) -> Head | None:
        """Return the head, or the last one that could be read; raises FolderError after the limit."""
        try:
            self._last = self._folder.head()
            self._faulty_since_s = None
        except (OSError, ValueError) as error:  # a stale handle, no permission, a part of a file
            if self._faulty_since_s is None:
                self._faulty_since_s = time.monotonic()
                say(
                    f"the head of {self._folder.path} cannot be read: {error}; for {FAULT_LIMIT_S:g} s it is kept",
                    to=sys.stderr,
                )
            if time.monotonic() - self._faulty_since_s > FAULT_LIMIT_S:
                text = f"the head of {self._folder.path} could not be read for {FAULT_LIMIT_S:g} s: {error}"
                raise FolderError(text) from error
        return self._last
