"""Write a first site file for the cluster of this login node, from SLURM's own settings."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import Site
from hpc.slurm.cluster_facts import ClusterFacts, Nodes, Partition
from hpc.slurm.partition_rules import hints
from transtailor.documents import read_toml
from transtailor.files import deny_others_writing, write_new_file

UNLIMITED_WALLTIME_MIN = 24 * 60  # written if the partition sets no limit


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
    """Write a new file, with the folders above it, that only this user may change; raises SiteError if it exists."""
    try:
        with deny_others_writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new_file(path, text)
    except FileExistsError as error:
        raise SiteError(f"{path} exists already and is not changed; choose another --name or --to") from error
