"""What to read with care: each row of an answer has its flags, and a page explains each flag that occurs once.

A new special case is one line in `FLAGS`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from results.arms.below_head import MEANING, below_heads
from results.arms.comparison import Arm, is_shorter
from results.arms.problem import Problem
from results.store.completeness import TRIAL_STATES
from results.store.launches import launches_of
from results.store.reader import Run

ADDED_FROM = 2  # launches that added seeds: with one more look than these, errors have become frequent
FAR_BEHIND = 0.05  # points of accuracy, as a fraction (C)
FEW_FILTERS = 0.2  # share of a layer's filters, or less (C)
LEAST_MEASUREMENTS = 3  # of a validation curve that can rise

UNFINISHED = f"SELECT DISTINCT network, dataset, train_images, arm FROM ({TRIAL_STATES}) WHERE state <> 'finished'"
SHARED_TRAINING = """
SELECT DISTINCT network, dataset, train_images, arm
FROM stages SEMI JOIN epochs USING (stage_key)
    JOIN (SELECT DISTINCT trial_id, network, dataset, train_images, arm, seed FROM planned) USING (trial_id)
GROUP BY network, dataset, train_images, arm, kind HAVING count(DISTINCT stage_key) < count(DISTINCT (seed, stage_key))
"""
BEFORE = """
WITH ends AS (SELECT trial_id, point, stage_key FROM compared_points WHERE is_compared),
before AS (
    SELECT ends.trial_id, ends.point, stages.stage_key, stages.kind, stages."order"
    FROM ends JOIN stages AS own USING (trial_id, stage_key)
    JOIN stages ON stages.trial_id = ends.trial_id AND stages."order" < own."order"
)
"""
UNTRAINED = f"""{BEFORE}
SELECT trial_id, point FROM (
    SELECT trial_id, point, max("order") FILTER (kind LIKE 'prune%') AS pruned,
        max("order") FILTER (kind LIKE 'fine_tune%' OR kind IN ('calibrate', 'measure_norms')) AS repaired
    FROM before GROUP BY ALL
) JOIN planned USING (trial_id)
WHERE pruned IS NOT NULL AND coalesce(repaired, -1) < pruned
    AND json_extract_string(config_json, '$.pruning.measure_norms') = 'false'
"""
"""Points whose last pruning is followed by no stage that measures norms again; a network without norms has no such
setting."""
NARROW = f"""
SELECT DISTINCT trial_id, point FROM layers WHERE width < original_width AND width <= {FEW_FILTERS} * original_width
"""
RISING = f"""{BEFORE}
SELECT trial_id, point FROM (
    SELECT trial_id, point, arg_max(validation_score, epoch) AS last, max(validation_score) AS best,
        min(validation_score) AS least
    FROM epochs JOIN (
        SELECT trial_id, point, arg_max(stage_key, "order") AS stage_key FROM before WHERE kind LIKE 'fine_tune%'
        GROUP BY ALL
    ) USING (trial_id, stage_key)
    WHERE isfinite(validation_score) GROUP BY ALL HAVING count(*) >= {LEAST_MEASUREMENTS}
) WHERE last = best AND best > least
"""
"""Points whose last fine-tuning has its best validation score at its end."""


class Facts:
    """What the rows of a run say of its arms beside their scores, each read when it is asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def _arms(self, sql: str) -> set[tuple[Problem, str]]:
        return {(Problem.of(row), row["arm"]) for row in self._run.rows(sql)}

    def _points(self, sql: str) -> set[tuple[str, int]]:
        return {(row["trial_id"], row["point"]) for row in self._run.rows(sql)}

    @cached_property
    def unfinished(self) -> set[tuple[Problem, str]]:
        """The arms with trials that have not finished."""
        return self._arms(UNFINISHED)

    @cached_property
    def shares_training(self) -> set[tuple[Problem, str]]:
        """The arms of which several seeds have one training stage in common."""
        return self._arms(SHARED_TRAINING)

    @cached_property
    def below_head(self) -> set[tuple[Problem, str]]:
        """The arms of full fine-tuning that ended below the fit of their own head."""
        return set(below_heads(self._run))

    @cached_property
    def seed_additions(self) -> Mapping[str, int]:
        """How many launches added seeds to each arm, by the names that arms have now; of several runs, the sums."""
        total: dict[str, int] = {}
        for folder in self._run.paths.values():
            additions: dict[str, int] = {}
            for launch in launches_of(folder):
                renamed = launch.get("renamed_arms") or {}
                additions = {renamed.get(arm, arm): count for arm, count in additions.items()}
                for arm in launch.get("more_seeds") or {}:
                    additions[arm] = additions.get(arm, 0) + 1
            for arm, count in additions.items():
                total[arm] = total.get(arm, 0) + count
        return total

    @cached_property
    def untrained(self) -> set[tuple[str, int]]:
        """The points after whose last pruning nothing was trained or measured."""
        return self._points(UNTRAINED)

    @cached_property
    def narrow(self) -> set[tuple[str, int]]:
        """The points of which a layer has few filters left."""
        return self._points(NARROW)

    @cached_property
    def rising(self) -> set[tuple[str, int]]:
        """The points whose validation curve still rises at its end."""
        return self._points(RISING)


