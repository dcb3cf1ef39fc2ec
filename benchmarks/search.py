"""Samplers and stopping rules compared on a grid that ran once: what each finds for how many stage-seconds.

python benchmarks/search.py            # ten minutes; the table is made by benchmarks/search_table.py
python benchmarks/search.py --quick    # 3 repetitions
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import heapq
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scipy.stats import spearmanr, t

from benchmarks.record import Cell, Measured, parser_of, verdict, write
from benchmarks.search_table import Table, load_table
from results.sharing import ONE_SCRIPT, SOURCE_GIVEN
from sweeps.search.halving import ladder
from sweeps.search.proposals import next_batch
from sweeps.search.records import Proposal, Score, ScoreKey
from sweeps.search.samplers import Sampling
from sweeps.search.space import space_of
from sweeps.spec.search_settings import HalvingSettings, SearchSettings
from sweeps.spec.spec import SPECS, Spec, load_spec

REPEATS = 100
SLOTS = 4  # also the settings of a batch
TOP, SEEDS = 3, 10  # settings that a search confirms, and with how many seeds
BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the grid's stage-seconds
GOAL_SHARE, GOAL_POINTS = 1 / 4, 0.5
LADDERS = {"none": None, "halving 1, 4": (1, 4), "halving 4": (4,), "halving 1": (1,)}  # name -> rungs in epochs
COLUMNS = (
    "sampler", "stops", "settings", "share_of_grid", "share_unshared", "hours_ratio",
    *(f"regret_at_1_{round(1 / budget)}" for budget in BUDGETS), "regret", "regret_upper_quartile",
    "confirming_share", "all_confirmed", "confirmed_difference", "confirmed_lower_95", "within_half_a_point",
    "against_all_confirmed", "against_all_lower_95",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A search that is repeated."""

    sampler: str
    stops: str  # a name of LADDERS; asynchronously with " async" behind
    settings: int

    @property
    def search(self) -> SearchSettings:
        """Its settings; the seed is that of the repetition."""
        rungs = LADDERS[self.stops.removesuffix(" async")]
        halving = rungs and HalvingSettings(eta=3, epochs=rungs, asynchronous=self.stops.endswith(" async"))
        return SearchSettings(sampler=self.sampler, trials=self.settings, batch=SLOTS, halving=halving or None)


CONTENDERS = [
    *(Contender(sampler=sampler, stops="none", settings=112) for sampler in ("grid", "random", "tpe", "nsga2")),
    *(
        Contender(sampler=sampler, stops=stops, settings=settings)
        for stops in ("halving 1, 4", "halving 1, 4 async", "halving 4", "halving 1")
        for sampler, settings in (("random", 96), ("tpe", 48), ("tpe", 96))
    ),
]


@dataclass(kw_only=True)
class Replay:
    """What one search would have done."""

    table: Table
    shared_s: float = 0.0  # stage-seconds that were begun
    unshared_s: float = 0.0
    clock_s: float = 0.0
    ends: list[tuple[float, str]] = field(default_factory=list)  # of settings: stage-seconds until then, and the key

    def best(self, most_s: float = math.inf) -> float | None:
        """The validation score of the best setting that has ended within stage-seconds; None: none has."""
        return max((self.table.end(key) for at_s, key in self.ends if at_s <= most_s), default=None)

    def top(self) -> list[str]:
        """The settings that the search confirms, the best first."""
        return sorted(dict.fromkeys(key for _, key in self.ends), key=lambda key: -self.table.end(key))[:TOP]

    def choose(self) -> str:
        """The setting that confirmation chooses of those that the table has confirmed; of none, its worst."""
        best = [key for key in self.top() if key in self.table.confirmed]
        return max(best, key=self.table.validation) if best else min(self.table.confirmed, key=self.table.validation)

    def is_confirmed(self) -> bool:
        """Whether the table has confirmed all that the search would confirm."""
        return all(key in self.table.confirmed for key in self.top())

    def confirming_s(self) -> float:
        """Stage-seconds of the confirmation: each seed computes the stages of the settings once."""
        stages = {stage for key in self.top() for reached in self.table.settings[key] for stage in reached.stages}
        return SEEDS * sum(self.table.seconds[stage] for stage in stages)


