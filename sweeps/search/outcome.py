"""What a search has found, and what its rungs predict: lines for a person."""

from collections.abc import Iterator

from results.statistics.means import mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.search.records import Proposal
from tailor.execution.dry_run import Rung

CONFIRMED = """
SELECT metric, seed, validation_score, test_score FROM measured_points WHERE trial_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY seed
"""
RUNG_SCORES = """
SELECT trial_id, rung, epochs, point, validation_score AS score FROM rungs
UNION ALL SELECT trial_id, NULL, NULL, NULL, arg_max(validation_score, point)
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
ORDER BY rung, trial_id
"""
WEAK, FEWEST = 0.6, 4  # a rank correlation; different scores for one


def rung_lines(tables: Run) -> Iterator[str]:
    """Say how well each rung predicts what came later: Spearman's rank correlation over the trials that reached both.

    Later is the end, or where too few trials reached that, the last rung that enough have reached.
    """
    from scipy.stats import spearmanr

    scores: dict[int | None, dict[str, float]] = {}
    names: dict[int | None, str] = {None: "the end"}
    for row in tables.rows(RUNG_SCORES):
        scores.setdefault(row["rung"], {})[row["trial_id"]] = row["score"]
        if row["rung"] is not None:
            rung = Rung(number=row["rung"], epochs=row["epochs"], point=row["point"])
            names[rung.number] = f"rung {rung.number} ({rung})"
    numbers = sorted(number for number in scores if number is not None)
    for number in numbers:
        for later in (None, *(other for other in reversed(numbers) if other > number)):
            both = [key for key in scores[number] if key in scores.get(later, {})]
            pairs = [(scores[number][key], scores[later][key]) for key in both]
            if min(len({one for one, _ in pairs}), len({other for _, other in pairs})) >= FEWEST:
                found = float(spearmanr(pairs).statistic)
                weak = "; this is weak: leave this rung out, or choose a later one" if found < WEAK else ""
                over = f"{found:.2f} over {len(pairs)} trials"
                yield f"{names[number]}: rank correlation with {names[later]} {over}{weak}"
                break
        else:
            yield f"{names[number]}: too few trials were continued to see what it predicts"


def outcome_lines(proposals: list[Proposal], tables: Run) -> Iterator[str]:
    """Say how the confirmed settings score on the test split, the best by validation first."""
    found = []
    for proposal in proposals:
        if proposal.purpose == "end":
            yield f"the search ended early: {proposal.refusal}"
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
