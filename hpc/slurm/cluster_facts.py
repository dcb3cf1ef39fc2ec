"""Ask SLURM about its cluster: partitions and their nodes, the user's accounts, and limits."""

import getpass
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hpc.errors import SiteError, SlurmError
from hpc.slurm.calls import PATIENCE, Patience, ask, ask_all, call_of
from hpc.slurm.partition_rules import most_cpus, most_memory_mb, why_not
from hpc.slurm_grammar import count_of, gres_of, is_node_usable, memory_mb, minutes_of, tres_of
from transtailor.names import nearest

AMD = re.compile(r"gpu:(\w*[_-])?(amd|instinct|radeon|mi\d{2,3})", re.I)  # as their gres is usually named
LINE_SHOWN = 80  # characters of a line that cannot be read


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind in a partition: their number, and the resources of each."""

    number: int
    cpus: int
    memory_mb: int
    sockets: int | None  # None if not known
    gpus: tuple[str, int] | None  # name, number
    features: str
    gpu_fault: str = ""  # why trials cannot run on these GPUs

    def __str__(self) -> str:
        nodes = "node" if self.number == 1 else "nodes"
        text = f"{self.number} {nodes} of {self.cpus} CPUs, {self.memory_mb} MB"
        if self.gpus:
            gpu_name, gpu_count = self.gpus
            text += f", {gpu_count} x {gpu_name}"
        if self.features:
            text += f", features {self.features}"
        return text


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
        return list(why_not(self.rules))

    @property
    def kind(self) -> Nodes:
        """The most frequent nodes, with what the rules let one job have of each; made-up ones if there are no nodes."""
        if not self.kinds:
            return Nodes(number=0, cpus=1, memory_mb=0, sockets=None, gpus=None, features="")
        most_frequent = self.kinds[0]
        cpus = most_cpus(self.rules, most_frequent.cpus, most_frequent.sockets)
        return replace(most_frequent, cpus=cpus, memory_mb=most_memory_mb(self.rules, most_frequent.memory_mb, cpus))

    def allows(self, what: str, name: str) -> bool:
        """Whether jobs of an account (`what` = "Accounts") or with a quality of service ("Qos") may run there."""
        allowed = self.rules.get(f"Allow{what}", "ALL")
        denied = self.rules.get(f"Deny{what}", "")
        is_allowed = allowed == "ALL" or name in allowed.split(",")
        return is_allowed and name not in denied.split(",")


@dataclass(frozen=True)
class Qos:
    """The limits of a quality of service for each user; None is no limit."""

    walltime_min: int | None
    max_jobs: int | None
    tres: Mapping[str, int] = field(default_factory=dict)  # of a job, or of all jobs of the user if that is less
    fewest_gpus: int = 0  # that each job has to ask for


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
        if self.default_qos in self.qos:
            return self.default_qos
        return self.qos[0] if self.qos else ""


@dataclass(frozen=True)
class ClusterFacts:
    """What SLURM reports about its cluster; `missing` has a line for each unknown fact."""

    name: str
    cluster: str | None  # as the user named it; None is the login node's own
    partitions: tuple[Partition, ...]
    accounts: tuple[Account, ...]
    account_needed: bool
    array_size: int | None
    qos: Mapping[str, Qos]
    missing: tuple[str, ...]

    def partition(self, name: str | None) -> Partition:
        """Return the partition of that name; without a name the best one: first of all jobs run in it.

        Of those in which jobs run, the default one is best, then one that is not hidden, then the first one.

        Raises:
            SiteError: there is none of that name.
        """
        by_name = {partition.name: partition for partition in self.partitions}
        if name is None:
            return max(self.partitions, key=self._preference)
        if name not in by_name:
            raise SiteError(f"no partition {name!r}{nearest(name, by_name)}")
        return by_name[name]

    def _preference(self, partition: Partition) -> tuple[bool, bool, bool]:
        """Return what makes a partition a good choice, the most important first."""
        has_account = not self.accounts or bool(self.accounts_for(partition))
        takes_jobs = partition.up and not partition.faults and has_account
        return (takes_jobs, partition.default, not partition.is_hidden)

    def accounts_for(self, partition: Partition) -> list[Account]:
        """Return the accounts of the user that the partition allows, each with the allowed qualities of service.

        An account with qualities of service of which none is allowed is left out.
        """
        allowed = []
        for account in self.accounts:
            is_for_partition = account.partition in ("", partition.name)
            if not is_for_partition or not partition.allows("Accounts", account.name):
                continue
            allowed_qos = tuple(name for name in account.qos if partition.allows("Qos", name))
            if allowed_qos or not account.qos:
                allowed.append(replace(account, qos=allowed_qos))
        return allowed

    def limits_for(self, partition: Partition) -> Qos:
        """Return the combined limits of the partition, the first account, and the qualities of service of both."""
        walltimes = [partition.walltime_min]
        job_counts = []
        qos_names = {partition.rules.get("QoS", "N/A")}
        accounts = self.accounts_for(partition)
        if accounts:
            account = accounts[0]
            walltimes.append(account.walltime_min)
            job_counts.append(account.max_jobs)
            qos_names.add(account.first_qos)
        known_qos = [self.qos[name] for name in qos_names if name in self.qos]
        for qos in known_qos:
            walltimes.append(qos.walltime_min)
            job_counts.append(qos.max_jobs)
        return Qos(
            walltime_min=min((walltime for walltime in walltimes if walltime is not None), default=None),
            max_jobs=min((count for count in job_counts if count), default=None),
            tres=_least(qos.tres for qos in known_qos),
            fewest_gpus=max((qos.fewest_gpus for qos in known_qos), default=0),
        )

    def partition_without_gpus(self) -> str | None:
        """Return the name of the best partition without GPUs in which jobs of the user run; None if there is none.

        first_site.toml.j2 shows it.
        """
        without_gpus = [partition for partition in self.partitions if not any(kind.gpus for kind in partition.kinds)]
        best = max(without_gpus, key=self._preference, default=None)
        return best.name if best is not None and self._preference(best)[0] else None


def ask_cluster(patience: Patience = PATIENCE, cluster: str | None = None) -> ClusterFacts:
    """Return what sinfo, scontrol and sacctmgr say, each of which is called once or twice; sacctmgr may be absent.

    Args:
        patience: with each call.
        cluster: one of several behind this login node; None is the one in SLURM_CLUSTERS, or the login node's own.

    Raises:
        SlurmError: sinfo or scontrol is absent or failed, or there is no partition.
    """
    cluster = cluster or os.environ.get("SLURM_CLUSTERS") or None  # a module of the site may set it
    config = {}
    for key, value in ask(call_of(cluster, "scontrol", "show", "config"), r"(?:(\S+)\s+=(.*)|.*)", patience):
        if key is not None:
            config[key] = value.strip()
    name = config.get("ClusterName", cluster or "cluster")
    accounts, missing = _accounts(name, patience)
    account_needed = config.get("AccountingStorageEnforce", "none") not in ("none", "(null)", "")
    partitions, unread = _partitions(cluster, patience)
    missing += unread
    if not partitions:
        raise SlurmError("sinfo lists no partition: may you use this cluster? Ask its administrator")
    if account_needed and not accounts:
        missing = (*missing, "the cluster refuses jobs without an account, and you seem to have none: set account")
    array_size = config.get("MaxArraySize", "")
    return ClusterFacts(
        name=name,
        cluster=cluster,
        partitions=partitions,
        accounts=accounts,
        account_needed=account_needed,
        array_size=int(array_size) if array_size.isdecimal() and int(array_size) else None,
        qos=_qos(patience) if accounts else {},
        missing=missing,
    )


def _partitions(cluster: str | None, patience: Patience) -> tuple[tuple[Partition, ...], tuple[str, ...]]:
    """Return the partitions, and messages about what sinfo printed that cannot be read."""
    rules_by_partition = _partition_rules(cluster, patience)
    call = call_of(cluster, "sinfo", "--noheader", "--all", "--exact", "--format=%P|%a|%l|%D|%c|%m|%G|%f|%T|%X")
    row = r"([^|]+)\|([^|]*)\|([^|]*)\|(\d+)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)(?:\|([^|]*)\|([^|]*))?"
    rows, lines = ask_all(call, row, patience)
    messages = [f"sinfo printed a line that cannot be read: {line[:LINE_SHOWN]!r}" for line in lines]
    nodes_and_states = defaultdict[str, list[tuple[Nodes, str]]](list)
    availability: dict[str, str] = {}
    time_limits: dict[str, str] = {}
    for marked_name, available, limit, number, cpus, memory, gres, features, state, sockets in rows:
        availability.setdefault(marked_name, available)
        time_limits.setdefault(marked_name, limit)
        cpu_count = count_of(cpus)
        if not cpu_count:
            continue
        nodes = Nodes(
            number=int(number),
            cpus=cpu_count,
            memory_mb=memory_mb(memory) or 0,
            sockets=count_of(sockets or ""),
            gpus=gpus_of(gres),
            features=features.replace("(null)", ""),
            gpu_fault=gpu_fault(gres),
        )
        nodes_and_states[marked_name].append((nodes, state or ""))
    partitions = []
    for marked_name, limit in time_limits.items():
        name = marked_name.removesuffix("*")  # sinfo marks the default partition
        try:
            walltime_min = minutes_of(limit)
        except ValueError as error:
            walltime_min = None
            messages.append(f"partition {name}: {error}; set walltime_min")
        rules = rules_by_partition.get(name, {})
        partitions.append(
            Partition(
                name=name,
                default=marked_name.endswith("*"),
                up=availability[marked_name] == "up",
                exclusive=rules.get("OverSubscribe") == "EXCLUSIVE",
                walltime_min=walltime_min,
                kinds=_merge_kinds(nodes_and_states[marked_name]),
                rules=rules,
            )
        )
    return tuple(partitions), tuple(messages)


def _partition_rules(cluster: str | None, patience: Patience) -> dict[str, dict[str, str]]:
    """Return the rules of each partition that scontrol shows, such as {"gpu": {"AllowAccounts": "lab"}}."""
    call = call_of(cluster, "scontrol", "--oneliner", "show", "partition")
    rules_by_partition = {}
    for name, settings in ask(call, r".*?PartitionName=(.*?)(\s\w+=.*)|.*", patience):
        if name:
            rules_by_partition[name] = dict(re.findall(r"(\w+)=(\S*)", settings))
    return rules_by_partition


def _merge_kinds(nodes_and_states: Sequence[tuple[Nodes, str]]) -> tuple[Nodes, ...]:
    """Return each kind of nodes once, with the number in all states; first the kind of which jobs can use most."""
    usable = defaultdict[Nodes, int](int)
    total = defaultdict[Nodes, int](int)
    for nodes, state in nodes_and_states:
        kind = replace(nodes, number=0)
        total[kind] += nodes.number
        if is_node_usable(state):
            usable[kind] += nodes.number
    kinds = sorted(total, key=lambda kind: (-usable[kind], -total[kind]))
    return tuple(replace(kind, number=total[kind]) for kind in kinds)


def _accounts(cluster: str, patience: Patience) -> tuple[tuple[Account, ...], tuple[str, ...]]:
    """Return the user's accounts at a cluster, and a message if they are unknown."""
    user = getpass.getuser()
    call = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", f"cluster={cluster}"]
    row = r"([^|]+)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|(\d*)\|(\d*)"
    try:
        rows = ask([*call, "format=Account,Partition,QOS,DefaultQOS,MaxWall,MaxJobs,MaxSubmit"], row, patience)
    except SlurmError as error:
        return (), (f"accounts and qos are unknown: {error}",)
    if not rows:
        return (), (f"sacctmgr knows no account of {user} at {cluster}",)
    accounts = []
    for name, partition, qos_names, default_qos, wall, max_jobs, max_submitted in rows:
        qos = tuple(qos_name for qos_name in qos_names.split(",") if qos_name)
        if not default_qos:
            default_qos = qos[0] if len(qos) == 1 else "normal"  # as slurmctld chooses
        accounts.append(
            Account(
                name=name,
                partition=partition,
                qos=qos,
                default_qos=default_qos,
                walltime_min=_walltime_min(wall),
                max_jobs=_smaller(max_jobs, max_submitted),
            )
        )
    return tuple(accounts), ()


