"""Check what a sweep needs at a site."""

import math
import signal
from pathlib import Path

from hpc.doctor.checklist import Checklist
from hpc.doctor.login import Doctor
from hpc.errors import SiteError
from hpc.sites.site import find_site
from transtailor import cli
from transtailor.errors import FAILED, INTERRUPTED, SUCCESS
from transtailor.files import is_below


@cli.command(example="--site mycluster")
@cli.option("--site", required=True, help="name of a site, or the path of its file")
@cli.option("--folder", type=cli.FOLDER, help="folder that all nodes see (default: shared_folder, or else this folder)")
@cli.option("--limit-s", type=float, default=300.0, help="how long a job may wait in the queue")
@cli.option(
    "--thorough", is_flag=True, help="also all GPUs of two nodes, and the signal of a real walltime: some minutes more"
)
def doctor(site: str, folder: Path | None, limit_s: float, thorough: bool) -> int:
    """Check, with small jobs, what a sweep needs at a site."""
    if not 0 < limit_s < math.inf:
        raise SiteError(f"--limit-s {limit_s:g}: expected seconds, more than 0, such as 300")
    site_settings = find_site(site)
    shared_folder = site_settings.shared_folder
    parent = (folder or Path(shared_folder or Path.cwd())).absolute()
    if shared_folder is not None and not is_below(parent, Path(shared_folder)):
        raise SiteError(f"--folder {folder} is not below the site's shared_folder = {shared_folder}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    checklist = Checklist()
    checklist.print_lines(f"site {site}; its files are in {parent}")
    try:
        is_sound = Doctor(site_settings, parent, checklist, limit_s, thorough).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    summary = "nothing is missing" if is_sound else f"{checklist.misses} missing: see what follows ->"
    if checklist.unknowns:
        summary += f"; {checklist.unknowns} not checked or not needed (–)"
    checklist.print_lines(summary)
    return SUCCESS if is_sound else FAILED
