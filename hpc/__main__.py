"""`python -m hpc`: list sites, write a first site file, print the text of a job, and check a cluster."""

import transtailor.start  # noqa: F401  # first: it checks that the rooms are ours  # isort: skip
import argparse
import math
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from hpc.errors import SiteError, SlurmError
from hpc.sites.site import Need, SiteFile, explain_faults, find_site, path_as_site, read_site, site_files, users_folder
from transtailor.errors import FAILED, INTERRUPTED, MISTAKE, SUCCESS, UserError
from transtailor.files import is_below
from transtailor.lines import lines_of
from transtailor.shell import command
from transtailor.terminal import CommandParser, ignore_closed_stdout, say

REASON_SHOWN = 160  # characters of SLURM's message


def main(arguments: Sequence[str] | None = None, prog: str = "python -m hpc") -> int:
    """Run a command; returns the exit code: `sites` ends with MISTAKE if one is broken. `prog`: what the user typed."""
    before, words = _split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    options = _parser(prog).parse_args(before, argparse.Namespace(words=words))
    try:
        with ignore_closed_stdout():
            if options.command == "sites":
                return _sites()
            if options.command == "doctor":
                return _doctor(options)
            for line in _init(options) if options.command == "init" else _script(options):
                say(line)
    except (UserError, SlurmError, OSError) as error:
        say(error, to=sys.stderr)
        return MISTAKE
    return SUCCESS


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description="Clusters and their jobs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sites", help="the sites that have a name, their files, and what is wrong with them")
    init = commands.add_parser("init", help="read this cluster's settings and write a first site file to edit")
    init.add_argument("--name", help="of the site (default: the cluster's)")
    init.add_argument("--to", type=Path, metavar="FILE", help="write this file instead of NAME.toml among your sites")
    init.add_argument("--cluster", help="one of several clusters behind this login node (sbatch --clusters)")
    init.add_argument("--partition", help="for jobs of this partition (default: the cluster's default)")
    script = commands.add_parser(
        "script",
        help="print the text that sbatch would get for a job",
        usage=f"{prog} script SITE [options] -- COMMAND",
    )
    script.add_argument("site", metavar="SITE", help="name of a site, or the path of its file")
    script.add_argument("--cpus", type=int, help="per node (default: all; so are the next two)")
    script.add_argument("--memory-gb", type=float)
    script.add_argument("--gpus", type=int)
    script.add_argument("--nodes", type=int)
    script.add_argument("--walltime-min", type=int, help="(default: the site's longest)")
    script.add_argument("--signal-before-s", type=int, help="how long before its walltime the job gets USR2")
    script.add_argument("--job-name")
    script.add_argument("--log-folder", type=lambda text: Path(text).absolute(), default=Path.cwd())
    script.add_argument("--dependency", help="such as afterany:123")
    script.add_argument("--array-size", type=int, help="elements of a job array")
    script.add_argument("--no-requeue", dest="requeue", action="store_false", help="a lost job is not started again")
    doctor = commands.add_parser("doctor", help="check, with small jobs, what a sweep needs at a site")
    doctor.add_argument("--site", required=True, metavar="SITE", help="name of a site, or the path of its file")
    doctor.add_argument("--folder", type=Path, help="one that all nodes see (default: shared_folder, or else this one)")
    doctor.add_argument("--limit-s", type=_seconds, default=300.0, help="how long a job may wait in the queue (300)")
    doctor.add_argument(
        "--thorough", action="store_true", help="all GPUs of two nodes, a real walltime's signal: some minutes more"
    )
    return parser


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0, such as 300")


def _split_at_dashes(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The arguments before the first `--`, and the words of the command after it.

    >>> _split_at_dashes(["script", "mine", "--", "nvidia-smi", "-L"])
    (['script', 'mine'], ['nvidia-smi', '-L'])
    """
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def _sites() -> int:
    files = site_files()
    faults = 0
    for site_file in files.values():
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


def _init(options: argparse.Namespace) -> Iterator[str]:
    from hpc.slurm.first_site import ask_cluster, partition_notes, site_text, write_new

    try:
        cluster = ask_cluster(cluster=options.cluster)
    except SlurmError as error:
        reason = " ".join(str(error).partition("\\n")[0].split())[:REASON_SHOWN]  # SLURM's first line, quoted
        init = command("init")
        raise SiteError(
            f"no SLURM cluster answers here; on a login node of the cluster type: {init} ({reason})"
        ) from error
    given = options.name or cluster.name
    name = given.removesuffix(".toml")  # with it, it would be read as a path
    path = options.to or users_folder() / f"{name}.toml"
    if options.to is None and (not name or Path(name).name != name):
        raise SiteError(f"--name {given!r} is no name of a file; use --to FILE for another folder")
    partition = cluster.partition(options.partition)
    write_new(path, site_text(cluster, options.partition))
    yield f"wrote {path}"
    notes = [f"partition {partition.name}: {text}" for text in partition_notes(partition)]
    yield from (f"missing: {text}" for text in (*cluster.missing, *notes))
    yield f"edit it, then type: {command('doctor', '--site', name if options.to is None else path_as_site(path))}"


def _doctor(options: argparse.Namespace) -> int:
    from hpc.doctor.board import Checklist
    from hpc.doctor.login import Doctor

    site = find_site(options.site)
    parent = (options.folder or Path(site.shared_folder or Path.cwd())).absolute()
    if site.shared_folder is not None and not is_below(parent, Path(site.shared_folder)):
        raise SiteError(f"--folder {options.folder} is not below the site's shared_folder = {site.shared_folder}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    board = Checklist()
    board.print_lines(f"site {options.site}; its files are in {parent}")
    try:
        is_sound = Doctor(site, parent, board, options.limit_s, options.thorough).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    unchecked = f"; {board.unknowns} not checked or not needed (–)" if board.unknowns else ""
    board.print_lines(
        ("nothing is missing" if is_sound else f"{board.misses} missing: see what follows ->") + unchecked
    )
    return SUCCESS if is_sound else FAILED


def _script(options: argparse.Namespace) -> Iterator[str]:
    from hpc.slurm.script import script

    if not options.words:
        raise SiteError("no command; type it after --, such as: " + command("script", options.site, "--", "hostname"))
    given = {key: value for key in Need.model_fields if (value := getattr(options, key, None)) is not None}
    try:
        need = Need.model_validate(given)
    except ValidationError as error:
        raise SiteError("no such job is possible:\n" + "\n".join(explain_faults(error, Need))) from error
    yield script(find_site(options.site), need, options.words)


if __name__ == "__main__":
    sys.exit(main())