def replay(spec: Spec, table: Table) -> Replay:
    """Let the product's own decisions run on a table: SLOTS slots, a stage is computed by the first that needs it."""
    assert spec.search is not None
    epochs = {rung.number: rung.epochs for rung in ladder(spec.search)} | {None: None}
    outcome = Replay(table=table)
    proposals: list[Proposal] = []
    scores: dict[ScoreKey, Score] = {}
    waiting: list[Proposal] = []
    running: list[tuple[float, int]] = []  # when which proposal ends
    computed: set[str] = set()
    at: dict[int, int] = {}  # origin -> how many of its stages' places are done
    sampling = Sampling(space_of(spec), spec.search)
    while True:
        live = [key for proposal in waiting for key in proposal.trial_ids] + [
            proposals[n].trial_ids[0] for _, n in running
        ]
        if len(live) < SLOTS if spec.search.is_asynchronous else not live:
            batch = [
                decision.proposal for decision in next_batch(spec, proposals, scores, sampling=sampling, live=live)
            ]
            proposals += batch
            waiting += [proposal for proposal in batch if proposal.trial_ids]
            if batch:
                continue
        while waiting and len(running) < SLOTS:
            proposal = waiting.pop(0)
            reached = table.settings[proposal.candidate.key]
            steps_done = next(n for n, r in enumerate(reached) if r.epochs == epochs[proposal.rung]) + 1
            stages = [key for r in reached[at.get(proposal.origin, 0) : steps_done] for key in r.stages]
            at[proposal.origin] = steps_done
            takes_s = sum(table.seconds[key] for key in stages if key not in computed)
            outcome.unshared_s += sum(table.seconds[key] for key in stages)
            outcome.shared_s += takes_s
            computed |= {*stages}
            heapq.heappush(running, (outcome.clock_s + takes_s, proposal.number))
        if not running:
            return outcome
        outcome.clock_s, number = heapq.heappop(running)
        proposal = proposals[number]
        there = table.settings[proposal.candidate.key][at[proposal.origin] - 1]
        scores[proposal.trial_ids[0], proposal.rung] = Score(validation_score=there.validation_score, macs=there.macs)
        if proposal.rung is None:
            outcome.ends.append((outcome.shared_s, proposal.candidate.key))


def summary(contender: Contender, replays: Sequence[Replay], table: Table) -> tuple[Cell, ...]:
    """The row of a contender."""
    best = max(map(table.end, table.settings))
    usual = statistics.fmean(map(table.end, table.settings))  # where nothing has ended yet: any setting
    grid = table.grid().one_script
    grid_s, grid_clock_s = grid.shared, grid.shared / SLOTS

    def regret(most_s: float) -> list[float]:
        return [100 * (best - (run.best(most_s) or usual)) for run in replays]

    ends = regret(math.inf)
    difference, lower, within = compare_with(grid_winner(table), replays, table)
    of_all, of_all_lower, _ = compare_with(best_confirmed(table), replays, table)
    return (
        contender.sampler, contender.stops, contender.settings,
        statistics.fmean(run.shared_s for run in replays) / grid_s,
        statistics.fmean(run.unshared_s for run in replays) / grid.separate,
        statistics.fmean(run.clock_s for run in replays) / grid_clock_s,
        *(statistics.fmean(regret(budget * grid_s)) for budget in BUDGETS),
        statistics.fmean(ends), statistics.quantiles(ends, n=4)[2],
        statistics.fmean(run.confirming_s() for run in replays) / grid_s,
        statistics.fmean(run.is_confirmed() for run in replays), difference, lower, within,
        of_all, of_all_lower,
    )  # fmt: skip


def compare_with(winner: str, replays: Sequence[Replay], table: Table) -> tuple[float, float, float]:
    """Compare the confirmed settings with another one, paired by seed, in points of test accuracy.

    Returns:
        the difference over all repetitions, its one-sided 95% bound over seeds, and the share of the repetitions whose
        own bound is above minus half a point.
    """
    of_each = [differences(table, run.choose(), winner) for run in replays]
    pooled = [statistics.fmean(of_seed) for of_seed in zip(*of_each, strict=True)]
    within = sum(lower_bound(own) >= -GOAL_POINTS for own in of_each) / len(replays)
    return statistics.fmean(pooled), lower_bound(pooled), within


