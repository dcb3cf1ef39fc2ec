"""Options that several commands on sweeps have."""

from results.command_output import output_options
from transtailor import cli

AGAIN_OPTION = "--again"  # only some trials of a run
cache_option = cli.option("--cache", type=cli.FOLDER, default="cache", help="folder of finished stages")


def plan_options(function: cli.Function) -> cli.Function:
    """Give a command the argument and the options that say which sweep is meant, and how it is continued."""
    for decorate in reversed(_OF_PLAN):
        function = decorate(function)
    return function


def run_options(function: cli.Function) -> cli.Function:
    """Give a command what `plan_options` gives, and the options of a launch."""
    for decorate in reversed(_OF_LAUNCH):
        function = decorate(function)
    return plan_options(output_options(function))


_OF_PLAN = (
    cli.argument("spec", type=cli.PATH, required=False, default="demo"),
    cli.option(
        "--site", default="local",
        help="where trials run: local = Ray on this machine, serial = one after the other without Ray, or the name "
        "or file of a SLURM site",
    ),
    cli.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE",
        help="change the spec: trial.optimisation.epochs=3, axes.seed=[0,1], resources.ranks=1 (repeatable)",
    ),
    cli.option(
        "--import", "imports", multiple=True, type=cli.FILE, metavar="FILE",
        help="a module of your own with a method, criterion, network, data set, ... (repeatable)",
    ),
    cli.option("--name", help="name of the sweep and its run folder, instead of the spec's"),
    cli.option("--runs", type=cli.FOLDER, default="runs", help="folder with all runs"),
    cache_option,
    cli.option(
        "--only", multiple=True, metavar="TRIAL",
        help="run only this trial (id, or first digits; repeatable); give it its own run with --name",
    ),
    cli.option(
        AGAIN_OPTION, multiple=True, metavar="TRIAL",
        help="run only these trials of an existing run now (id, or first digits; repeatable)",
    ),
    cli.option("--extend", is_flag=True, help="add trials to a run; all its old trials must still be in the spec"),
    cli.option("--update-code", is_flag=True, help="continue a run although the code has changed"),
    cli.option(
        "--no-sharing", is_flag=True,
        help="let each trial compute all of its stages, as one script per trial, to measure what sharing saves",
    ),
)  # fmt: skip


_OF_LAUNCH = (
    cli.option("--detach", is_flag=True, help="on SLURM: submit and return; the same command attaches again"),
    cli.option("--max-disk-gb", type=float, metavar="GB", help="start no trial while the cache is nearly this large"),
    cli.option("--plan", is_flag=True, help="show trials and cost; run and write nothing"),
    cli.option("--retry", is_flag=True, help="SPEC is a run: launch it as it was last; failed trials run again"),
)
