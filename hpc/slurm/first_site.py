"""Write a first site file for the cluster of this login node, from SLURM's own settings."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import Site, path_as_site, users_folder
from hpc.slurm.cluster_facts import ClusterFacts, Nodes, Partition, ask_cluster
from hpc.slurm.partition_rules import hints
from transtailor import cli
from transtailor.documents import read_toml
from transtailor.files import deny_others_writing, write_new_file
from transtailor.shell import command

UNLIMITED_WALLTIME_MIN = 24 * 60  # written if the partition sets no limit
REASON_SHOWN = 160  # characters of SLURM's message


def site_text(cluster: ClusterFacts, partition_name: str | None = None) -> str:
    """Return the text of a site file for one partition of the cluster, with comments on what to check.

    Raises:
        SiteError: there is no such partition.
        SlurmError: the cluster's answers do not make a valid site.
    """
    from jinja2 import StrictUndefined, Template

    partition = cluster.partition(partition_name)
    accounts = cluster.accounts_for(partition)
    limits = cluster.limits_for(partition)
    open_qos: list[str] = []
    for account in accounts:
        open_qos += account.qos
    template = Template(
        Path(__file__).with_name("first_site.toml.j2").read_text(encoding="utf-8"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined,
    )  # fmt: skip
    text: str = template.render(
        cluster=cluster,
        partition=partition,
        kind=_limit_nodes(partition.kind, limits.tres),
        tres=", ".join(f"{name}={number}" for name, number in limits.tres.items()),
        unused=partition_notes(partition),
        limits=limits,
        walltime_min=UNLIMITED_WALLTIME_MIN if limits.walltime_min is None else max(limits.walltime_min, 1),
        all_accounts=_unique(account.name for account in cluster.accounts),
        accounts=_unique(account.name for account in accounts),
        first_qos=accounts[0].first_qos if accounts else "",
        is_qos_needed=bool(accounts) and accounts[0].first_qos not in ("", accounts[0].default_qos),
        qos=_unique(open_qos),
        features=sorted({kind.features for kind in partition.kinds}),
        home=str(Path.home()),
        quoted=json.dumps,
    )
    try:
        Site.model_validate(read_toml(text))
    except ValueError as error:  # not TOML, or not a site
        raise SlurmError(f"the answers of cluster {cluster.name} make no valid site: {error}\n{text}") from error
    return text


def _limit_nodes(kind: Nodes, tres: Mapping[str, int]) -> Nodes:
    """Return what the limits of a quality of service let one job have of a node."""
    gpus = kind.gpus
    if gpus is not None:
        name, number = gpus
        number = min(number, tres.get("gres/gpu", number), tres.get(f"gres/{name}", number))
        gpus = (name, number) if number else None
    cpus = max(1, min(kind.cpus, tres.get("cpu", kind.cpus)))
    return replace(kind, cpus=cpus, memory_mb=min(kind.memory_mb, tres.get("mem", kind.memory_mb)), gpus=gpus)


def partition_notes(partition: Partition) -> list[str]:
    """Return what the user has to know of a partition, or do, before jobs of a sweep run there."""
    return [*partition.faults, *hints(partition.rules)]


def _unique(names: Iterable[str]) -> list[str]:
    """Return the names in their order, each once."""
    return list(dict.fromkeys(names))


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
    partition_of_jobs = facts.partition(partition)
    write_new(path, site_text(facts, partition))
    yield f"wrote {path}"
    for text in facts.missing:
        yield f"missing: {text}"
    for text in partition_notes(partition_of_jobs):
        yield f"missing: partition {partition_of_jobs.name}: {text}"
    yield f"edit it, then type: {command('doctor', '--site', site_argument)}"
