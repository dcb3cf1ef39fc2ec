"""How often the verdicts of [settle] err, how many seeds they take, and what looking again without them costs.

    python benchmarks/settled.py            # about half an hour on one core
    python benchmarks/settled.py --quick    # about three minutes

Each cell draws many sweeps with known true differences and decides them with `results.statistics.sequential.look_at`,
the function that decides in a sweep. A cell is written when it is done: the same command continues after a kill.
"""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import special, stats

from benchmarks.record import EVIDENCE, Measured, parser_of, table_of, write
from results.questions.anytime import BEST_AT, FEWEST
from results.statistics.pairs import holm
from results.statistics.sequential import Design, anytime_interval, look_at

SWEEPS = 8_000
SEED = 20_250_311
LOOKS = (10, 13, 18, 25, 35, 50)
NAIVE_LOOKS = (6, 9, 13, 18, 25, 35, 50)
SEEDS = LOOKS[-1]
ALPHA = 0.05
MARGIN = 1.0  # points
IMAGES = 348  # test images of binomial scores
REGULAR_LIMIT = 0.055
REGULAR_UPPER_LIMIT = 0.06  # of the 95% interval
SPECIAL_RATIO = 1.2  # to a single look
EQUAL_LIMIT = 0.03
COMMITTED = EVIDENCE / "methods_on_digits" / "measured_points.parquet"
PLANNED_EFFECTS = (3.0, 2.0, 2.0, 1.5, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0)  # points; sd of a difference 1.4

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""(generator, effects of K arms) -> (K, SEEDS) differences to the control, in points; NaN: the trial failed."""


def normal(arm_sd: float = 1.0, control_sd: float = 1.0) -> Draw:
    def draw(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
        arms = generator.normal(0, arm_sd, (len(effects), SEEDS))
        return arms - generator.normal(0, control_sd, SEEDS) + effects[:, None]

    return draw


def binomial(mean: float, images: int, seed_sd: float) -> Draw:
    """Accuracies in points on so many images; seeds differ by more than the images alone would let them."""

    def scores(generator: np.random.Generator, means: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        chances = np.clip(means + generator.normal(0, seed_sd, shape), 0, 1)
        return 100 * generator.binomial(images, chances) / images

    def draw(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
        arms = scores(generator, mean + effects[:, None] / 100, (len(effects), SEEDS))
        return arms - scores(generator, np.array(mean), (SEEDS,))

    return draw


def unequal_spreads(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    spreads = np.linspace(0.3, 3.0, len(effects))[:, None]
    arms = generator.normal(0, 1, (len(effects), SEEDS)) * spreads
    return arms - generator.normal(0, 1, SEEDS) + effects[:, None]


def heavy_tails(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    return generator.standard_t(5, (len(effects), SEEDS)) - generator.standard_t(5, SEEDS) + effects[:, None]


def equal_rows(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """Each arm is there twice, as one that prunes nothing is at two budgets."""
    half = normal()(generator, effects[::2])
    return np.repeat(half, 2, axis=0)


def like_the_control(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """Half of the arms are the control itself: their differences are 0."""
    differences = normal()(generator, effects)
    differences[: len(effects) // 2] = 0.0
    return differences


def failing(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    differences = normal()(generator, effects)
    differences[generator.random(differences.shape) < 0.01] = np.nan
    return differences


def skewed(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """Exponential arms against a control that hardly varies."""
    arms = -(generator.exponential(1.0, (len(effects), SEEDS)) - 1.0)
    return arms - generator.normal(0, 0.05, SEEDS) + effects[:, None]


def collapsing(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """Arms lose 30 points in 5% of their seeds, and gain 1.5 in all, so that the mean is that of `effects`."""
    differences = normal()(generator, effects)
    collapses = generator.random(differences.shape) < 0.05
    return differences + 1.5 - 30.0 * collapses


def all_collapsing(generator: np.random.Generator, effects: np.ndarray) -> np.ndarray:
    """The control loses 30 points in 5% of its seeds, as each arm does."""
    differences = normal()(generator, effects)
    control_collapses = generator.random(SEEDS) < 0.05
    return differences - 30.0 * (generator.random(differences.shape) < 0.05) + 30.0 * control_collapses


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One world.

    Attributes:
        effects: true differences of the arms, in points.
        misses_looks: whether arms have not all seeds at each look, as when a sweep is looked at early.
        single: whether a single look at 50 seeds stands beside it.
        share_of_sweeps: less than 1 if a sweep is slow.
    """

    name: str
    draw: Draw
    effects: Sequence[float]
    kind: str  # regular, special, equal, power
    looks: tuple[int, ...] = LOOKS
    alpha: float = ALPHA
    image: float = 0.0
    misses_looks: bool = False
    single: bool = True
    share_of_sweeps: float = 1.0


