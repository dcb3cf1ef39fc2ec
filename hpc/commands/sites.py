"""List the named sites."""

from hpc.errors import SiteError
from hpc.sites.site import SiteFile, read_site, site_files, users_folder
from transtailor import cli
from transtailor.errors import MISTAKE, SUCCESS
from transtailor.lines import lines_of
from transtailor.shell import command
from transtailor.terminal import say


@cli.command(example="")
def sites() -> int:
    """List the named sites, their files, and what is wrong with them."""
    exit_code = SUCCESS
    for site_file in site_files().values():
        lines, is_valid = _describe(site_file)
        if not is_valid:
            exit_code = MISTAKE
        say("\n".join(lines))
    say(f"your own sites: {users_folder()} ({command('init')} writes one)")
    return exit_code


def _describe(site_file: SiteFile) -> tuple[list[str], bool]:
    """Return lines about one site, and whether its file is valid."""
    lines = [f"{site_file.name}  {site_file.path}"]
    if site_file.hides:
        lines.append(f"    hides {site_file.hides}")
    try:
        site = read_site(site_file.path)
    except SiteError as error:
        lines += [f"    BROKEN: {line}" for line in lines_of(str(error))]
        return lines, False
    if site.description:
        lines.append(f"    {site.description}")
    memory = "" if site.memory_gb is None else f", {site.memory_gb:g} GB"
    lines.append(f"    {site.cpus_per_node} CPUs, {site.gpus_per_node} GPUs{memory}, {site.walltime_min} min")
    return lines, True
