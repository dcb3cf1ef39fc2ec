"""Read this cluster's settings and write a first site file."""

from collections.abc import Iterator
from pathlib import Path

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import path_as_site, users_folder
from hpc.slurm.first_site import ask_cluster, partition_notes, site_text, write_new
from transtailor import cli
from transtailor.shell import command

REASON_SHOWN = 160  # characters of SLURM's message


@cli.command(example="--name mycluster")
@cli.option("--name", help="of the site (default: the cluster's)")
@cli.option("--to", type=cli.FILE, metavar="FILE", help="write this file instead of NAME.toml among your sites")
@cli.option("--cluster", help="one of several clusters behind this login node (sbatch --clusters)")
@cli.option("--partition", help="for jobs of this partition (default: the cluster's default)")
def init(name: str | None, to: Path | None, cluster: str | None, partition: str | None) -> Iterator[str]:
    """Read this cluster's settings and write a first site file to edit."""
    try:
        found = ask_cluster(cluster=cluster)
    except SlurmError as error:
        reason = " ".join(str(error).partition("\\n")[0].split())[:REASON_SHOWN]  # SLURM's first line, quoted
        raise SiteError(
            f"no SLURM cluster answers here; on a login node of the cluster type: {command('init')} ({reason})"
        ) from error
    given = name or found.name
    site_name = given.removesuffix(".toml")  # with it, it would be read as a path
    path = to or users_folder() / f"{site_name}.toml"
    if to is None and (not site_name or Path(site_name).name != site_name):
        raise SiteError(f"--name {given!r} is no name of a file; use --to FILE for another folder")
    of_jobs = found.partition(partition)
    write_new(path, site_text(found, partition))
    yield f"wrote {path}"
    notes = [f"partition {of_jobs.name}: {text}" for text in partition_notes(of_jobs)]
    yield from (f"missing: {text}" for text in (*found.missing, *notes))
    yield f"edit it, then type: {command('doctor', '--site', site_name if to is None else path_as_site(path))}"
