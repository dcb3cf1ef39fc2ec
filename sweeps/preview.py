"""What `--plan` shows: the trials of a plan, what they share, what they cost, and the run that is there already."""

from collections.abc import Iterator
from pathlib import Path

from results.settings import leaves
from sweeps.errors import RunFolderError
from sweeps.plan import Cost, Plan, PlannedTrial, cost_of
from sweeps.relaunch import check_may_go_on, this_code_digest
from sweeps.run_folder import RunFolder, open_run
from tailor.cache import Cache

IN_COLUMNS = ("network", "data.name", "seed")


def preview(plan: Plan, *, runs: Path, cache: Path, site: str) -> Iterator[str]:
    """Lines to print; reads the cache and the run, writes nothing.

    Raises:
        RunFolderError: the run is there and damaged.
    """
    run = RunFolder(runs / plan.name)
    finished, state = _existing(run, plan)
    cached = Cache(cache)
    # Without sharing every trial begins with an empty cache of its own, whatever lies in the common one.
    cost = cost_of(plan.trials, (lambda _: False) if plan.private_cache else cached.has)
    yield from _table(plan, finished)
    yield ""
    yield from _summary(plan, cost, site)
    yield f"run       {state}"


def _existing(run: RunFolder, plan: Plan) -> tuple[set[str], str]:
    """Ids of the finished trials, and what launching would do."""
    if not run.path.exists():
        return set(), f"{run.path} is not there yet"
    record = open_run(run)
    from results.reader import finished_trial_ids

    finished = finished_trial_ids(run.path) & {trial.trial_id for trial in plan.trials}
    state = f"{run.path} is there: {len(finished)} of {len(plan.trials)} trials are finished"
    try:
        check_may_go_on(run, record, plan, this_code_digest(), extend=False, update_code=False)
    except RunFolderError as refusal:
        state += f"\nlaunching would be refused: {refusal}"
    return finished, state


def _table(plan: Plan, finished: set[str]) -> Iterator[str]:
    rows = [
        ("trial", "label", "network", "data", "seed", "points", "stages", "state", "settings that vary in its label")
    ]
    varying = _varying(plan.trials)
    for trial in plan.trials:
        config = trial.config
        settings = " ".join(f"{key}={value}" for key, value in leaves(config) if key in varying[trial.label])
        state = "finished" if trial.trial_id in finished else "to run"
        names = (trial.trial_id, trial.label, config["network"], config["data"]["name"], str(config["seed"]))
        rows.append((*names, str(len(trial.points)), str(len(trial.stages)), state, settings))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _varying(trials: tuple[PlannedTrial, ...]) -> dict[str, set[str]]:
    """Label -> dotted keys that have more than one value among its trials and no column of their own."""
    values: dict[str, dict[str, set[str]]] = {}
    for trial in trials:
        of_label = values.setdefault(trial.label, {})
        for key, value in leaves(trial.config):
            of_label.setdefault(key, set()).add(repr(value))
    return {
        label: {key for key, found in of_label.items() if len(found) > 1 and key not in IN_COLUMNS}
        for label, of_label in values.items()
    }


def _summary(plan: Plan, cost: Cost, site: str) -> Iterator[str]:
    resources = plan.resources
    ranks = f"{resources.ranks} rank{'s' if resources.ranks > 1 else ''} of {resources.threads_per_rank} core(s)"
    yield f"sweep     {plan.name}: {len(plan.trials)} trials, each on {ranks}, on site {site}"
    asked = f"{cost.stages_asked} asked for, {cost.stages_distinct} distinct, {cost.stages_cached} already cached"
    yield f"stages    {asked}"
    if plan.private_cache:
        yield "sharing   off: every trial computes all of its stages"
        yield f"disk      {megabytes(sum(stage.stored_bytes for t in plan.trials for stage in t.stages))} at most"
        return
    left = cost.work_left / cost.work_shared if cost.work_shared else 0.0
    yield (
        f"sharing   {cost.sharing_factor:.2f} times less work than each of the {cost.points_distinct} distinct "
        f"operating points from the start (expected); {left:.2f} of the shared work is left to do"
    )
    yield f"disk      {megabytes(cost.new_bytes)} more for stages, {megabytes(cost.stored_bytes)} in all (expected)"


def megabytes(size_bytes: int) -> str:
    """A size for people, in units of 1,000."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} kB"