def grid_winner(table: Table) -> str:
    """What confirmation chooses among the best settings of the whole grid."""
    whole = Replay(table=table, ends=[(0.0, key) for key in table.settings])
    assert whole.is_confirmed()
    return whole.choose()


def best_confirmed(table: Table) -> str:
    """What confirmation chooses when it confirms as many settings as the grid's run did."""
    return max(table.confirmed, key=table.validation)


def differences(table: Table, key: str, winner: str) -> list[float]:
    """Test points of a setting minus those of the winner, for each confirming seed."""
    own, other = table.confirmed[key], table.confirmed[winner]
    return [100 * (own[seed][1] - other[seed][1]) for seed in sorted(other)]


def lower_bound(values: Sequence[float]) -> float:
    """The one-sided 95% bound of a mean."""
    if len(set(values)) == 1:
        return values[0]
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - float(t.ppf(0.95, len(values) - 1)) * error


def statements(rows: Sequence[dict[str, Cell]], table: Table, repeats: int) -> Iterator[str]:
    """What the table shows, and what its columns are."""
    winner, grid = grid_winner(table), table.grid()
    tests = [score for _, score in table.confirmed[winner].values()]
    yield (
        f"The grid: {len(table.settings)} settings of digits_vgg on digits, {grid.one_script.shared:.0f} stage-seconds "
        f"with shared stages. {len(table.confirmed)} settings were confirmed with {len(tests)} new seeds. Its winner "
        f"is that of its {TOP} best which is best by confirmed validation scores: {winner}, test "
        f"{100 * statistics.fmean(tests):.2f}%."
    )
    for epochs, found in correlations(table).items():
        yield f"Rank correlation of scores after {epochs} epoch{'s'[: epochs > 1]} with those at the end: {found:.2f}."
    yield goal_text(rows)
    yield from halving_notes(rows)
    least = min(rows, key=sharing_gain)
    yield (
        f"Sharing saves the grid a factor of {grid.one_script.factor_text} in stage-seconds over {ONE_SCRIPT} "
        f"({grid.one_script.separate:.0f}), and of {grid.source_given.factor_text} over {SOURCE_GIVEN}. A search "
        f"shares less: its share of the grid's stage-seconds is up to {1 / sharing_gain(least):.2f} times as large "
        f"with sharing as without, which is here {ONE_SCRIPT} ({name(least)})."
    )
    yield (
        f"{repeats} repetitions with other seeds of the sampler (in the grid's order: one); {SLOTS} slots, batches of "
        f"{SLOTS}. regret: points of validation accuracy below the grid's best, at the end and after a share of its "
        "stage-seconds (before the first end: that of the mean setting). share_unshared: of the grid's, both "
        "without sharing. hours_ratio: time on the slots, against the grid on slots that are never idle. All of these "
        f"count the search alone. confirming_share: what confirming its {TOP} best with {SEEDS} seeds takes in "
        "addition, of the grid's stage-seconds; the grid would have to confirm, too."
    )
    yield (
        "confirmed_difference: test points against the grid's winner, paired by seeds that no search has used, over "
        "all repetitions; then its one-sided 95% bound over seeds, and the share of single repetitions whose own bound "
        f"is within {GOAL_POINTS} points. The table has confirmed the grid's {len(table.confirmed)} best only; "
        "all_confirmed is the share of repetitions whose best are all among them. Of the others the best that was "
        "confirmed counts; if none was, the worst of the table. against_all_confirmed: the same against the best of "
        f"all {len(table.confirmed)}: {best_confirmed(table)}."
    )
    yield (
        "The seconds of a stage are its planned work times the median pace of its kind, since the grid ran on a busy "
        "machine. A stage is computed by the first trial that needs it; others do not wait for it here."
    )


