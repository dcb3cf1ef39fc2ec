"""Check what a sweep needs at a site."""

import math
import signal
from pathlib import Path

from hpc.doctor.login import Doctor
from hpc.errors import SiteError
from hpc.sites.site import find_site
from transtailor import cli
from transtailor.errors import FAILED, INTERRUPTED, SUCCESS
from transtailor.files import is_below
from transtailor.terminal import say


@cli.command(example="--site mycluster")
@cli.option("--site", required=True, help="name of a site, or the path of its file")
@cli.option("--folder", type=cli.FOLDER, help="folder that all nodes see (default: shared_folder, or else this folder)")
@cli.option("--limit-s", type=float, default=300.0, help="how long a job may wait in the queue")
def doctor(site: str, folder: Path | None, limit_s: float) -> int:
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
    say(f"site {site}; its files are in {parent}")
    examination = Doctor(site_settings, parent, limit_s)
    try:
        is_sound = examination.run()
    except KeyboardInterrupt:
        return INTERRUPTED
    summary = "nothing is missing" if is_sound else f"{examination.misses} missing: see what follows ->"
    if examination.unknowns:
        summary += f"; {examination.unknowns} not checked or not needed (–)"
    say(summary)
    return SUCCESS if is_sound else FAILED