def _qos(patience: Patience) -> dict[str, Qos]:
    """Return the limits of each quality of service for a user; empty if they cannot be read."""
    fields = "format=Name,MaxWall,MaxJobsPU,MaxSubmitPU,MaxTRES,MaxTRESPU,MinTRES"
    call = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", fields]
    try:
        rows = ask(call, r"([^|]+)\|([^|]*)\|(\d*)\|(\d*)(?:\|([^|]*)\|([^|]*)(?:\|([^|]*))?)?", patience)
    except SlurmError:
        return {}
    qos_by_name = {}
    for name, wall, max_jobs, max_submitted, tres_of_job, tres_of_user, least_tres in rows:
        fewest = tres_of(least_tres or "")
        qos_by_name[name] = Qos(
            walltime_min=_walltime_min(wall),
            max_jobs=_smaller(max_jobs, max_submitted),
            tres=_least([tres_of(tres_of_job or ""), tres_of(tres_of_user or "")]),
            fewest_gpus=max((fewest[resource] for resource in fewest if resource.startswith("gres/gpu")), default=0),
        )
    return qos_by_name


def _smaller(*limits: str) -> int | None:
    """Return the smallest of these numbers, of which each may be an empty text; None if all are."""
    return min((int(limit) for limit in limits if limit), default=None)


