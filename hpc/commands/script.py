"""The text of a job for a site."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from hpc.errors import SiteError
from hpc.sites.site import Need, explain_faults, find_site
from hpc.slurm.script import script as script_text
from transtailor import cli
from transtailor.shell import command


@cli.command(example="mycluster -- nvidia-smi")
@cli.argument("site")
@cli.option("--cpus", type=int, help="per node (default: all; so are the next two)")
@cli.option("--memory-gb", type=float, help="per node")
@cli.option("--gpus", type=int, help="per node")
@cli.option("--nodes", type=int, help="how many (default: 1)")
@cli.option("--walltime-min", type=int, help="(default: the site's longest)")
@cli.option("--signal-before-s", type=int, help="how long before its walltime the job gets USR2")
@cli.option("--job-name", help="of the job in the queue (default: transtailor)")
@cli.option("--log-folder", type=cli.FOLDER, default=".", help="folder of the job's output")
@cli.option("--dependency", help="such as afterany:123")
@cli.option("--array-size", type=int, help="elements of a job array")
@cli.option("--requeue/--no-requeue", default=True, help="whether a lost job is started again")
@cli.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
def script(site: str, words: tuple[str, ...], log_folder: Path, **options: Any) -> Iterator[str]:
    """Print the text that sbatch would get for a job that runs COMMAND; SITE is a name or the path of a file."""
    if not words:
        raise SiteError("no command; type it after --, such as: " + command("script", site, "--", "hostname"))
    typed_options = {key: value for key, value in options.items() if value is not None}
    try:
        need = Need.model_validate({**typed_options, "log_folder": log_folder.absolute()})
    except ValidationError as error:
        raise SiteError("no such job is possible:\n" + "\n".join(explain_faults(error, Need))) from error
    yield script_text(find_site(site), need, words)
