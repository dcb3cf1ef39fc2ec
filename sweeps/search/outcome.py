"""What a search costs at least and at most, and what it has found: lines for a person."""

from collections.abc import Callable, Iterator

from results.statistics.means import mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.planning.plan import cost_of, plan_trial
from sweeps.search.proposals import Proposal, trials_of
from sweeps.search.space import space_of
from sweeps.spec.spec import Spec
from tailor.core.errors import ConfigError
from tailor.execution.dry_run import PlannedStage

MOST_PLANNED = 2_000  # trials of a grid; a larger one is not planned, only counted
CONFIRMED = """
SELECT metric, seed, validation_score, test_score FROM measured_points WHERE trial_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY seed
"""


def plan_lines(spec: Spec, work_of: Callable[[PlannedStage, str], float]) -> Iterator[str]:
    """Say how many trials a search runs, and how its work compares with that of the whole grid.

    `work_of`: as in `cost_of`.
    """
    assert spec.search is not None
    space = space_of(spec)
    size, seeds = sum(space.sizes), len(space.seeds)
    most = min(spec.search.trials or size, size)
    more = "" if spec.confirm is None else f", then the best {spec.confirm.top} with {spec.confirm.seeds} seeds"
    together = min(most, spec.search.batch) if spec.search.reads_scores else most
    yield f"search    {spec.search.sampler}: at most {most} of {size} settings, {together} at a time{more}"
    confirming = 0 if spec.confirm is None else min(spec.confirm.top, most) * spec.confirm.seeds
    yield f"          {most * seeds + confirming} trials at most, {size * seeds} in the grid; above is what runs first"
    if size * seeds > MOST_PLANNED:
        return
    trials = []
    for number in range(size):
        one = Proposal(
            number=number, batch=0, purpose="search", candidate=space.at(number), seeds=space.seeds, drawn_by="grid"
        )
        try:
            trials += [plan_trial(trial) for trial in trials_of(spec, one)]
        except ConfigError:
            continue  # it would be refused
    grid = cost_of(trials, lambda _: False, work_of).work_shared
    each = sorted(cost_of([trial], lambda _: False, work_of).work_shared for trial in trials)
    share = min(1.0, sum(each[-most * seeds :]) / grid) if grid else 0.0
    yield f"          the search alone takes at most {share:.2f} of the grid's work, before confirmation"


def outcome_lines(proposals: list[Proposal], tables: Run) -> Iterator[str]:
    """Say how the confirmed settings score on the test split, the best by validation first."""
    found = []
    for proposal in proposals:
        rows = tables.rows(CONFIRMED, [list(proposal.trial_ids)]) if proposal.purpose == "confirm" else []
        if rows:
            validation = mean_interval([row["validation_score"] for row in rows])
            found.append((validation.mean or 0.0, proposal, rows))
    for place, (_, proposal, rows) in enumerate(sorted(found, key=lambda one: -one[0])):
        scale = SCALES[rows[0]["metric"]]
        mean = mean_interval([row["test_score"] for row in rows])
        values = ", ".join(f"{key} = {value}" for key, value in proposal.candidate.values.items())
        name = "confirmed winner" if place == 0 else "also confirmed"
        score = f"test {scale.noun} {scale.value(mean.mean)}{scale.unit} [{scale.interval(mean)}]"
        yield f"{name}: proposal {proposal.confirms}, {score} over {len(rows)} new seeds: {values}"
