"""Write a first site file for the cluster of this login node, from SLURM's own settings."""

import getpass
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import Site
from hpc.slurm.calls import PATIENCE, Patience, ask, ask_all, call_of
from hpc.slurm.partition_rules import hints, most_cpus, most_memory_mb, why_not
from hpc.slurm_grammar import count_of, gres_of, is_node_usable, memory_mb, minutes_of, tres_of
from transtailor.documents import read_toml
from transtailor.files import deny_others_writing, write_new_file
from transtailor.names import nearest

AMD = re.compile(r"gpu:(\w*[_-])?(amd|instinct|radeon|mi\d{2,3})", re.I)  # as their gres is usually named
LINE_SHOWN = 80  # characters of a line that cannot be read
UNLIMITED_WALLTIME_MIN = 24 * 60  # written if the partition sets no limit


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind in a partition: their number, and the resources of each."""

    number: int
    cpus: int
    memory_mb: int
    sockets: int | None  # None: not known
    gpus: tuple[str, int] | None  # name, number
    features: str
    gpu_fault: str = ""  # why trials cannot run on these GPUs

    def __str__(self) -> str:
        gpus = f", {self.gpus[1]} x {self.gpus[0]}" if self.gpus else ""
        features = f", features {self.features}" if self.features else ""
        nodes = "node" if self.number == 1 else "nodes"
        return f"{self.number} {nodes} of {self.cpus} CPUs, {self.memory_mb} MB{gpus}{features}"


@dataclass(frozen=True)
class Partition:
    """A partition, its kinds of nodes (the most frequent first), and its longest walltime (None: no limit)."""

    name: str
    default: bool
    up: bool
    exclusive: bool
    walltime_min: int | None
    kinds: tuple[Nodes, ...]
    rules: Mapping[str, str]  # as scontrol shows them, such as AllowAccounts

    @property
    def is_hidden(self) -> bool:
        """Whether SLURM shows it only to those who ask for all."""
        return self.rules.get("Hidden") == "YES"

    @property
    def faults(self) -> list[str]:
        """Why jobs of a sweep do not run there."""
        return [*why_not(self.rules)]

    @property
    def kind(self) -> Nodes:
        """The most frequent nodes, with what one job may have of each by the rules; without nodes a made-up one."""
        if not self.kinds:
            return Nodes(0, 1, 0, None, None, "")
        most = self.kinds[0]
        cpus = most_cpus(self.rules, most.cpus, most.sockets)
        return replace(most, cpus=cpus, memory_mb=most_memory_mb(self.rules, most.memory_mb, cpus))

    def allows(self, what: str, name: str) -> bool:
        """Whether jobs of an account (`what` = "Accounts") or with a quality of service ("Qos") may run there."""
        allowed, denied = self.rules.get(f"Allow{what}", "ALL"), self.rules.get(f"Deny{what}", "")
        return (allowed == "ALL" or name in allowed.split(",")) and name not in denied.split(",")


@dataclass(frozen=True)
class Qos:
    """The limits of a quality of service for each user; None: no limit."""

    walltime_min: int | None
    max_jobs: int | None
    tres: Mapping[str, int] = field(default_factory=dict)  # of a job, or of all jobs of the user: what is less


@dataclass(frozen=True)
class Account:
    """An account of the user: its partition ("" for all), qualities of service, and limits."""

    name: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str  # of jobs that request none
    walltime_min: int | None
    max_jobs: int | None

    @property
    def first_qos(self) -> str:
        """The default if it is one of `qos`, or else the first of them; "" if there is none."""
        return self.default_qos if self.default_qos in self.qos else next(iter(self.qos), "")


@dataclass(frozen=True)
class ClusterFacts:
    """What SLURM reports about its cluster; `missing` has a line for each unknown fact."""

    name: str
    cluster: str | None  # as it was asked for; None: the login node's own
    partitions: tuple[Partition, ...]
    accounts: tuple[Account, ...]
    account_needed: bool
    array_size: int | None
    qos: Mapping[str, Qos]
    missing: tuple[str, ...]

    def partition(self, name: str | None) -> Partition:
        """The partition of that name, or else the default or first in which jobs run.

        Raises:
            SiteError: there is none of that name.
        """
        by_name = {partition.name: partition for partition in self.partitions}
        if name is not None and name not in by_name:
            raise SiteError(f"no partition {name!r}{nearest(name, by_name)}")
        if name is not None:
            return by_name[name]
        return max(self.partitions, key=lambda one: (self._takes_jobs(one), one.default, not one.is_hidden))

    def _takes_jobs(self, partition: Partition) -> bool:
        return partition.up and not partition.faults and bool(self.accounts_for(partition) or not self.accounts)

    def accounts_for(self, partition: Partition) -> list[Account]:
        """The accounts of the user that the partition allows, each with the allowed qualities of service.

        An account with qualities of service of which none is allowed is left out.
        """
        return [
            replace(account, qos=qos)
            for account in self.accounts
            if account.partition in ("", partition.name) and partition.allows("Accounts", account.name)
            if (qos := tuple(name for name in account.qos if partition.allows("Qos", name))) or not account.qos
        ]

    def limits_for(self, partition: Partition) -> Qos:
        """The combined limits of the partition, its first account, and the qualities of service of both."""
        first = self.accounts_for(partition)[:1]
        names = {partition.rules.get("QoS", "N/A"), *(account.first_qos for account in first)}
        known = [self.qos[name] for name in names if name in self.qos]
        walltimes = [partition.walltime_min, *(one.walltime_min for one in first), *(one.walltime_min for one in known)]
        most = [*(one.max_jobs for one in first), *(one.max_jobs for one in known)]
        return Qos(
            walltime_min=min((one for one in walltimes if one is not None), default=None),
            max_jobs=min((one for one in most if one), default=None),
            tres=_least(one.tres for one in known),
        )


def ask_cluster(patience: Patience = PATIENCE, cluster: str | None = None) -> ClusterFacts:
    """Ask sinfo, scontrol and sacctmgr, each once or twice; works without the last.

    Args:
        patience: with each call.
        cluster: one of several behind this login node; None: the one in SLURM_CLUSTERS, or the login node's own.

    Raises:
        SlurmError: sinfo or scontrol is absent or failed, or there is no partition.
    """
    cluster = cluster or os.environ.get("SLURM_CLUSTERS") or None  # a module of the site may set it
    config = dict(
        (key, value.strip())
        for key, value in ask(call_of(cluster, "scontrol", "show", "config"), r"(?:(\S+)\s+=(.*)|.*)", patience)
        if key is not None
    )
    name = config.get("ClusterName", cluster or "cluster")
    accounts, missing = _accounts(name, patience)
    needed = config.get("AccountingStorageEnforce", "none") not in ("none", "(null)", "")
    partitions, unread = _partitions(cluster, patience)
    missing += unread
    if not partitions:
        raise SlurmError("sinfo lists no partition: may you use this cluster? Ask its administrator")
    if needed and not accounts:
        missing = (*missing, "the cluster refuses jobs without an account, and you seem to have none: set account")
    size = config.get("MaxArraySize", "")
    return ClusterFacts(
        name=name,
        cluster=cluster,
        partitions=partitions,
        accounts=accounts,
        account_needed=needed,
        array_size=int(size) if size.isdecimal() and int(size) else None,
        qos=_qos(patience) if accounts else {},
        missing=missing,
    )


def _partitions(cluster: str | None, patience: Patience) -> tuple[tuple[Partition, ...], tuple[str, ...]]:
    """The partitions, and lines about what sinfo printed that cannot be read."""
    show = call_of(cluster, "scontrol", "--oneliner", "show", "partition")
    shown = ask(show, r".*?PartitionName=(.*?)(\s\w+=.*)|.*", patience)
    rules = {name: dict(re.findall(r"(\w+)=(\S*)", rest)) for name, rest in shown if name}
    call = call_of(cluster, "sinfo", "--noheader", "--all", "--exact", "--format=%P|%a|%l|%D|%c|%m|%G|%f|%T|%X")
    row = r"([^|]+)\|([^|]*)\|([^|]*)\|(\d+)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)(?:\|([^|]*)\|([^|]*))?"
    rows, lines = ask_all(call, row, patience)
    unread = [f"sinfo printed a line that cannot be read: {line[:LINE_SHOWN]!r}" for line in lines]
    kinds = defaultdict[str, list[tuple[Nodes, str]]](list)
    first: dict[str, tuple[str, str]] = {}
    for name, available, limit, number, cpus, memory, gres, features, state, sockets in rows:
        first.setdefault(name, (available, limit))
        if cores := count_of(cpus):
            nodes = Nodes(
                int(number), cores, memory_mb(memory) or 0, count_of(sockets or ""), gpus_of(gres),
                features.replace("(null)", ""), gpu_fault(gres),
            )  # fmt: skip
            kinds[name].append((nodes, state or ""))
    partitions = []
    for name, (available, limit) in first.items():
        plain = name.removesuffix("*")
        try:
            walltime_min = minutes_of(limit)
        except ValueError as error:
            walltime_min = None
            unread.append(f"partition {plain}: {error}; set walltime_min")
        partitions.append(
            Partition(
                name=plain,
                default=name.endswith("*"),
                up=available == "up",
                exclusive=rules.get(plain, {}).get("OverSubscribe") == "EXCLUSIVE",
                walltime_min=walltime_min,
                kinds=_merged(kinds[name]),
                rules=rules.get(plain, {}),
            )
        )
    return tuple(partitions), tuple(unread)


def _merged(kinds: Sequence[tuple[Nodes, str]]) -> tuple[Nodes, ...]:
    """The kinds of nodes, in all their states together; first that of which jobs can use most."""
    usable = dict[Nodes, int]()
    numbers = dict[Nodes, int]()
    for nodes, state in kinds:
        kind = replace(nodes, number=0)
        numbers[kind] = numbers.get(kind, 0) + nodes.number
        usable[kind] = usable.get(kind, 0) + nodes.number * is_node_usable(state)
    order = sorted(numbers, key=lambda kind: (-usable[kind], -numbers[kind]))
    return tuple(replace(kind, number=numbers[kind]) for kind in order)


def _accounts(cluster: str, patience: Patience) -> tuple[tuple[Account, ...], tuple[str, ...]]:
    """The user's accounts at a cluster, and lines about what is missing if they are unknown."""
    user = getpass.getuser()
    call = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", f"cluster={cluster}"]
    try:
        row = r"([^|]+)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|(\d*)\|(\d*)"
        rows = ask([*call, "format=Account,Partition,QOS,DefaultQOS,MaxWall,MaxJobs,MaxSubmit"], row, patience)
    except SlurmError as error:
        return (), (f"accounts and qos are unknown: {error}",)
    accounts = []
    for account, partition, names, default, wall, *limits in rows:
        qos = tuple(filter(None, names.split(",")))
        default = default or (qos[0] if len(qos) == 1 else "normal")  # as slurmctld chooses
        most = min((int(limit) for limit in limits if limit), default=None)
        accounts.append(Account(account, partition, qos, default, _limit_min(wall), most))
    return tuple(accounts), () if accounts else (f"sacctmgr knows no account of {user} at {cluster}",)