def cells() -> list[Cell]:
    """All cells, the regular ones first."""
    none = [0.0] * 10
    image = 100 / IMAGES
    regular = [
        Cell(name="normal, 1 arm", draw=normal(), effects=[0.0], kind="regular"),
        Cell(name="normal, 3 arms", draw=normal(), effects=[0.0] * 3, kind="regular"),
        Cell(name="normal, 10 arms", draw=normal(), effects=none, kind="regular"),
        Cell(name="normal, 30 arms", draw=normal(), effects=[0.0] * 30, kind="regular", share_of_sweeps=0.5),
        Cell(name="normal, a control that varies most", draw=normal(0.5, 2.0), effects=none, kind="regular"),
        Cell(name="normal, 5 arms differ and 5 do not", draw=normal(), effects=[2.0] * 5 + [0.0] * 5, kind="regular"),
        Cell(name="binomial, 348 images", draw=binomial(0.95, IMAGES, 0.007), effects=none, kind="regular",
             image=image),
        Cell(name="ties: 40 images", draw=binomial(0.9, 40, 0.01), effects=none, kind="regular", image=2.5),
        Cell(name="saturated: 99.9% of 348 images", draw=binomial(0.999, IMAGES, 0.0005), effects=none, kind="regular",
             image=image),
        Cell(name="equal rows, each arm twice", draw=equal_rows, effects=none, kind="regular"),
        Cell(name="half of the arms are the control", draw=like_the_control, effects=none, kind="regular", image=image),
        Cell(name="unequal spreads, 0.3 to 3", draw=unequal_spreads, effects=none, kind="regular"),
        Cell(name="tails of t with 5 degrees", draw=heavy_tails, effects=none, kind="regular"),
        Cell(name="missed looks", draw=normal(), effects=none, kind="regular", misses_looks=True),
        Cell(name="1% of the trials fail", draw=failing, effects=none, kind="regular"),
        Cell(name="looks after 20 and 50 seeds", draw=normal(), effects=none, kind="regular", looks=(20, 50)),
        Cell(name="nine looks", draw=normal(), effects=none, kind="regular", looks=tuple(range(10, 51, 5))),
    ]  # fmt: skip
    special_cells = [
        Cell(name="skewed arms, quiet control", draw=skewed, effects=none, kind="special"),
        Cell(name="all collapse in 5% of the seeds", draw=all_collapsing, effects=none, kind="special"),
        Cell(name="collapses in 5% of the seeds", draw=collapsing, effects=none, kind="special"),
    ]
    margins = [MARGIN, -MARGIN] * 5
    slow = 0.25  # where most arms differ, each of them needs sign-flip tests
    equal = [
        Cell(name="normal, all differ by the margin", draw=normal(0.7, 0.7), effects=margins, kind="equal",
             share_of_sweeps=slow),
        Cell(name="binomial, all differ by the margin", draw=binomial(0.95, IMAGES, 0.003), effects=margins,
             kind="equal", image=image, share_of_sweeps=slow),
        Cell(name="unequal spreads, all differ by the margin", draw=unequal_spreads, effects=margins, kind="equal",
             share_of_sweeps=slow),
        Cell(name="saturated, all are worse by the margin", draw=binomial(0.999, IMAGES, 0.0005),
             effects=[-MARGIN] * 10, kind="equal", image=image, share_of_sweeps=slow),
        Cell(name="collapses, mean -1.5", draw=collapsing, effects=[-1.5] * 10, kind="equal of collapses",
             share_of_sweeps=slow),
    ]  # fmt: skip
    power = [
        Cell(name="effects of 3 to 0 points, sd 1.4", draw=normal(), effects=PLANNED_EFFECTS, kind="power",
             share_of_sweeps=slow),
        Cell(name="all arms equal, sd 0.7", draw=normal(0.5, 0.5), effects=none, kind="power", share_of_sweeps=slow),
    ]  # fmt: skip
    return [*regular, *special_cells, *equal, *power]


