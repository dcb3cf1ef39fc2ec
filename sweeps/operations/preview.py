"""The output of `--plan`: the trials of a plan, what they share, what they cost, and the state of the run."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from results.arms.names import PLACES
from results.sign_flip import SIGNIFICANCE, pairs_needed, smallest_p
from results.text.number_format import SCALES
from results.text.page import Part, Shown, Table, answer_table
from results.text.settings import leaves
from sweeps.errors import RunFolderError
from sweeps.operations.plan_time import Estimate, probe
from sweeps.planning.cost import PlanCost, cost_of, planned_work
from sweeps.planning.devices import devices_text, slurm_site
from sweeps.planning.hours import Capacity, durations_in, measured_steps, precisions_of
from sweeps.planning.plan import Plan, PlannedTrial, refuse_missing_files, refuse_unfit_networks
from sweeps.planning.this_machine import most_at_once, usable_gpus
from sweeps.planning.trial_data import splits_text
from sweeps.run.relaunch import check_may_resume, difference, this_code_digest
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.spec.spec import Spec
from tailor.common.errors import ConfigError
from tailor.config.optimisation import weights_text
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedStage
from tailor.execution.missing import DataMissing
from transtailor.files import existing_above, is_there
from transtailor.lines import lines_of
from transtailor.plural import counted
from transtailor.shell import command as to_type

if TYPE_CHECKING:
    from hpc.sites.site import Site

IN_COLUMNS = ("network", "data.name", "seed")
SHOWN = (
    "trial_id", "arm", "network", "dataset", "seed", "points", "stages", "state",
    Shown("settings", is_text=False),  # not as texts are, which are cut
)  # fmt: skip
USUAL = ("trial_id", "arm", "settings", "network", "dataset", "seed", "state", "stages", "points")
SHOWN_IF_THEY_DIFFER = ("settings", "network", "dataset")
ARMS_SHOWN = ("arm", "problems", "seeds", Shown("points_of_a_seed", "points of a seed"), "trials")
BY_MACS, BY_SECONDS = "MACs of images, not measured", "the seconds of measured stages"


def preview(
    plan: Plan,
    site: str,
    *,
    runs: Path,
    cache: Path,
    command: Sequence[str] | None,
    extend: bool = False,
    update_code: bool = False,
) -> Iterator[Part]:
    """Yield a page to print, of which programs get the trials; reads the cache and the runs, writes nothing.

    Args:
        site: its capacity gives the time, and on SLURM the texts of the jobs that would be submitted are shown.
        runs: folder of the run folders; their measurements give the durations of stages.
        cache: folder of finished stages.
        command: the words that were typed, with `--plan`; None: none were, so no command to measure a trial is shown.
        extend, update_code: as the launch will have them: whether it may add trials to the run, or use other code.

    Raises:
        RunFolderError: the run exists and is damaged.
        SiteError: no such site, or a trial does not fit there.
    """
    run = RunFolder(runs / plan.name)
    cluster_site = slurm_site(site)
    job_scripts: list[tuple[str, str]] = []
    idle_gpus = 0
    if cluster_site is None:
        slots = 1 if site == "serial" else max(1, min(most_at_once(plan.resources), plan.most_live))
        cores_per_trial = plan.resources.ranks * plan.resources.threads_per_rank
        capacity = Capacity(max_workers=slots, units_per_worker=cores_per_trial, worker="slot")
        if not plan.resources.gpus_per_rank:
            idle_gpus = usable_gpus()
    else:
        from sweeps.slurm.cluster_run import capacity_of, job_texts

        job_scripts = job_texts(run, cluster_site, plan.resources, this_code_digest())
        capacity = capacity_of(cluster_site, plan.resources, plan.most_live)
    finished, state = _state_of_run(run, plan, extend=extend, update_code=update_code)
    # Without sharing every trial has its own empty cache, whatever is in the common one.
    cached_keys = set() if plan.private_cache else set(Cache(cache).stored_keys())
    is_cached = cached_keys.__contains__
    durations = durations_in(runs, plan.resources, precisions_of(plan))
    work_of = planned_work if durations is None else durations.seconds
    cost = cost_of(plan.trials, is_cached, work_of)
    yield from _tables(plan, finished)
    yield from _summary(plan, cost, site, BY_MACS if durations is None else BY_SECONDS)
    yield from (
        f"images    {splits_text(trial.settings for trial in plan.trials)}",
        f"devices   {devices_text(plan.resources, cluster_site, idle_gpus)}",
    )
    yield from _folder_lines(cluster_site, site, runs)
    if plan.grows is None:
        yield _what_can_be_settled(plan)
    else:
        yield from _what_is_added(plan.grows, work_of, is_timed=durations is not None)
    yield from lines_of(f"run       {state}")
    if durations is None and not plan.resources.gpus_per_rank:
        yield from lines_of(f"time      not known: no run below {runs} tells it{probe(plan, command)}")
        yield answer_table("plan", [], "times")
    else:
        estimate = Estimate(plan, durations or measured_steps(plan), finished, is_cached, cost)
        yield from estimate.sources(command)
        yield from estimate.table(capacity)
    for title, text in job_scripts:
        yield from ("", f"--- {title}", *lines_of(text))
    yield from _refusals(plan)


def _folder_lines(site: "Site | None", name: str, runs: Path) -> Iterator[str]:
    """Say what the doctor has found about the file system of the runs; nothing on one machine."""
    if site is not None:
        yield f"folder    {_folder_text(site, name, existing_above(runs))}"


def _folder_text(site: "Site", name: str, runs: Path) -> str:
    from hpc.doctor.names import mount_of, read_verdict

    tried = Path(site.shared_folder or Path.cwd())  # unless the doctor was given another one
    verdict = read_verdict(runs) or read_verdict(tried)
    if verdict is None or verdict.mount != mount_of(runs):
        other_folder = [] if mount_of(tried) == mount_of(runs) else ["--folder", runs]
        type_this = to_type("doctor", "--site", name, *other_folder)
        return f"not tried whether nodes see each other's files in time; to try it, type: {type_this}"
    advice = f": {verdict.finding.advice}" if verdict.finding.advice else ""
    return f"{verdict.mount}: {verdict.finding.text}{advice} (doctor, {verdict.at[:10]})"


def _what_is_added(spec: Spec, work_of: Callable[[PlannedStage, str], float], *, is_timed: bool) -> Iterator[str]:
    """Say how many trials a sweep that adds trials may have; of [settle] also how long they may take."""
    if spec.settle is None:
        from sweeps.search.plan_lines import plan_lines

        yield from plan_lines(spec)
        return
    from sweeps.driver.display import time_text
    from sweeps.settle.costs import seed_lines

    yield from seed_lines(spec, work_of, time_text if is_timed else None)


def _refusals(plan: Plan) -> Iterator[str]:
    """Say what is not there yet, so that a launch would be refused.

    Raises:
        ConfigError: a network of the user's does not fit its trials.
    """
    try:
        for text in refuse_missing_files(plan):
            yield from lines_of(f"weights   {text}")
    except DataMissing as refusal:
        yield ""
        yield "ids       of trials are not final: they count the digests of data and weights"
        yield from lines_of(f"missing   launching would be refused: {refusal}")
    except ConfigError as refusal:
        yield from lines_of(f"weights   launching would be refused: {refusal}")
    refuse_unfit_networks(plan)


def _state_of_run(run: RunFolder, plan: Plan, *, extend: bool, update_code: bool) -> tuple[set[str], str]:
    """Return the ids of the finished trials, and the state of the run."""
    if not is_there(run.path):
        return set(), f"{run.path} does not exist yet"
    record = open_run(run)
    from results.store.reader import finished_trial_ids

    finished = finished_trial_ids(run.path) & {trial.trial_id for trial in plan.trials}
    state = f"{run.path} exists: {len(finished)} of {len(plan.trials)} trials are finished"
    try:
        check_may_resume(run, record, plan, this_code_digest(), extend=extend, update_code=update_code)
    except RunFolderError as refusal:
        state += f"\nlaunching would be refused: {refusal}"
    else:
        added = difference(record, plan).added if extend else ()
        if added:
            state += f"\nlaunching would extend it by {counted(len(added), 'trial')}"
    return finished, state


def _tables(plan: Plan, finished: set[str]) -> Iterator[Part]:
    """Yield the table of the trials, and that of the arms; in a search, arms are what is confirmed later."""
    yield _table(plan, finished)
    yield ""
    if plan.grows is None or plan.grows.search is None:
        # The arms, in the order of the plan; an arm has one configuration in each problem
        trials_of_arms: dict[str, list[PlannedTrial]] = defaultdict(list)
        for trial in plan.trials:
            trials_of_arms[trial.arm].append(trial)
        records = []
        for arm, trials_of_arm in trials_of_arms.items():
            problems = {_problem(trial) for trial in trials_of_arm}
            seeds = {trial.settings.seed for trial in trials_of_arm}
            points: dict[tuple[object, ...], set[str]] = defaultdict(set)  # of each seed in each problem
            for trial in trials_of_arm:
                points[*_problem(trial), trial.settings.seed].update(stage.key for stage in trial.points)
            most_points = max(len(keys) for keys in points.values())
            counts = {"problems": len(problems), "seeds": len(seeds), "points_of_a_seed": most_points}
            records.append({"arm": arm, **counts, "trials": len(trials_of_arm)})
        yield answer_table("plan", records, "arms", shown=ARMS_SHOWN)
        yield ""
    else:
        yield answer_table("plan", [], "arms")


def _table(plan: Plan, finished: set[str]) -> Table:
    """Return the table of the trials, with the settings that vary within the arm of each."""
    records: list[dict[str, Any]] = []
    varied_keys = _varied_keys(plan.trials)
    tables_of_arm = {arm: {key.partition(".")[0] for key in keys} for arm, keys in varied_keys.items()}
    for trial in plan.trials:
        settings = trial.settings
        tables = {name: value for name, value in settings.values.items() if name in tables_of_arm[trial.arm]}
        keys = varied_keys[trial.arm]
        varied_settings = " ".join(f"{key}={value}" for key, value in leaves(tables) if key in keys)
        state = "finished" if trial.trial_id in finished else "to run"
        records.append({
            "trial_id": trial.trial_id, "arm": trial.arm, "network": settings.network, "dataset": settings.dataset,
            "train_images": trial.train_images, "seed": settings.seed, "points": len(trial.points),
            "stages": len(trial.stages), "state": state, "settings": varied_settings,
        })  # fmt: skip
    usual = []
    for name in USUAL:
        if name not in SHOWN_IF_THEY_DIFFER or len({record[name] for record in records}) > 1:
            usual.append(name)
    return answer_table("plan", records, "trials", shown=SHOWN, usual=usual)


def _varied_keys(trials: tuple[PlannedTrial, ...]) -> dict[str, set[str]]:
    """Return arm -> dotted keys with more than one value among its trials, which change results and have no column."""
    varied_keys: dict[str, set[str]] = {}
    first_values: dict[tuple[str, str], Any] = {}  # by arm and key
    last_tables: dict[tuple[str, str], Any] = {}  # by arm and name of the table; the next is usually the same
    for trial in trials:
        arm = trial.arm
        varied_keys_of_arm = varied_keys.setdefault(arm, set())
        for name, table in trial.settings.values.items():
            if (arm, name) in last_tables and last_tables[arm, name] == table:
                continue
            last_tables[arm, name] = table
            for key, value in leaves({name: table}):
                if first_values.setdefault((arm, key), value) != value:
                    varied_keys_of_arm.add(key)
    return {arm: keys.difference(IN_COLUMNS, PLACES) for arm, keys in varied_keys.items()}


def _problem(trial: PlannedTrial) -> tuple[str, str, int | None]:
    return trial.settings.network, trial.settings.dataset, trial.train_images


def _summary(plan: Plan, cost: PlanCost, site: str, expected_by: str) -> Iterator[Part]:
    """Yield what sharing saves, and what the plan needs; `expected_by`: what its cost counts."""
    if not plan.private_cache:
        # What sharing saves against each baseline, the usual way to work first
        records: list[dict[str, Any]] = []
        for baseline in cost.baselines.leading_first():
            records.append(
                {"against": baseline.name, "factor": baseline.factor, "cost_separate": baseline.separate,
                 "cost_shared": baseline.shared, "expected_by": expected_by}
            )  # fmt: skip
        yield answer_table("plan", records, "sharing", shown=("against", "factor"))
        yield ""
    else:
        yield answer_table("plan", [], "sharing")
    resources = plan.resources
    ranks = f"{counted(resources.ranks, 'rank')} of {counted(resources.threads_per_rank, 'core')}"
    yield f"sweep     {plan.name}: {counted(len(plan.trials), 'trial')}, each on {ranks}, on site {site}"
    asked = f"{cost.stages_asked} asked for, {cost.stages_distinct} distinct, {cost.stages_cached} already cached"
    yield f"stages    {asked}"
    metrics = {SCALES[name].noun for name in (trial.settings.values.get("metric") for trial in plan.trials) if name}
    if metrics:
        yield f"metric    {' and '.join(sorted(metrics))}, which decides and is compared"
    # Name each class with its weight, of each data set whose trials have such weights
    lines: dict[str, None] = {}  # each once
    for trial in plan.trials:
        weights = trial.settings.values["optimisation"]["class_weights"]
        if isinstance(weights, dict):
            lines[f"classes   {trial.settings.dataset}: {weights_text(weights)}"] = None
    yield from lines
    if plan.private_cache:
        stored_bytes = sum(stage.stored_bytes for trial in plan.trials for stage in trial.stages)
        yield "sharing   off: every trial computes all of its stages"
        yield f"disk      {decimal(stored_bytes)} at most"
        return
    usual = cost.baselines.leading_first()[0]
    yield f"sharing   saves a factor of {usual.factor_text} over {usual.name}"
    yield f"          (expected by {expected_by}); {_left_to_do(cost)}"
    yield f"disk      {decimal(cost.new_bytes)} more for stages, {decimal(cost.stored_bytes)} in all (expected)"


def _left_to_do(cost: PlanCost) -> str:
    """Say how much of the shared work is not cached yet."""
    if cost.work_left == 0.0:
        return "all of it is cached"
    if cost.stages_cached == 0:
        return "none of it is cached yet"
    return f"{cost.work_left / cost.work_shared:.0%} of it is not cached yet"


def _what_can_be_settled(plan: Plan) -> str:
    """Say the smallest p that a sign-flip test of pairs with the same seed can reach: 2 / 2^n for n seeds.

    Networks and data sets add none: they are averaged within a seed.
    With Holm's correction p is as many times larger as `compare` has rows for a network and data set: each arm at each
    budget, that of heads on which paths begin too, but the one that the others are compared with.
    """
    seeds: dict[tuple[object, ...], dict[tuple[object, ...], set[int]]] = defaultdict(lambda: defaultdict(set))
    for trial in plan.trials:
        for stage in trial.points:
            row = trial.arm_of(stage.point), stage.asked_removed_macs_fraction
            seeds[_problem(trial)][row].add(trial.settings.seed)
    numbers = [len(seeds_of_row) for rows in seeds.values() for seeds_of_row in rows.values()]
    fewest_seeds, most_seeds = min(numbers), max(numbers)
    comparisons = max(1, max(map(len, seeds.values())) - 1)
    alone = smallest_p(fewest_seeds)
    corrected = min(1.0, comparisons * alone)
    if most_seeds == fewest_seeds:
        text = f"seeds     {fewest_seeds} of each arm: a paired comparison"
    else:
        text = f"seeds     {fewest_seeds} to {most_seeds} of an arm: with {fewest_seeds}, a paired comparison"
    text += f" can reach p = {alone:.3g} at best"
    if comparisons > 1:
        text += f", and p = {corrected:.3g} as one of {comparisons} in compare (Holm)"
    if corrected > SIGNIFICANCE:
        text += f"; p < {SIGNIFICANCE:g} needs {pairs_needed(SIGNIFICANCE / comparisons)} seeds"
    return text
