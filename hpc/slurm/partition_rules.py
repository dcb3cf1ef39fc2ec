"""What `init` does with each rule of a partition that `scontrol show partition` prints, from 20.02 to 25.11."""

import grp
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from hpc.slurm_grammar import count_of, memory_mb

USED = frozenset(
    ["AllocNodes", "AllowAccounts", "AllowGroups", "AllowQos", "Default", "DenyAccounts", "DenyQos", "DisableRootJobs"]
    + ["Hidden", "MaxCPUsPerNode", "MaxCPUsPerSocket", "MaxMemPerCPU", "MaxMemPerNode", "MaxNodes", "MaxTime"]
    + ["MinNodes", "OverSubscribe", "PartitionName", "QoS", "ReqResv", "RootOnly", "Shared", "State", "TotalNodes"]
)
NOT_USED = frozenset(
    ["DefMemPerCPU", "DefMemPerNode", "JobDefaults", "DefaultTime"]  # jobs ask for their own
    + ["Nodes", "NodeSets", "TotalCPUs", "TRES"]  # sinfo prints what each node has
    + ["PriorityJobFactor", "PriorityTier", "LLN", "Alternate"]  # SLURM decides when jobs start
    + ["Topology", "SelectTypeParameters", "CpuBind"]  # a worker is one node
    + ["GraceTime", "PreemptMode", "OverTimeLimit"]  # a worker that is ended is replaced
    + ["Exclusive", "ExclusiveUser", "ExclusiveTopo"]  # only other users' jobs are kept away
    + ["PowerDownOnIdle", "ResumeTimeout", "SuspendTime", "SuspendTimeout"]  # workers wait for nodes
    + ["TRESBillingWeights"]  # what jobs cost is not planned
)
"""Rules that change nothing in a site file."""


def why_not(rules: Mapping[str, str]) -> Iterator[str]:
    """Yield the reasons why jobs of this user's sweeps do not run in a partition."""
    is_root = os.geteuid() == 0
    if rules.get("State", "UP") != "UP":
        yield f"State={rules['State']}: it starts no jobs at present"
    if rules.get("RootOnly") == "YES" and not is_root:
        yield "RootOnly=YES: only administrators submit to it"
    if rules.get("DisableRootJobs") == "YES" and is_root:
        yield "DisableRootJobs=YES: it refuses jobs of root"
    groups = rules.get("AllowGroups", "ALL")
    if groups != "ALL" and not is_root and not set(groups.split(",")) & own_groups():
        yield f"AllowGroups={groups}: you are in none of these groups"
    fewest_nodes = count_of(rules.get("MinNodes", ""))
    if fewest_nodes is not None and fewest_nodes > 1:
        yield f"MinNodes={fewest_nodes}: its jobs have at least {fewest_nodes} nodes, and a worker has one"
    if count_of(rules.get("MaxNodes", "")) == 0:
        yield "MaxNodes=0: its jobs may have no node"
    if rules.get("TotalNodes") == "0":
        yield "TotalNodes=0: it has no nodes at present, as where they are added when they are needed"


def hints(rules: Mapping[str, str]) -> Iterator[str]:
    """Yield what has to be added to a site file, or known, before jobs run in a partition."""
    if rules.get("ReqResv") == "YES":
        yield "ReqResv=YES: its jobs need a reservation; write it below [sbatch]"
    submitting_nodes = rules.get("AllocNodes", "ALL")
    if submitting_nodes != "ALL":
        yield (
            f"AllocNodes={submitting_nodes}: it accepts jobs from there alone; the controller submits workers from its"
            " node"
        )
    sharing = rules.get("OverSubscribe", rules.get("Shared", ""))
    if sharing.startswith("FORCE") and sharing != "FORCE:1":
        yield f"OverSubscribe={sharing}: other jobs may use the same CPUs, so times vary"
    for rule in sorted(set(rules) - USED - NOT_USED):
        yield f"{rule}={rules[rule]} is a rule that init does not know"


def most_cpus(rules: Mapping[str, str], cpus: int, sockets: int | None) -> int:
    """Return how many CPUs of a node one job may have.

    Args:
        rules: of the partition.
        cpus: of the node.
        sockets: of the node; None if not known.
    """
    most = cpus
    per_node = count_of(rules.get("MaxCPUsPerNode", ""))
    if per_node is not None:
        most = min(most, per_node)
    per_socket = count_of(rules.get("MaxCPUsPerSocket", ""))
    if per_socket is not None and sockets is not None:
        most = min(most, per_socket * sockets)
    return max(1, most)


def most_memory_mb(rules: Mapping[str, str], memory: int, cpus: int) -> int:
    """Return how much memory of a node (MB) a job with that many CPUs may have.

    >>> most_memory_mb({"MaxMemPerCPU": "4000"}, memory=512000, cpus=64)
    256000
    """
    most = memory
    per_node = memory_mb(rules.get("MaxMemPerNode", ""))
    if per_node is not None:
        most = min(most, per_node)
    per_cpu = memory_mb(rules.get("MaxMemPerCPU", ""))
    if per_cpu is not None:
        most = min(most, per_cpu * cpus)
    return most


def own_groups() -> set[str]:
    """Return the names of this user's groups."""
    names = set()
    for number in {os.getegid(), *os.getgroups()}:
        with suppress(KeyError):  # a group without a name
            names.add(grp.getgrgid(number).gr_name)
    return names
