"""Where the jobs of one cluster meet: small files in a shared folder, each of them whole or absent.

cluster/            mode 0700
    token           the secret that every process of the cluster shows (0600); in no command line, in no job's text
    ca.pem, ca.key  with `tls`: what signs the certificates of nodes (0600)
    site.json       the site as it was at the launch
    head.json       where the Ray head listens and which start of it this is; absent while there is none
    stop            somebody asked the sweep to stop
    released/JOB    the driver lets that worker's node end
    logs/           what the jobs print
"""

import json
import secrets
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.errors import ClusterError, FolderError
from hpc.sites.site import Site
from transtailor.documents import read_json
from transtailor.files import write_file
from transtailor.ownership import refuse_shared
from transtailor.terminal import say

FAULT_LIMIT_S = 120.0  # in which a file system may come back


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head that listens."""

    address: str  # "ip:port"
    generation: str  # differs for each start of a head; workers serve one generation alone
    job: str  # SLURM's id of the job that holds it


@dataclass(frozen=True)
class ClusterFolder:
    """The files by which the jobs of one cluster find each other."""

    path: Path

    @property
    def token(self) -> Path:
        """The cluster's secret."""
        return self.path / "token"

    @property
    def _authority(self) -> tuple[Path, Path]:
        return self.path / "ca.pem", self.path / "ca.key"

    @property
    def logs(self) -> Path:
        """Where the jobs' outputs and texts are."""
        return self.path / "logs"

    @property
    def stop(self) -> Path:
        """Is there once a stop was asked for."""
        return self.path / "stop"

    @property
    def _site(self) -> Path:
        return self.path / "site.json"

    @property
    def _head(self) -> Path:
        return self.path / "head.json"

    @property
    def _name(self) -> Path:
        return self.path / "name"

    @property
    def _released(self) -> Path:
        return self.path / "released"

    def make(self, site: Site, name: str) -> None:
        """Makes the folder and its secret; one that is there keeps its secret and its name.

        Args:
            site: written down, so that jobs that wait see no later change of its file.
            name: what the names of the cluster's jobs begin with; some random digits are added.

        Raises:
            ClusterError: see `check`.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self.logs.mkdir(exist_ok=True)
        self.check()
        if not self.token.exists():
            write_file(self.token, secrets.token_hex(32), mode=0o600)
        if not self._name.exists():
            write_file(self._name, f"{name}-{uuid.uuid4().hex[:8]}")
        if site.tls and not self._authority[0].exists():
            from hpc.folders.certificates import make_authority  # imports cryptography, which other sites do without

            make_authority(*self._authority)
        write_file(self._site, site.model_dump_json())

    def check(self) -> None:
        """Do nothing if the folder, and what it tells jobs, is this user's alone, and nobody else can read its secret.

        Raises:
            ClusterError: somebody else could say what the jobs do.
        """
        refuse_shared((self._site, self._head, self._name), ClusterError)
        refuse_shared((self.path, self.token, *self._authority), ClusterError, secret=True)

    @property
    def name(self) -> str:
        """What the names of this cluster's jobs begin with; no other cluster has it.

        Raises:
            ClusterError: the folder is no cluster's.
        """
        return self._read(self._name)

    @property
    def controller_name(self) -> str:
        """The name of the controller's job."""
        return f"{self.name}-controller"

    @property
    def worker_prefix(self) -> str:
        """What the names of the workers' jobs begin with, of all generations."""
        return f"{self.name}-worker-"

    def worker_name(self, generation: str) -> str:
        """The name of the jobs of workers that serve one generation."""
        return f"{self.worker_prefix}{generation[:8]}"

    def tls(self, address: str, folder: Path) -> dict[str, str]:
        """Ray's variables for a node with this address, whose certificate is put into a private folder.

        Without `tls` in the site there are none, and no certificate.

        Raises:
            ClusterError: the authority is damaged, or not there.
        """
        if not self.site().tls:
            return {}
        from hpc.folders.certificates import sign

        certificate, key = folder / "node.pem", folder / "node.key"
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
        """The site as it was at the launch.

        Raises:
            ClusterError: the folder is no cluster's.
        """
        return Site.model_validate_json(self._read(self._site))

    def head(self) -> Head | None:
        """The head that listens now, if there is one."""
        try:
            return Head(**read_json(self._head))
        except FileNotFoundError:
            return None

    def head_reader(self) -> "HeadReader":
        """Reads the head again and again, over faults of the file system."""
        return HeadReader(self)

    def set_head(self, head: Head) -> None:
        """Tells where the head listens; what an earlier one told is gone."""
        write_file(self._head, json.dumps(asdict(head)))

    def unset_head(self, generation: str) -> None:
        """Takes back what `set_head` told, unless another head has told its own since."""
        head = self.head()
        if head is not None and head.generation == generation:
            self._head.unlink(missing_ok=True)

    def release(self, job: str) -> None:
        """Tells the worker of that job that the end of its node is wanted."""
        self._released.mkdir(exist_ok=True)
        (self._released / job).touch()

    def is_released(self, job: str) -> bool:
        """Whether the end of that worker's node is wanted."""
        return (self._released / job).exists()

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except FileNotFoundError as error:
            raise ClusterError(f"{self.path} is no cluster's folder: it has no {path.name}") from error


class HeadReader:
    """What `ClusterFolder.head` said last; a file system that does not answer for a while changes nothing."""

    def __init__(self, folder: ClusterFolder, limit_s: float = FAULT_LIMIT_S) -> None:
        self._folder, self._limit_s = folder, limit_s
        self._last: Head | None = None
        self._faulty_since_s: float | None = None

    def __call__(self) -> Head | None:
        """The head.

        Raises:
            FolderError: it could not be read for longer than the limit.
        """
        try:
            self._last, self._faulty_since_s = self._folder.head(), None
        except (OSError, ValueError, TypeError) as error:  # a stale handle, no rights, a part of a file
            if self._faulty_since_s is None:
                self._faulty_since_s = time.monotonic()
                say(
                    f"the head of {self._folder.path} cannot be read: {error}; for {self._limit_s:g} s it is kept",
                    to=sys.stderr,
                )
            if time.monotonic() - self._faulty_since_s > self._limit_s:
                text = f"the head of {self._folder.path} could not be read for {self._limit_s:g} s: {error}"
                raise FolderError(text) from error
        return self._last
