"""A real SLURM on this machine: slurmctld, accounting, and nodes that are network, PID and mount namespaces.

`python tests/slurm/testbed.py up|status|down [--folder F] [--nodes N] [--no-accounting | --foreign]` on a Debian-like
machine, as root, with PACKAGES installed. The daemons are processes of ours; no service, no file of the system is
touched. `down` ends exactly what `up` started: each process is known by its id and its start time.
"""

import argparse
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server iproute2"
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "mariadb-install-db", "ip", "unshare")
NODE_INIT, BAD_CABLE = (Path(__file__).with_name(name) for name in ("node_init.sh", "bad_cable.py"))
# Others than SLURM's own, which something else on this machine may hold.
CONTROLLER_PORT, NODE_PORT, ACCOUNTING_PORT, DATABASE_PORT = 16817, 16818, 16819, 16820
NETWORK, BRIDGE, CABLE = "10.78.0", "sweepsbr", "sweepsv"
CPUS, MEMORY_MB, GPUS = 2, 4000, 2
START_LIMIT_S = 300.0  # the accounting's first start writes many small files durably
LOGIN = "login"  # the client of this machine
DAEMONS = ("slurmctld", "slurmdbd", "mariadbd", "munged")  # in the order that lets each put its things away
CONF = Path(__file__).with_name("conf")  # templates, in which braces are filled in

# A foreign cluster: what users charge, under which limits they do, and where alone that holds.
ACCOUNT, QOS = "lab", "short"
CHARGED = (
    f"add qos {QOS} set maxwall=40 maxsubmitjobsperuser=8",
    f"add account {ACCOUNT}",
    f"add user root account={ACCOUNT} qos={QOS} defaultqos={QOS}",
)
RULES = f" AllowAccounts={ACCOUNT} AllowQos={QOS}"
NOT_IN_CONTAINER = ("sacct", "sbatch", "scancel", "scontrol", "squeue", "sinfo", "srun")
ROOT = Path(__file__).resolve().parents[2]


def missing() -> str | None:
    """Why no test bed can be raised here, and what to type; None where it can."""
    if os.geteuid() != 0:
        return "the SLURM test bed needs root"
    if absent := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"no {', '.join(absent)}: apt-get install -y --no-install-recommends {PACKAGES}"
    apart = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "no namespaces can be made here, as in some containers" if apart.returncode else None