def _qos(patience: Patience) -> dict[str, Qos]:
    """The limits of each quality of service for a user; empty if they cannot be read."""
    fields = "format=Name,MaxWall,MaxJobsPU,MaxSubmitPU,MaxTRES,MaxTRESPU"
    call = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", fields]
    try:
        rows = ask(call, r"([^|]+)\|([^|]*)\|(\d*)\|(\d*)(?:\|([^|]*)\|([^|]*))?", patience)
    except SlurmError:
        return {}
    return {
        name: Qos(
            _limit_min(wall),
            min((int(number) for number in (jobs, submitted) if number), default=None),
            _least(tres_of(text or "") for text in (of_a_job, of_a_user)),
        )
        for name, wall, jobs, submitted, of_a_job, of_a_user in rows
    }


def _least(limits: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The smallest limit of each resource."""
    least: dict[str, int] = {}
    for of_one in limits:
        for name, number in of_one.items():
            least[name] = min(number, least.get(name, number))
    return least


def _limited(kind: Nodes, tres: Mapping[str, int]) -> Nodes:
    """What a job may have of a node by the limits of a quality of service."""
    gpus = kind.gpus
    if gpus is not None:
        name, number = gpus
        number = min(number, tres.get("gres/gpu", number), tres.get(f"gres/{name}", number))
        gpus = (name, number) if number else None
    cpus = max(1, min(kind.cpus, tres.get("cpu", kind.cpus)))
    return replace(kind, cpus=cpus, memory_mb=min(kind.memory_mb, tres.get("mem", kind.memory_mb)), gpus=gpus)


def _limit_min(limit: str) -> int | None:
    """A limit of time in minutes; None also for one that cannot be read, beside which other limits count."""
    with suppress(ValueError):
        return minutes_of(limit)
    return None


def gpus_of(gres: str) -> tuple[str, int] | None:
    """The GPUs in sinfo's list of generic resources, as (name, number); of several kinds the most frequent.

    >>> gpus_of("gpu:3090:4(S:0-1),gpu:v100:2")
    ('gpu:3090', 4)
    """
    gpus = [one for one in gres_of(gres) if one.name == "gpu" and one.count]
    most = max(gpus, key=lambda one: one.count, default=None)
    return None if most is None else (most.kind, most.count)


def gpu_fault(gres: str) -> str:
    """Why trials cannot run on the GPUs in sinfo's list of generic resources; empty if they can, or there are none.

    >>> gpu_fault("gpu:mi250x:8(S:0-3)")
    'gpu:mi250x is a name of AMD GPUs, which are not supported: trials run on NVIDIA GPUs (CUDA) or on CPUs'
    """
    gpus = gpus_of(gres)
    if gpus and not all(one.is_consumed for one in gres_of(gres) if one.name == "gpu"):
        return f"{gpus[0]} is no_consume, which is not supported: SLURM gives the same GPUs to many jobs"
    if gpus and AMD.match(gpus[0]):
        return f"{gpus[0]} is a name of AMD GPUs, which are not supported: trials run on NVIDIA GPUs (CUDA) or on CPUs"
    return ""


def site_text(cluster: ClusterFacts, partition_name: str | None = None) -> str:
    """The text of a site file for one partition of the cluster, with comments on what to check.

    Raises:
        SiteError: there is no such partition.
        SlurmError: the cluster's answers do not make a valid site.
    """
    from jinja2 import StrictUndefined, Template

    partition = cluster.partition(partition_name)
    accounts, limits = cluster.accounts_for(partition), cluster.limits_for(partition)
    template = Template(
        Path(__file__).with_name("first_site.toml.j2").read_text(encoding="utf-8"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
    )  # fmt: skip
    text: str = template.render(
        cluster=cluster,
        partition=partition,
        kind=_limited(partition.kind, limits.tres),
        tres=", ".join(f"{name}={number}" for name, number in limits.tres.items()),
        unused=partition_notes(partition),
        limits=limits,
        walltime_min=UNLIMITED_WALLTIME_MIN if limits.walltime_min is None else max(limits.walltime_min, 1),
        all_accounts=_names(cluster.accounts),
        accounts=_names(accounts),
        first_qos=accounts[0].first_qos if accounts else "",
        is_qos_needed=bool(accounts) and accounts[0].first_qos not in ("", accounts[0].default_qos),
        qos=list(dict.fromkeys(qos for one in accounts for qos in one.qos)),
        features=sorted({kind.features for kind in partition.kinds}),
        home=str(Path.home()),
        quoted=json.dumps,
    )
    try:
        Site.model_validate(read_toml(text))
    except ValueError as error:  # not TOML, or not a site
        raise SlurmError(f"the answers of cluster {cluster.name} make no valid site: {error}\n{text}") from error
    return text


def partition_notes(partition: Partition) -> list[str]:
    """What has to be known of a partition, or done, before jobs of a sweep run there."""
    return [*partition.faults, *hints(partition.rules)]


def _names(accounts: Iterable[Account]) -> list[str]:
    return list(dict.fromkeys(account.name for account in accounts))


def write_new(path: Path, text: str) -> None:
    """Write a new file, with the folders above it, that only this user may change; raises SiteError if it exists."""
    try:
        with deny_others_writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new_file(path, text)
    except FileExistsError as error:
        raise SiteError(f"{path} exists already and is not changed; choose another --name or --to") from error