def goal_text(rows: Sequence[dict[str, Cell]]) -> str:
    """The goal, on the largest search by tpe with the first ladder that takes at most a quarter."""
    first = next(name for name in LADDERS if name != "none")
    tpe = [row for row in rows if (row["sampler"], row["stops"]) == ("tpe", first)]
    small = [row for row in tpe if _number(row["share_of_grid"]) <= GOAL_SHARE]
    best = max(small or tpe[:1], key=lambda row: _number(row["settings"]))
    is_met = bool(small) and _number(best["confirmed_lower_95"]) >= -GOAL_POINTS
    with_confirming = _number(best["share_of_grid"]) + _number(best["confirming_share"])
    return (
        f"Goal: tpe with halving is confirmed at most {GOAL_POINTS} points below the grid's winner (one-sided 95%) for "
        f"at most a quarter of its stage-seconds. {name(best)}: {_number(best['confirmed_difference']):+.2f} points, "
        f"bound {_number(best['confirmed_lower_95']):+.2f}, with {_number(best['share_of_grid']):.2f} of the time: "
        f"{verdict(is_met)}; with the confirmation {with_confirming:.2f} of the time. Of single searches "
        f"{100 * _number(best['within_half_a_point']):.0f}% are within by their own seeds. Against the best of all "
        f"that the grid's run has confirmed: {_number(best['against_all_confirmed']):+.2f} points, bound "
        f"{_number(best['against_all_lower_95']):+.2f}."
    )


def halving_notes(rows: Sequence[dict[str, Cell]]) -> Iterator[str]:
    """Where halving has more regret than the same sampler without it, and where it has less."""
    for column in (*(f"regret_at_1_{round(1 / budget)}" for budget in BUDGETS), "regret"):
        plain = {row["sampler"]: _number(row[column]) for row in rows if row["stops"] == "none"}
        stops = [row for row in rows if row["stops"] != "none"]
        worse = [row for row in stops if _number(row[column]) > plain[row["sampler"]]]
        texts = [f"{name(row)} ({_number(row[column]):.2f} instead of {plain[row['sampler']]:.2f})" for row in worse]
        yield f"{column}: halving loses in {len(worse)} of {len(stops)}" + (f": {'; '.join(texts)}." if texts else ".")


def correlations(table: Table) -> dict[int, float]:
    """Spearman's rank correlation of each rung with the end, over all settings."""
    by_epochs = {}
    reached = [*table.settings.values()]
    for rung, at_rung in enumerate(reached[0]):
        if at_rung.epochs is not None:
            pairs = [(of[rung].validation_score, of[-1].validation_score) for of in reached]
            by_epochs[at_rung.epochs] = float(spearmanr(pairs).statistic)
    return by_epochs


def name(row: dict[str, Cell]) -> str:
    """A contender in a few words."""
    return f"{row['sampler']}, {'no halving' if row['stops'] == 'none' else row['stops']}, {row['settings']} settings"


def sharing_gain(row: dict[str, Cell]) -> float:
    """How much larger the share of the grid is with sharing."""
    return _number(row["share_unshared"]) / _number(row["share_of_grid"])


def _number(cell: Cell) -> float:
    return float(cell) if cell is not None else math.nan


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay all contenders and write the table."""
    options = parser_of(__doc__, "search", quick="3 repetitions of searches with few settings").parse_args(arguments)
    table, spec = load_table(), load_spec(SPECS / "search_grid.toml")
    repeats = 3 if options.quick else REPEATS
    rows = []
    for contender in CONTENDERS:
        search = contender.search
        if options.quick:
            search = search.model_copy(update={"trials": 9})
        seeds = [0] if contender.sampler == "grid" else range(repeats)
        replays = []
        for seed in seeds:
            own = spec.model_copy(update={"search": search.model_copy(update={"seed": seed}), "confirm": None})
            replays.append(replay(own, table))
        rows.append(summary(contender, replays * (2 if len(replays) == 1 else 1), table))
        print(*rows[-1], flush=True)
    notes = tuple(statements([dict(zip(COLUMNS, row, strict=True)) for row in rows], table, repeats))
    write(Measured(title="Searches replayed on a grid", columns=COLUMNS, rows=tuple(rows), notes=notes), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
