"""What a search has found: lines for a person."""

from collections.abc import Iterator

from results.statistics.means import mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.search.records import Proposal

CONFIRMED = """
SELECT metric, seed, validation_score, test_score FROM measured_points WHERE trial_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY seed
"""


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
