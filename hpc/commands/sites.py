"""The sites that have a name."""

from hpc.errors import SiteError
from hpc.sites.site import SiteFile, read_site, site_files, users_folder
from transtailor import cli
from transtailor.errors import MISTAKE, SUCCESS
from transtailor.lines import lines_of
from transtailor.shell import command
from transtailor.terminal import say


@cli.command(example="")
def sites() -> int:
    """The sites that have a name, their files, and what is wrong with them."""
    faults = 0
    for site_file in site_files().values():
        lines, sound = _description(site_file)
        faults += not sound
        say("\n".join(lines))
    say(f"your own sites: {users_folder()} ({command('init')} writes one)")
    return MISTAKE if faults else SUCCESS


def _description(site_file: SiteFile) -> tuple[list[str], bool]:
    """Lines about one site, and whether its file is valid."""
    lines = [f"{site_file.name}  {site_file.path}"]
    if site_file.hides:
        lines.append(f"    hides {site_file.hides}")
    try:
        site = read_site(site_file.path)
    except SiteError as error:
        return [*lines, *(f"    BROKEN: {line}" for line in lines_of(str(error)))], False
    memory = "" if site.memory_gb is None else f", {site.memory_gb:g} GB"
    lines += [f"    {site.description}"] if site.description else []
    lines.append(f"    {site.cpus_per_node} CPUs, {site.gpus_per_node} GPUs{memory}, {site.walltime_min} min")
    return lines, True
