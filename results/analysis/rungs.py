"""What the rungs of a search predict: the rank correlation of the scores at each with those that came later."""

from collections.abc import Iterator
from dataclasses import dataclass

from results.store.reader import Run

RUNG_NAME = "coalesce(epochs || if(epochs = 1, ' epoch', ' epochs'), 'point ' || point)"
"""How a row of `rungs` is called."""
RUNG_SCORES = f"""
SELECT trial_id, rung, {RUNG_NAME} AS place, validation_score AS score
FROM rungs WHERE isfinite(validation_score)
UNION ALL SELECT trial_id, NULL, 'the end', arg_max(validation_score, point)
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
HAVING isfinite(arg_max(validation_score, point))
ORDER BY rung, trial_id
"""
WEAK, FEWEST = 0.6, 4  # a rank correlation; different scores for one


@dataclass(frozen=True, kw_only=True)
class RungPrediction:
    """How well a rung predicts what came later: the end or, where too few trials reached that, a later rung.

    Attributes:
        trials: how many reached both; without `later`, how many reached the rung and the end.
        correlation: Spearman's; None without `later`.
    """

    rung: str
    later: str | None  # None: too few trials were continued
    trials: int
    correlation: float | None = None

    @property
    def is_weak(self) -> bool:
        """Whether it predicts so badly that halving there stops good settings."""
        return self.correlation is not None and self.correlation < WEAK

    def __str__(self) -> str:
        if self.later is None:
            return f"{self.rung}: too few trials were continued to see what it predicts"
        weak = "; this is weak: leave this rung out, or choose a later one" if self.is_weak else ""
        over = f"{self.correlation:.2f} over {self.trials} trials"
        return f"{self.rung}: rank correlation with {self.later} {over}{weak}"


def rung_predictions(run: Run) -> Iterator[RungPrediction]:
    """Yield what each rung of one run predicts, from the lowest; a trial's score at its end is its last point's."""
    from scipy.stats import spearmanr

    scores: dict[int | None, dict[str, float]] = {None: {}}
    names: dict[int | None, str] = {None: "the end"}
    for row in run.rows(RUNG_SCORES):
        number = row["rung"]
        scores.setdefault(number, {})[row["trial_id"]] = row["score"]
        names[number] = row["place"] if number is None else f"rung {number} ({row['place']})"
    numbers = sorted(number for number in scores if number is not None)
    for number in numbers:
        for later in (None, *(other for other in reversed(numbers) if other > number)):
            pairs = [(score, scores[later][key]) for key, score in scores[number].items() if key in scores[later]]
            if min(len({one for one, _ in pairs}), len({other for _, other in pairs})) >= FEWEST:
                found = float(spearmanr(pairs).statistic)
                yield RungPrediction(rung=names[number], later=names[later], trials=len(pairs), correlation=found)
                break
        else:
            ended = scores[number].keys() & scores[None].keys()
            yield RungPrediction(rung=names[number], later=None, trials=len(ended))
