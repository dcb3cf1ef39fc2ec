"""What a search found: its verdict, its best so far, and what its rungs predict, by validation scores only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from results.arms.comparison import arms_of, compare
from results.arms.counts import failed_by_arm
from results.arms.findings import Findings
from results.arms.verdict import verdict
from results.columns import Column
from results.render.blocks import Section, TableBlock, listing
from results.store.reader import Run
from results.text.page import Table

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
PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed,
    min(number) FILTER (purpose = 'promote') < max(number) FILTER (purpose = 'search') AS is_asynchronous
FROM proposals
"""
WEAK_CORRELATION = 0.6
"""A rung whose rank correlation is below this predicts badly."""
FEWEST_SCORES = 4
"""A rank correlation needs this many different scores on both sides."""


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
        return self.correlation is not None and self.correlation < WEAK_CORRELATION

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
        rung = row["rung"]
        scores.setdefault(rung, {})[row["trial_id"]] = row["score"]
        names[rung] = row["place"] if rung is None else f"rung {rung} ({row['place']})"
    rungs_with_scores = sorted(rung for rung in scores if rung is not None)
    for rung in rungs_with_scores:
        higher = [other for other in reversed(rungs_with_scores) if other > rung]
        for later in (None, *higher):
            both = [trial for trial in scores[rung] if trial in scores[later]]
            first_scores = [scores[rung][trial] for trial in both]
            later_scores = [scores[later][trial] for trial in both]
            if min(len(set(first_scores)), len(set(later_scores))) >= FEWEST_SCORES:
                correlation = float(spearmanr(first_scores, later_scores).statistic)
                yield RungPrediction(rung=names[rung], later=names[later], trials=len(both), correlation=correlation)
                break
        else:
            ended = scores[rung].keys() & scores[None].keys()
            yield RungPrediction(rung=names[rung], later=None, trials=len(ended))


def headline(findings: Findings) -> str:
    """Write the verdict; empty if the run is no search. Only rows of confirmed settings are in `findings.points`."""
    (row,) = findings.run.rows(PROPOSALS)
    if not row["searched"]:
        return ""
    ends = [replace(point, asked=None) for point in findings.points if point.is_end and point.test is not None]
    arms = arms_of(ends, findings.environments, failed_by_arm(findings.run))
    arms = [arm for arm in arms if arm.rank is not None]  # with a score, and without failed trials
    if not arms:
        why = "none is confirmed with new seeds ([confirm])"
        if row["confirmed"]:
            why = "none of those chosen has ended yet"
        return f"Of {row['searched']} settings searched, {why}: nothing can be compared."
    best, *others = [arm for arm in arms if arm.problem == arms[0].problem]
    scale = findings.scales[best.problem]
    text = (
        f"Of {row['searched']} settings searched and {row['confirmed']} confirmed with new seeds,"
        f" {best.name} is best by validation:"
        f" test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    if others:
        text += f" Against the next, {others[0].name}: {verdict(compare([(best, others[0])]))}"
    return text


def warnings(run: Run) -> list[str]:
    """Return what a reader must know first: the rungs that hardly predict the end."""
    if len(run.paths) > 1:
        return []
    return [f"Search, {prediction}." for prediction in rung_predictions(run) if prediction.is_weak]


BEST_SO_FAR = """
WITH ends AS (
    SELECT trial_id, arg_max(validation_score, point) AS score, arg_max(macs, point) AS macs
    FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
    HAVING isfinite(arg_max(validation_score, point))
), settings AS (
    SELECT number, drawn_by, values_json AS setting, len(trial_ids) AS trials, unnest(trial_ids) AS trial_id
    FROM proposals WHERE purpose = 'search'
), ended AS (
    SELECT number, any_value(drawn_by) AS drawn_by, any_value(setting) AS setting, avg(score) AS validation_score,
        avg(macs) / 1e6 AS million_macs
    FROM settings JOIN ends USING (trial_id) GROUP BY number HAVING count(*) = any_value(trials)
)
SELECT * FROM ended
QUALIFY validation_score > coalesce(max(validation_score) OVER
    (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), '-inf') ORDER BY number
"""
"""The settings that have ended and are better than all that were proposed before."""
NOT_FINITE = """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, validation_score FROM rungs UNION ALL SELECT trial_id, validation_score FROM operating_points
) WHERE NOT isfinite(validation_score)
    AND trial_id IN (SELECT unnest(trial_ids) FROM proposals WHERE purpose = 'search')
"""
WEAK_RUNG_MARK = (
    "This rung hardly predicts the scores that came later: halving there stops good settings. Leave it out, or choose a"
    " later one."
)
PREDICTIONS_NOTE = (
    "Spearman's rank correlation of the validation scores of the trials that reached both. Halving has chosen these by"
    " the first score, which tends to lower it; with eta = 1, which stops nothing, it is that of all settings."
)


def section(findings: Findings) -> Section | None:
    """List how the search of a run went; None if it is no search, and for several runs, whose proposals are alike."""
    run = findings.run
    (row,) = run.rows(PROPOSALS)
    if not row["searched"] or len(run.paths) > 1:
        return None
    blocks = [
        listing(run, BEST_SO_FAR, "The best so far, by proposal"),
        _predictions_table(list(rung_predictions(run))),
    ]
    return Section(
        "search",
        "How the search went",
        _introduction(run),
        [block for block in blocks if block.table.rows],
        empty="No setting has ended yet.",
        short="Search",
    )


def _introduction(run: Run) -> str:
    """Say what the tables show, and what was left out of them or decided otherwise."""
    (row,) = run.rows(PROPOSALS)
    (not_finite,) = run.rows(NOT_FINITE)
    text = "Validation scores choose, so the best ones are optimistic; only confirmed settings are compared."
    if row["is_asynchronous"]:
        text += " Settings were continued without waiting for a whole rung,"
        text += " so the order in which trials ended decided, too."
    if not_finite["trials"]:
        text += f" Scores that are not numbers are left out: of {not_finite['trials']} trials."
    return text


def _predictions_table(predictions: Sequence[RungPrediction]) -> TableBlock:
    columns = [
        Column("rung", "string"), Column("later", "string", heading="compared with"),
        Column("correlation", "double", heading="rank correlation", scale="number:2"), Column("trials", "int64"),
    ]  # fmt: skip
    records = [{**vars(each), "later": each.later or "too few trials were continued"} for each in predictions]
    marks = [[WEAK_RUNG_MARK] if prediction.is_weak else [] for prediction in predictions]
    shown = [column.name for column in columns]
    table = Table(columns=columns, records=records, shown=shown, marks=marks, sql=RUNG_SCORES, note=PREDICTIONS_NOTE)
    return TableBlock(table, "What each rung predicts", derived=True)