class Flagged(NamedTuple):
    """What a flag is asked of: an arm, its control if it has one, and the facts of their run."""

    arm: Arm
    control: Arm | None
    facts: Facts

    @property
    def arms(self) -> list[Arm]:
        """Both, or the one."""
        return [self.arm] if self.control is None else [self.arm, self.control]

    @property
    def both_seeds(self) -> list[int]:
        """The seeds that all of them have."""
        return sorted(set.intersection(*(set(arm.test_by_seed) for arm in self.arms)))

    def any_in(self, named: set[tuple[Problem, str]]) -> bool:
        """Whether one of them is among these."""
        return any((arm.problem, arm.name) in named for arm in self.arms)

    def is_far_behind(self) -> bool:
        """Whether the arm was pruned, and is far behind a control that was not."""
        score = self.arm.test.mean
        control = None if self.control is None or self.control.removed > 0.0 else self.control.test.mean
        return score is not None and control is not None and self.arm.removed > 0.0 and score <= control - FAR_BEHIND

    def most_in(self, points: set[tuple[str, int]]) -> bool:
        """Whether most points of the arm are among these."""
        return 2 * sum((point.trial_id, point.point) in points for point in self.arm.points) > len(self.arm.points)

    def models(self) -> list[set[str]]:
        """The models of each of them, at the seeds that all have."""
        return [{key for seed in self.both_seeds for key in arm.models_by_seed[seed]} for arm in self.arms]

    def repeats(self) -> list[list[int]]:
        """Of each of them, the number of trials behind the score of each of these seeds, in order."""
        seeds = self.both_seeds
        return [sorted(p.seed for p in arm.points if p.seed in seeds and p.test is not None) for arm in self.arms]