def _least(limits: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the smallest limit of each resource."""
    least: dict[str, int] = {}
    for amounts in limits:
        for name, amount in amounts.items():
            least[name] = min(amount, least.get(name, amount))
    return least


def _walltime_min(limit: str) -> int | None:
    """Return a limit of time in minutes; None if there is none, or if it cannot be read, so that other limits count."""
    with suppress(ValueError):
        return minutes_of(limit)
    return None


def gpus_of(gres: str) -> tuple[str, int] | None:
    """Return the GPUs in sinfo's list of generic resources, as (name, number); of several kinds the most frequent.

    >>> gpus_of("gpu:3090:4(S:0-1),gpu:v100:2")
    ('gpu:3090', 4)
    """
    kinds = [resource for resource in gres_of(gres) if resource.name == "gpu" and resource.count]
    if not kinds:
        return None
    most_frequent = max(kinds, key=lambda kind: kind.count)
    return most_frequent.kind, most_frequent.count


def gpu_fault(gres: str) -> str:
    """Return why trials cannot run on the GPUs in sinfo's list of generic resources; "" if they can, or without GPUs.

    >>> gpu_fault("gpu:mi250x:8(S:0-3)")
    'gpu:mi250x is a name of AMD GPUs, which are not supported: trials run on NVIDIA GPUs (CUDA) or on CPUs'
    """
    gpus = gpus_of(gres)
    if gpus is None:
        return ""
    name, _number = gpus
    if not all(resource.is_consumed for resource in gres_of(gres) if resource.name == "gpu"):
        return f"{name} is no_consume, which is not supported: SLURM gives the same GPUs to many jobs"
    if AMD.match(name):
        return f"{name} is a name of AMD GPUs, which are not supported: trials run on NVIDIA GPUs (CUDA) or on CPUs"
    return ""
