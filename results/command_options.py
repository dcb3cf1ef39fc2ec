"""Options that several commands on results have."""

import json
from collections.abc import Iterator

import click

from results.errors import ResultsError
from transtailor import cli


def _plan_of(ctx: click.Context) -> dict[str, dict[str, object]]:
    """Return the trials of the run that was typed, by id, as its plan.json has them; {} where there is none."""
    run = cli.typed_run(ctx)
    if run is None:
        return {}
    trials: dict[str, dict[str, object]] = json.loads((run / "plan.json").read_bytes())["trials"]
    return trials


def _arms(ctx: click.Context) -> Iterator[str]:
    """Yield the arms of the run, each once, in the order of the plan."""
    arms: list[str] = []
    for trial in _plan_of(ctx).values():
        arms += [str(trial["arm"]), *([str(trial["head_arm"])] if trial.get("head_arm") else [])]
    yield from dict.fromkeys(arms)


def _settings(ctx: click.Context) -> Iterator[str]:
    """Yield the settings that `--over` takes."""
    from results.arms.averaging import settings_to_average
    from results.store.reader import load

    run = cli.typed_run(ctx)
    if run is not None:
        with load(run) as tables:
            yield from settings_to_average(tables)


complete_arms = cli.complete(_arms)
complete_settings = cli.complete(_settings)

against_option = cli.option(
    "--against", metavar="ARM", shell_complete=complete_arms,
    help="the arm that all others are compared with: its name, or a label that only it has",
)  # fmt: skip
at_option = cli.option("--at", type=cli.FRACTION, metavar="FRACTION", help="share of the MACs to remove, such as 0.2")
over_option = cli.option(
    "--over", multiple=True, metavar="SETTING", shell_complete=complete_settings,
    help="average over this setting, such as optimisation.learning_rate, instead of telling arms apart by it "
    "(repeatable)",
)  # fmt: skip


def refuse_points(option: str, difference: float | None) -> None:
    """Raise ResultsError if a difference of scores, which are fractions, was typed in points."""
    if difference is not None and abs(difference) >= 1:
        raise ResultsError(
            f"{option} {difference:g}: scores are fractions; for {difference:g} points type {difference / 100:g}"
        )
