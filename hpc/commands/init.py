"""Read this cluster's settings and write a first site file."""

from collections.abc import Iterator
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import path_as_site, users_folder
from hpc.slurm.cluster_facts import ask_cluster
from hpc.slurm.first_site import partition_notes, site_text, write_new
from transtailor import cli
from transtailor.shell import command

REASON_SHOWN = 160  # characters of SLURM's message


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