FLAGS: Mapping[str, tuple[str, Callable[[Flagged], bool]]] = {
    "failed": (
        "trials failed or have scores that are not numbers, and are in no mean. A verdict of `compare` and `effects`"
        " holds also with each lost pair counted against it, else it is incomplete; `transtailor run RUN --retry` runs"
        " them again",
        lambda row: any(arm.failed for arm in row.arms),
    ),
    "NaN": (
        "validation scores that are not numbers are in no mean, so the others may look too good",
        lambda row: any(arm.not_finite for arm in row.arms),
    ),
    "unfinished": (
        "planned trials failed or have not finished; `transtailor status RUN` counts them",
        lambda row: row.any_in(row.facts.unfinished),
    ),
    "longer": (
        "trained for more epochs than what it is compared with, which may explain part of the difference: add a"
        " fine-tuning of the same length to the spec",
        lambda row: row.control is not None and is_shorter(row.control, row.arm),
    ),
    "unequally tuned": (
        "the best of another number of settings of [tuning] than what it is compared with: no verdict",
        lambda row: len({count for arm in row.arms for count in arm.best_of}) > 1,
    ),
    "tuned": (
        "the setting of [tuning] that is best by validation, chosen for each seed and budget",
        lambda row: any(max(arm.best_of) > 1 for arm in row.arms),
    ),
    "machines": (
        "computed on mixed hardware, ranks or torch versions",
        lambda row: len({one for arm in row.arms for one in arm.environments}) > 1,
    ),
    "unpaired": (
        "seeds that only one of the two arms has are left out",
        lambda row: any(len(arm.test_by_seed) > len(row.both_seeds) for arm in row.arms),
    ),
    "repeats": (
        "a seed's score is a mean over another number of trials than its control's, as where one arm alone has several"
        " values of source.seed; give both the same",
        lambda row: len({tuple(counts) for counts in row.repeats()}) > 1,
    ),
    "models": (
        "fewer distinct models than seeds: n is smaller than it looks",
        lambda row: any(len(models) < len(row.both_seeds) for models in row.models()),
    ),
    "same models": (
        "the very models of its control; the other settings change nothing here",
        lambda row: row.control is not None and row.both_seeds != [] and row.models()[0] == row.models()[1],
    ),
    "one training": (
        "its seeds share a training, such as the source's: n is smaller than it looks, and no interval here covers"
        " another such training",
        lambda row: row.any_in(row.facts.shares_training),
    ),
    "one class": (
        "a network names one class for all test images. Unless these are few, it learned nothing, so its score says"
        " nothing of the method; try its learning rate (of a head alone optimisation.head_learning_rate) ten times"
        " lower and higher, and more epochs (docs/accuracy.md)",
        lambda row: any(point.names_one_class for arm in row.arms for point in arm.points),
    ),
    "below head": (MEANING, lambda row: row.any_in(row.facts.below_head)),
    "seeds added": (
        "launches added seeds two times or more. If that was decided by looking at the results, more than 5% of such"
        " arms would be called better or worse without any difference: 18% of simulated sweeps with seven looks."
        " --anytime gives intervals that hold however often one looks; [settle] in a spec adds seeds and keeps to 5%",
        lambda row: any(row.facts.seed_additions.get(arm.name, 0) >= ADDED_FROM for arm in row.arms),
    ),
    "untrained": (
        "far behind the whole network, and nothing trained it after its last pruning: its norms have the statistics of"
        " the whole network; type --set trial.pruning.measure_norms=true (docs/accuracy.md)",
        lambda row: row.is_far_behind() and row.most_in(row.facts.untrained),
    ),
    "narrow": (
        "far behind the whole network, and a layer has a fifth of its filters or less; ask for less, or raise"
        " pruning.minimum_filters_fraction (docs/accuracy.md)",
        lambda row: row.is_far_behind() and row.most_in(row.facts.narrow),
    ),
    "rising": (
        "far behind the whole network, and its validation curve still rises at the end; raise optimisation.epochs"
        " (docs/accuracy.md)",
        lambda row: row.is_far_behind() and row.most_in(row.facts.rising),
    ),
}
"""Flag -> what it means, and whether a row has it."""


def flags_of(pairs: Sequence[tuple[Arm, Arm | None]], facts: Facts) -> list[str]:
    """Return the flags of a row: those of any of its arms, each with its control or None."""
    rows = [Flagged(arm, control, facts) for arm, control in pairs]
    return [flag for flag, (_, holds) in FLAGS.items() if any(map(holds, rows))]


def flag_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Explain each flag that some of these records have, with their number."""
    flagged = [record["flags"] for record in records]
    for flag, (meaning, _) in FLAGS.items():
        count = sum(flag in flags for flags in flagged)
        if count:
            yield f"{flag} ({count} of {len(flagged)} {'row' if len(flagged) == 1 else 'rows'}): {meaning}."
