"""What the looks of a run have settled: lines for a person."""

from collections.abc import Iterator, Sequence

from results.arms.looks import RecordedLook, looks_by_comparison
from results.statistics.means import Mean
from results.text.number_format import SCALES


def outcome_lines(looks: Sequence[RecordedLook]) -> Iterator[str]:
    """Say of each comparison what is decided, after how many seeds; then why any of them stays open."""
    for comparison, looks_of_it in looks_by_comparison(list(looks)).items():
        last = looks_of_it[-1]
        yield f"{comparison}: {verdict_text(last)}"
    reasons = sorted({look.ended for look in looks if look.ended})
    for reason in reasons:
        yield f"no more seeds are added: {reason}; who wants more makes a new run, with more looks and --name"


def verdict_text(look: RecordedLook) -> str:
    """Say what a look has decided, with the interval that holds at all looks."""
    if look.verdict == "incomplete":
        return f"incomplete, {len(look.failed)} of its trials have failed or have no test score there"
    scale = SCALES[look.metric]
    interval = scale.interval(Mean(look.seeds, look.mean, look.deviation, look.low, look.high), signed=True)
    return f"{look.verdict} after {look.seeds} seeds, {scale.difference(look.mean)}{scale.difference_unit} [{interval}]"