def outcomes_of(cell: Cell, sweeps: int) -> Iterator[dict[str, Any]]:
    """Decide so many sweeps of a cell, and yield the counts."""
    generator = np.random.default_rng(SEED)
    effects = np.asarray(cell.effects)
    count = max(1, round(sweeps * cell.share_of_sweeps))
    counted = {"false": 0, "false_single": 0, "equal": 0, "found": 0, "found_single": 0, "large": 0}
    seeds = 0.0
    for _ in range(count):
        differences = cell.draw(generator, effects)
        lengths = _lengths(cell, generator, len(effects))
        verdicts, used = _decide(differences, cell, cell.looks, lengths)
        single, _ = _decide(differences, cell, (SEEDS,), [SEEDS] * len(effects))
        is_null = effects == 0
        counted["false"] += bool((is_null & _is_different(verdicts)).any())
        counted["false_single"] += bool((is_null & _is_different(single)).any())
        is_large = np.abs(effects) >= MARGIN
        counted["equal"] += bool((is_large & (verdicts == "no difference that matters")).any())
        counted["large"] += int(is_large.sum())
        counted["found"] += int((is_large & _is_different(verdicts)).sum())
        counted["found_single"] += int((is_large & _is_different(single)).sum())
        seeds += used
    low, high = _interval(counted["false"], count)
    yield {
        "cell": cell.name,
        "kind": cell.kind,
        "arms": len(effects),
        "family_wise": counted["false"] / count,
        "family_wise_low": low,
        "family_wise_high": high,
        "single_look": counted["false_single"] / count,
        "wrong_no_difference": counted["equal"] / count if (np.abs(effects) >= MARGIN).any() else None,
        "power": counted["found"] / counted["large"] if counted["large"] else None,
        "power_single_look": counted["found_single"] / counted["large"] if counted["large"] else None,
        "seeds_an_arm": seeds / count,
        "sweeps": count,
    }


def _lengths(cell: Cell, generator: np.random.Generator, arms: int) -> list[int]:
    """How many seeds each arm has when the sweep ends; all, unless looks are missed."""
    if not cell.misses_looks:
        return [SEEDS] * arms
    return [int(seeds) for seeds in generator.choice(cell.looks, arms)]


def _decide(
    differences: np.ndarray, cell: Cell, looks: tuple[int, ...], lengths: Sequence[int]
) -> tuple[np.ndarray, float]:
    """Return the verdict of each arm, and the mean number of seeds that the arms have had.

    As in a sweep, an arm that fails before the first look is in no family, and one that fails later leaves it.
    """
    values: dict[int, list[float]] = {}
    for arm, of_arm in enumerate(differences):
        failed = np.flatnonzero(np.isnan(of_arm))
        seeds = lengths[arm]
        if len(failed) and failed[0] < seeds:
            whole_looks = [look for look in looks if look <= failed[0]]
            if not whole_looks:
                continue
            seeds = whole_looks[-1]
        values[arm] = of_arm[:seeds].tolist()
    verdicts = np.full(len(differences), "incomplete", dtype="<U30")
    used = np.full(len(differences), float(looks[0]))
    if values:
        for arm, of_arm in look_at(values, Design(looks, cell.alpha, MARGIN, len(values)), cell.image).items():
            if of_arm:
                verdicts[arm] = of_arm[-1].verdict
                used[arm] = of_arm[-1].seeds
    return verdicts, float(used.mean())


def _is_different(verdicts: np.ndarray) -> np.ndarray:
    return (verdicts == "better") | (verdicts == "worse")


