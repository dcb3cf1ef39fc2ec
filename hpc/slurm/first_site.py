"""Write a first site file for the cluster of this login node, from what sinfo and sacctmgr say."""

import getpass
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import Site, path_as_site, users_folder
from hpc.slurm.calls import ask, call_of
from hpc.slurm_grammar import gres_of
from transtailor import cli
from transtailor.documents import read_toml
from transtailor.files import deny_others_writing, write_new_file
from transtailor.names import nearest
from transtailor.shell import command

REASON_SHOWN = 160  # characters of SLURM's message


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind in a partition: their number, and the resources of each."""

    partition: str
    is_default: bool
    is_up: bool
    is_exclusive: bool
    limit: str  # of time, as sinfo prints it
    walltime_min: int | None  # None: no limit
    number: int
    cpus: int
    memory_mb: int
    gpus: tuple[str, int] | None  # name, number


@dataclass(frozen=True)
class ClusterFacts:
    """What SLURM says about its cluster.

    Attributes:
        name: of the cluster.
        cluster: as the user named it; None is the login node's own.
        nodes: of all partitions, the most frequent first.
        accounts: of the user; empty if they are unknown.
        accounts_error: why they are unknown; "" if they are known.
    """

    name: str
    cluster: str | None
    nodes: tuple[Nodes, ...]
    accounts: tuple[str, ...]
    accounts_error: str

    def nodes_of(self, partition: str | None) -> Nodes:
        """Return the most frequent nodes of a partition; without a name of the default one, or of one that is up.

        Raises:
            SiteError: there is no partition of that name.
        """
        names = [nodes.partition for nodes in self.nodes]
        if partition is None:
            return max(self.nodes, key=lambda nodes: (nodes.is_up, nodes.is_default))
        if partition not in names:
            raise SiteError(f"no partition {partition!r}{nearest(partition, names)}")
        return self.nodes[names.index(partition)]


def ask_cluster(cluster: str | None = None) -> ClusterFacts:
    """Return what sinfo, scontrol and sacctmgr say, each of which is called once; sacctmgr may be absent.

    Args:
        cluster: one of several behind this login node; None is the one in SLURM_CLUSTERS, or the login node's own.

    Raises:
        SlurmError: sinfo or scontrol is absent or failed, or there is no partition.
    """
    cluster = cluster or os.environ.get("SLURM_CLUSTERS") or None  # a module of the site may set it
    names = ask(call_of(cluster, "scontrol", "show", "config"), r"(?:ClusterName\s+=\s*(\S+)|.*)")
    name = next((name for (name,) in names if name), cluster or "cluster")
    call = call_of(cluster, "sinfo", "--noheader", "--all", "--exact", "--format=%P|%a|%l|%D|%c|%m|%h|%G")
    time_limit = r"((?:(\d+)-)?(?:(\d+):)?(\d+):\d+|[^|]*)"  # 2-12:00:00, 12:00:00, 30:00 or infinite
    row = rf"([^|]+?)(\*?)\|([^|]*)\|{time_limit}\|(\d+)\|(\d+)\+?\|(\d+)\+?\|([^|]*)\|([^|]*)"
    nodes = []
    for partition, default, available, limit, days, hours, minutes, number, cpus, memory, sharing, gres in ask(
        call, row
    ):
        walltime_min = (int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes) if minutes else None
        nodes.append(
            Nodes(
                partition=partition,
                is_default=bool(default),
                is_up=available == "up",
                is_exclusive=sharing == "EXCLUSIVE",
                limit=limit,
                walltime_min=walltime_min,
                number=int(number),
                cpus=int(cpus),
                memory_mb=int(memory),
                gpus=gpus_of(gres),
            )
        )
    if not nodes:
        raise SlurmError("sinfo lists no partition: may you use this cluster? Ask its administrator")
    accounts: tuple[str, ...] = ()
    accounts_error = ""
    user = getpass.getuser()
    call = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", f"cluster={name}"]
    try:
        accounts = tuple(dict.fromkeys(account for (account,) in ask([*call, "format=Account"], r"([^|]+)")))
    except SlurmError as error:
        accounts_error = str(error)
    most_frequent_first = tuple(sorted(nodes, key=lambda kind: -kind.number))
    return ClusterFacts(name, cluster, most_frequent_first, accounts, accounts_error)


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


def site_text(cluster: ClusterFacts, partition: str | None = None) -> str:
    """Return the text of a site file for one partition of the cluster, with comments on what else there is.

    Raises:
        SiteError: there is no such partition.
        SlurmError: the cluster's answers do not make a valid site.
    """
    from jinja2 import StrictUndefined, Template

    template = Template(
        Path(__file__).with_name("first_site.toml.j2").read_text(encoding="utf-8"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
    )  # fmt: skip
    nodes = cluster.nodes_of(partition)
    text: str = template.render(cluster=cluster, nodes=nodes, home=str(Path.home()), quoted=json.dumps)
    try:
        Site.model_validate(read_toml(text))
    except ValueError as error:  # not TOML, or not a site
        raise SlurmError(f"the answers of cluster {cluster.name} make no valid site: {error}\n{text}") from error
    return text


def write_new(path: Path, text: str) -> None:
    """Write a new file, with the folders above it, that only this user may change; raises SiteError if that fails."""
    try:
        with deny_others_writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new_file(path, text)
    except OSError as error:
        why = "exists already and is not changed" if path.exists() else f"cannot be written: {error.strerror}"
        raise SiteError(f"{path} {why}; choose another --name or --to") from error


@cli.command(example="--name mycluster")
@cli.option("--name", help="name of the site (default: the cluster's)")
@cli.option("--to", type=cli.FILE, metavar="FILE", help="write this file instead of NAME.toml among your sites")
@cli.option("--cluster", help="one of several clusters behind this login node (sbatch --clusters)")
@cli.option("--partition", help="for jobs of this partition (default: the cluster's default)")
def init(name: str | None, to: Path | None, cluster: str | None, partition: str | None) -> Iterator[str]:
    """Read this cluster's settings and write a first site file to edit."""
    try:
        facts = ask_cluster(cluster=cluster)
    except SlurmError as error:
        reason = " ".join(str(error).partition("\\n")[0].split())[:REASON_SHOWN]  # SLURM's first line, quoted
        raise SiteError(
            f"no SLURM cluster answers here; on a login node of the cluster type: {command('init')} ({reason})"
        ) from error
    wanted_name = name or facts.name
    site_name = wanted_name.removesuffix(".toml")  # with this ending, it would be read as a path
    if to is not None:
        path = to
        site_argument = path_as_site(to)
    elif not site_name or Path(site_name).name != site_name:
        raise SiteError(f"--name {wanted_name!r} is no name of a file; use --to FILE for another folder")
    else:
        path = users_folder() / f"{site_name}.toml"
        site_argument = site_name
    write_new(path, site_text(facts, partition))
    yield f"wrote {path}"
    if facts.accounts_error:
        yield f"your accounts are unknown: {facts.accounts_error}"
    yield f"edit it, then type: {command('doctor', '--site', site_argument)}"