@contextmanager
def alone() -> Iterator[None]:
    """Waits until nobody else has a test bed on this machine, and keeps others waiting."""
    with Path(tempfile.gettempdir(), "sweeps-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Testbed:
    """One cluster in one folder (of at most some 60 characters: sockets lie in it).

    A foreign one is what others' clusters are and ours is not: accounts and qualities of service are enforced, a
    plugin refuses jobs without an account or with --mem, GPUs have a type, sacct is not on PATH, each node's /tmp is
    its own, the user's home and the environment in it have a space in their path, and workers run in a container that
    has none of SLURM's commands.
    """

    __test__ = False  # no test, whatever pytest makes of its name
    folder: Path
    nodes: int = 3
    accounting: bool = True
    foreign: bool = False
    bad_cables: bool = False  # each frame of a node passes through tests/slurm/bad_cable.py
    client: Path | None = None
    """Program of tests/clients/client.c: each node, and this machine, sees `shared` by a client of its own."""
    client_options: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands need to find this cluster, and its users to feel at home."""
        own = {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}
        if self.foreign:
            own |= {"HOME": str(self.home), "PATH": str(self.folder / "login")}
            own |= {"XDG_CACHE_HOME": str(self.home / ".cache")}
        return os.environ | own

    @property
    def shared(self) -> Path:
        """The folder that each node sees by a client of its own."""
        return self.folder / "shared"

    def on_the_server(self, path: Path) -> Path:
        """Where the server has what the clients see at a path, to look at it without a client's beliefs."""
        return path if self.client is None else self.folder / "server" / path.relative_to(self.shared)

    def untrue(self, name: str) -> list[str]:
        """What the client of a node, or of "login", has said that differs from the truth: what, path, process, name."""
        return (self.folder / "log" / f"{name}.untrue").read_text().splitlines()

    def _client_words(self, name: str) -> list[str]:
        log = self.folder / "log" / f"{name}.untrue"
        return [
            str(self.client), f"source={self.folder / 'server'}", f"mount={self.shared}", f"log={log}",
            *self.client_options,
        ]  # fmt: skip

    @property
    def home(self) -> Path:
        """Of the user of a foreign cluster; its nodes see it."""
        return self.folder / "home of me"

    @property
    def python(self) -> str:
        """With which users call our commands."""
        own = self.home / "environment" / "bin" / Path(sys.executable).name
        return str(own) if self.foreign else sys.executable

    @property
    def container(self) -> list[str]:
        """Words before a worker's command."""
        return ["env", f"PATH={self.folder / 'container'}", "IN_CONTAINER=yes"] if self.foreign else []

    def up(self) -> None:
        """Raises the cluster and returns when all nodes are idle.

        Raises:
            RuntimeError: something did not come up; the text names its log, and what ran is ended again.
        """
        if reason := missing():
            raise RuntimeError(reason)
        if running := self.running():
            raise RuntimeError(f"{self.folder} runs already: {', '.join(running)}")
        self._write()
        self._refuse_a_second()
        try:
            self._run("ip", "link", "add", BRIDGE, "type", "bridge")
            (self.folder / "bridge").touch()  # from here on it is ours
            self._run("ip", "link", "set", BRIDGE, "alias", str(self.folder))
            self._run("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
            self._run("ip", "link", "set", BRIDGE, "up")
            self._start_munge()
            if self.accounting:
                self._start_accounting()
            self._start("slurmctld", "slurmctld", "-D")
            self._wait("slurmctld", lambda: self._answers("scontrol", "ping"))
            for number in range(1, self.nodes + 1):  # last: a slurmd without its controller tries again after 10 s
                self._start_node(number)
            idle = ["sinfo", "--noheader", "--Node", "--partition=main", "--states=idle", "--format=%N"]
            self._wait("node1", lambda: len(self._run(*idle).split()) == self.nodes)
            if self.client is not None:
                self._start(LOGIN, *self._client_words(LOGIN))
                self._wait(LOGIN, self.shared.is_mount)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Ends the processes of this cluster, and takes the bridge away."""
        running = self.running()
        subprocess.run(["umount", "--lazy", str(self.shared)], capture_output=True, check=False)  # if it is mounted
        for name in [name for name in running if name not in DAEMONS]:
            self._stop(name, signal.SIGKILL)  # a node's namespaces end with it, and all that runs in them
        for name in [name for name in DAEMONS if name in running]:
            self._stop(name, signal.SIGTERM)
        if (self.folder / "bridge").exists():
            self._run("ip", "link", "delete", BRIDGE)
            (self.folder / "bridge").unlink()
        if (self.folder / "etc" / "slurm.conf").exists():
            for name in ("database", "pid", "run", "server", "shared", "spool", "state"):  # configuration and logs stay
                if (self.folder / name).exists():
                    shutil.rmtree(self.folder / name)

    def kill_node(self, name: str) -> None:
        """Cuts the power of a node: all that runs there is gone at once."""
        self._stop(name, signal.SIGKILL)
        if self.bad_cables:
            self._stop(_cable(name), signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Gives a node its power back; returns when it may run jobs again."""
        self._start_node(int(name.removeprefix("node")))
        self._wait(name, lambda: self.state_of(name) in ("idle", "mixed", "allocated"))

    def cut(self, name: str) -> None:
        """Pulls a node's network cable; what runs there runs on."""
        self._run("ip", "link", "set", _cable(name), "down")

    def mend(self, name: str) -> None:
        """Plugs the cable in again, or lets frames pass through it as before."""
        self._run("ip", "link", "set", _cable(name), "up")
        if self.bad_cables:
            self.tell_cable(name, "pass")

    def tell_cable(self, name: str, command: str) -> None:
        """Tells the bad cable of a node what to do with its frames: see `tests.slurm.bad_cable.tell`."""
        from tests.slurm.bad_cable import tell  # this file may run without the others

        tell(self._control(name), command)

    def drain(self, name: str) -> None:
        """Lets nothing new start on a node, as an administrator does; what runs there runs on."""
        self._run("scontrol", "update", f"nodename={name}", "state=drain", "reason=maintenance")

    def resume(self, name: str) -> None:
        """Takes a drain back; returns when the node may run jobs again."""
        self._run("scontrol", "update", f"nodename={name}", "state=resume")
        self._wait(name, lambda: self.state_of(name) in ("idle", "mixed", "allocated"))

    def need(self, name: str, seconds: int) -> str:
        """Submits a job that takes a whole node for so long, before any that may be pre-empted; its id."""
        options = ["--partition=main", "--exclusive", f"--nodelist={name}", "--job-name=needs-it", "--output=/dev/null"]
        return self._run("sbatch", "--parsable", *options, f"--wrap=sleep {seconds}").strip()

    def state_of(self, name: str) -> str:
        """What SLURM says of a node, such as idle, mixed, down* or draining."""
        return self._run("sinfo", "--noheader", "--Node", "--partition=main", f"--nodes={name}", "--format=%T").strip()

    def running(self) -> list[str]:
        """The names of those of its processes that run."""
        return [path.name for path in sorted(self.folder.glob("pid/*")) if self._pid(path.name) is not None]

    def _refuse_a_second(self) -> None:
        """Takes away the bridge of a test bed that was killed and of which nothing runs; another one is in the way."""
        if not (alias := Path("/sys/class/net", BRIDGE, "ifalias")).exists():
            return
        other = Path(alias.read_text().strip())
        if Testbed(other).running():
            raise RuntimeError(f"a test bed is up; to end it, type: python {__file__} down --folder {other}")
        self._run("ip", "link", "delete", BRIDGE)

    def _write(self) -> None:
        for name in (
            "etc",
            "log",
            "pid",
            "run",
            "spool",
            "state",
            "dev",
            *(("server", "shared") if self.client else ()),
        ):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        addresses = {f"node{number}": f"{NETWORK}.{10 + number}" for number in range(1, self.nodes + 1)}
        values = {
            "folder": self.folder, "host": host, "network": NETWORK, "controller_port": CONTROLLER_PORT,
            "node_port": NODE_PORT, "accounting_port": ACCOUNTING_PORT, "database_port": DATABASE_PORT,
            "password": secrets.token_hex(16), "cpus": CPUS, "memory_mb": MEMORY_MB, "gpus": GPUS,
            "nodes": "\n".join(f"NodeName={name} NodeAddr={at} NodeHostname={name}" for name, at in addresses.items()),
            "gres": "gpu:a100" if self.foreign else "gpu", "rules": RULES if self.foreign else "",
            "foreign": (CONF / "foreign.conf").read_text() if self.foreign else "",
        }  # fmt: skip
        values["accounting"] = "JobAcctGatherType=jobacct_gather/none"
        if self.accounting:
            values["accounting"] = (CONF / "accounting.conf").read_text().format(**values)
        etc = self.folder / "etc"
        (etc / "slurm.conf").write_text((CONF / "slurm.conf").read_text().format(**values))
        (etc / "slurmdbd.conf").touch(mode=0o600)  # slurmdbd refuses to read it otherwise
        (etc / "slurmdbd.conf").write_text((CONF / "slurmdbd.conf").read_text().format(**values))
        if self.foreign:
            self._write_foreign()
        (etc / "password").touch(mode=0o600)
        (etc / "password").write_text(str(values["password"]))
        (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # none is used, but the file is looked for
        devices = f"{self.folder}/dev/nvidia[0-{GPUS - 1}]"
        kind = " Type=a100" if self.foreign else ""
        (etc / "gres.conf").write_text(f"AutoDetect=off\nNodeName=node[1-{self.nodes}] Name=gpu{kind} File={devices}\n")
        for number in range(GPUS):
            if not (device := self.folder / "dev" / f"nvidia{number}").exists():
                os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))  # a second /dev/null: SLURM wants a device
        names = {"localhost": "127.0.0.1", host: f"{NETWORK}.1"} | addresses
        (etc / "hosts").write_text("".join(f"{at} {name}\n" for name, at in names.items()))
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")

    def _write_foreign(self) -> None:
        shutil.copy(CONF / "job_submit.lua", self.folder / "etc")
        self.home.mkdir()
        (self.home / "environment").symlink_to(sys.prefix)
        commands = {
            path.name: path
            for folder in reversed(os.environ["PATH"].split(os.pathsep))
            for path in (Path(folder).iterdir() if Path(folder).is_dir() else ())
        }
        for name, absent in {"login": ("sacct",), "container": NOT_IN_CONTAINER}.items():
            (self.folder / name).mkdir()
            for command in set(commands) - set(absent):
                (self.folder / name / command).symlink_to(commands[command])

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        paths = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "munged", "--foreground", f"--socket={self.folder}/munge.socket", *paths)
        self._wait("munged", lambda: self._answers("munge", "--no-input", f"--socket={self.folder}/munge.socket"))

    def _start_accounting(self) -> None:
        data, at = self.folder / "database", f"--socket={self.folder}/run/database.socket"
        self._run(
            "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        self._start(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", at,
            f"--pid-file={self.folder}/run/database.pid", "--bind-address=127.0.0.1", f"--port={DATABASE_PORT}",
            "--skip-name-resolve", "--performance-schema=OFF", "--skip-log-bin", "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        client = ["mariadb", "--no-defaults", at, "--user=root", "--execute"]
        self._wait("mariadbd", lambda: self._answers(*client, "select 1"))
        password = (self.folder / "etc" / "password").read_text()
        user = f"slurm@'127.0.0.1' identified by '{password}'"
        self._run(
            *client,
            f"create database slurm_acct_db; create user {user}; grant all on slurm_acct_db.* to slurm@'127.0.0.1'",
        )
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: self._answers("sacctmgr", "--noheader", "show", "cluster"))
        for words in ("add cluster testbed", *(CHARGED if self.foreign else ())):
            self._run("sacctmgr", "--immediate", *words.split())

    def _start_node(self, number: int) -> None:
        name, cable = f"node{number}", _cable(f"node{number}")
        if not _until(lambda: not Path("/sys/class/net", cable).exists(), START_LIMIT_S):
            raise RuntimeError(f"{cable} of a node that was killed is still there")  # it goes some time after the node
        client = [] if self.client is None else ["env", f"CLIENT={shlex.join(self._client_words(name))}"]
        self._start(
            name, *client, "unshare", "--net", "--uts", "--ipc", "--mount", "--propagation", "private", "--pid",
            "--fork", "--kill-child", "bash", str(NODE_INIT), str(self.folder), name, f"{NETWORK}.{10 + number}",
            f"{NETWORK}.1",
            *([str(path) for path in (self.folder, ROOT, Path(sys.prefix).resolve())] if self.foreign else ()),
        )  # fmt: skip
        here, there = Path("/proc/self/ns/net"), Path(f"/proc/{self._pid(name)}/ns/net")
        self._wait(name, lambda: there.readlink() != here.readlink())  # or eth0 would be put into our own network
        if self.bad_cables:
            self._control(name).unlink(missing_ok=True)
            self._start(cable, sys.executable, str(BAD_CABLE), cable, str(self._pid(name)), str(self._control(name)))
            self._wait(cable, self._control(name).exists)
        else:
            peer = ["peer", "name", "eth0", "netns", str(self._pid(name))]
            self._run("ip", "link", "add", cable, "type", "veth", *peer)
        self._run("ip", "link", "set", cable, "master", BRIDGE, "up")

    def _control(self, name: str) -> Path:
        return self.folder / "run" / f"{_cable(name)}.socket"

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=START_LIMIT_S
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words[:4])} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _answers(self, *words: str) -> bool:
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False, timeout=60)
        return done.returncode == 0

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self.folder / "pid" / name).write_text(f"{process.pid} {_started(process.pid)}")

    def _pid(self, name: str) -> int | None:
        """The id of a process of ours that runs; another one with a reused id has another start time."""
        path = self.folder / "pid" / name
        pid, started = path.read_text().split() if path.exists() else ("0", "")
        return int(pid) if started and _started(int(pid)) == started else None

    def _stop(self, name: str, how: signal.Signals) -> None:
        for by in (how, signal.SIGKILL):
            if (pid := self._pid(name)) is not None:
                os.kill(pid, by)
                _until(lambda: self._pid(name) is None, limit_s=START_LIMIT_S)
        (self.folder / "pid" / name).unlink()

    def _wait(self, name: str, condition: Callable[[], bool]) -> None:
        if not _until(condition, START_LIMIT_S):
            log = self.folder / "log" / f"{name}.out"
            raise RuntimeError(f"{name} did not come up; its log {log} ends: {log.read_text()[-1000:]}")


def _cable(name: str) -> str:
    """The network device on this side of a node's cable."""
    return f"{CABLE}{name.removeprefix('node')}"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot (field 22 of /proc/PID/stat); None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else fields[18]


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def main() -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description="A real SLURM on this machine.", allow_abbrev=False)
    parser.add_argument("do", choices=["up", "status", "down"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sweeps-slurm")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--no-accounting", dest="accounting", action="store_false")
    parser.add_argument("--foreign", action="store_true", help="with accounts and rules as others' clusters have")
    options = parser.parse_args()
    testbed = Testbed(options.folder.absolute(), options.nodes, options.accounting or options.foreign, options.foreign)
    if options.do == "status":
        sys.stdout.write(f"runs: {', '.join(testbed.running()) or 'nothing'}\n")
    elif options.do == "down":
        testbed.down()
    else:
        testbed.up()
        sys.stdout.write(f"export SLURM_CONF={testbed.environment['SLURM_CONF']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