def _interval(hits: int, count: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    low = 0.0 if hits == 0 else float(stats.beta.ppf(0.025, hits, count - hits + 1))
    high = 1.0 if hits == count else float(stats.beta.ppf(0.975, hits + 1, count - hits))
    return low, high


def without_boundaries(sweeps: int) -> Iterator[dict[str, Any]]:
    """What looking again after each extension costs without boundaries: t tests, Holm's correction at each look."""
    generator = np.random.default_rng(SEED)
    one = 0
    family = 0
    for _ in range(sweeps):
        differences = normal()(generator, np.zeros(10))
        p_of_looks = [stats.ttest_1samp(differences[:, :seeds], 0, axis=1).pvalue for seeds in NAIVE_LOOKS]
        one += any(p[0] <= ALPHA for p in p_of_looks)
        family += any(min(value for value in holm(list(p)) if value is not None) <= ALPHA for p in p_of_looks)
    for name, hits in (("1 arm", one), ("10 arms, Holm at each look", family)):
        low, high = _interval(hits, sweeps)
        yield {
            "cell": f"without boundaries: {name}", "kind": "without boundaries", "arms": 1 if name == "1 arm" else 10,
            "family_wise": hits / sweeps, "family_wise_low": low, "family_wise_high": high, "sweeps": sweeps,
        }  # fmt: skip


def at_any_time(sweeps: int) -> Iterator[dict[str, Any]]:
    """How often the interval of --anytime misses the truth at any number of seeds for which it is given."""
    worlds: dict[str, Draw] = {
        "normal": normal(), "binomial, 348 images": binomial(0.95, IMAGES, 0.007), "skewed": skewed,
    }  # fmt: skip
    for name, draw in worlds.items():
        generator = np.random.default_rng(SEED)
        missed = 0
        missed_by_t = 0
        for _ in range(sweeps):
            (values,) = draw(generator, np.zeros(1))
            intervals = [anytime_interval(values[:seeds], ALPHA, BEST_AT) for seeds in range(FEWEST, SEEDS + 1)]
            missed += any(low > 0 or high < 0 for low, high in intervals)
            missed_by_t += _t_misses(values)
        low, high = _interval(missed, sweeps)
        yield {
            "cell": f"--anytime: {name}", "kind": "anytime", "arms": 1, "family_wise": missed / sweeps,
            "family_wise_low": low, "family_wise_high": high, "single_look": missed_by_t / sweeps, "sweeps": sweeps,
        }  # fmt: skip


def _t_misses(values: np.ndarray) -> bool:
    """Whether a t interval misses 0 at any of these numbers of values."""
    counts = np.arange(FEWEST, len(values) + 1)
    means = np.cumsum(values)[FEWEST - 1 :] / counts
    squares = np.cumsum(values**2)[FEWEST - 1 :] - counts * means**2
    errors = np.sqrt(np.maximum(squares, 1e-12) / (counts - 1) / counts)
    return bool((np.abs(means) > special.stdtrit(counts - 1, 0.975) * errors).any())


def from_committed_points(sweeps: int) -> Iterator[dict[str, Any]]:
    """An illustration: seeds drawn with replacement from the ten of each arm of methods_on_digits, at 20%."""
    import duckdb

    query = f"""
        SELECT network, label AS arm, seed, avg(test_score) AS score FROM read_parquet('{COMMITTED}')
        WHERE label = 'fine_tune' OR abs(asked_removed_macs_fraction - 0.2) < 1e-6 GROUP BY ALL
    """
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for network, arm, seed, score in duckdb.sql(query).fetchall():
        scores.setdefault((network, arm), {})[seed] = 100 * score
    for network in sorted({network for network, _ in scores}):
        control = scores[network, "fine_tune"]
        rows = []
        for (of, arm), by_seed in scores.items():
            if of == network and arm != "fine_tune" and by_seed.keys() == control.keys():
                rows.append([by_seed[seed] - control[seed] for seed in sorted(control)])
        measured = np.array(rows)
        cell = Cell(name=network, draw=normal(), effects=[0.0] * len(measured), kind="illustration", image=100 / IMAGES)
        generator = np.random.default_rng(SEED)
        seeds = 0.0
        settled = 0
        for _ in range(max(1, sweeps // 20)):
            drawn = measured[:, generator.integers(0, measured.shape[1], SEEDS)]
            verdicts, used = _decide(drawn, cell, LOOKS, [SEEDS] * len(measured))
            seeds += used
            settled += int((verdicts != "open").sum())
        count = max(1, sweeps // 20)
        yield {
            "cell": f"methods_on_digits, {network}, at 20% (illustration)", "kind": "illustration",
            "arms": len(measured), "power": settled / count / len(measured), "seeds_an_arm": seeds / count,
            "sweeps": count,
        }  # fmt: skip


COLUMNS = (
    "cell", "kind", "arms", "family_wise", "family_wise_low", "family_wise_high", "single_look", "wrong_no_difference",
    "power", "power_single_look", "seeds_an_arm", "sweeps", "goal",
)  # fmt: skip


def with_goal(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the row with every column, and whether the goal of its kind is met."""
    row = {name: outcome.get(name) for name in COLUMNS}
    kind = outcome["kind"]
    is_met: bool | None = None
    if kind == "regular":
        is_met = row["family_wise"] <= REGULAR_LIMIT and row["family_wise_high"] <= REGULAR_UPPER_LIMIT
    elif kind == "special":
        is_met = row["family_wise"] <= SPECIAL_RATIO * row["single_look"]
    elif kind == "equal":
        is_met = row["wrong_no_difference"] <= EQUAL_LIMIT
    row["goal"] = None if is_met is None else ("met" if is_met else "missed")
    return row


def all_outcomes(sweeps: int, kept: Path) -> list[dict[str, Any]]:
    """Return the outcomes of all cells; those that the file `kept` has of as many sweeps are not simulated again."""
    done: dict[str, dict[str, Any]] = {}
    if kept.is_file():
        for line in kept.read_text(encoding="utf-8").splitlines():
            outcome = json.loads(line)
            if outcome["of"] == sweeps:
                done[outcome["cell"]] = outcome
    jobs: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {}
    for cell in cells():
        jobs[cell.name] = partial(outcomes_of, cell, sweeps)
    for extra in (without_boundaries, at_any_time, from_committed_points):
        jobs[extra.__name__] = partial(extra, sweeps)
    outcomes = []
    for name, job in jobs.items():
        found = [outcome for outcome in done.values() if outcome["job"] == name]
        if not found:
            found = [outcome | {"of": sweeps, "job": name} for outcome in job()]
            with kept.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(outcome) + "\n" for outcome in found)
            print(f"{name}: {found[0].get('family_wise')}", flush=True)
        outcomes += found
    return outcomes


def results_table(outcomes: Sequence[dict[str, Any]]) -> Measured:
    """All cells as a table."""
    return table_of(
        "How often settled comparisons err, and how many seeds they take",
        [with_goal(outcome) for outcome in outcomes],
        (
            "family_wise: sweeps in which an arm without a true difference is called better or worse; claimed at most"
            " 0.05. single_look: the same with one look at 50 seeds and the same tests.",
            "wrong_no_difference: sweeps in which an arm whose true difference is at least the margin of 1 point is"
            " called equal.",
            "power: share of the arms with a true difference of 1 point or more that are called better or worse; in"
            " illustrations the share of arms that are settled. seeds_an_arm: of at most 50, without the control's.",
            f"Goals: regular cells at most {REGULAR_LIMIT:g}, and {REGULAR_UPPER_LIMIT:g} at the upper end of the 95%"
            f" interval; special cells at most {SPECIAL_RATIO:g} times a single look; wrong 'no difference' at most"
            f" {EQUAL_LIMIT:g}.",
            "Skewed arms against a quiet control, and arms that collapse in a few seeds while the control does not: no"
            " test of paired differences keeps its level there, neither with one look nor with several. Where arms gain"
            " 1.5 points in 95% of the seeds and lose 28.5 in the others, an early look has often seen no collapse yet,"
            " and calls them better: this goal is missed, and a verdict after ten seeds says nothing of what happens in"
            " one of twenty. A collapse that was seen is in the table of looks (has_collapse), and such an arm is never"
            " called equal.",
            "collapses, mean -1.5: each of ten arms loses 30 points in 5% of its seeds. In most sweeps at least one"
            " of them has had no collapse among 18 seeds, and is called equal. Beside that verdict stands the rule of"
            " three: with 18 seeds up to 17% of the seeds may still collapse, with 50 up to 6%.",
            "without boundaries: t tests after 6, 9, 13, 18, 25, 35 and 50 seeds. --anytime: intervals at every number"
            f" of seeds from {FEWEST} to 50; single_look: t intervals there.",
            "Illustrations draw seeds with replacement from the ten committed ones of each arm: no claim about others.",
            f"Seed {SEED}; every cell begins with it again.",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = parser_of(__doc__, "settled", quick=f"a tenth of the {SWEEPS} sweeps").parse_args(arguments)
    sweeps = SWEEPS // 10 if options.quick else SWEEPS
    options.out.parent.mkdir(parents=True, exist_ok=True)
    outcomes = all_outcomes(sweeps, options.out.with_suffix(".jsonl"))
    write(results_table(outcomes), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
