"""The verdict of a search: the best of the settings that it confirmed with new seeds, against the next."""

from dataclasses import replace

from results.arms.comparison import arms_of, compare
from results.arms.findings import Findings
from results.arms.verdict import verdict

PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed
FROM proposals
"""


def headline(found: Findings) -> str:
    """Write the verdict; empty if the run is no search. Only rows of confirmed settings are in `found.points`."""
    (row,) = found.run.rows(PROPOSALS)
    if not row["searched"]:
        return ""
    ends = {point.trial_id: replace(point, asked=None) for point in found.points if point.test is not None}
    arms = [arm for arm in arms_of(ends.values(), found.environments) if arm.validation.mean is not None]
    if not arms:
        why = (
            "none of those chosen has ended yet" if row["confirmed"] else "none is confirmed with new seeds ([confirm])"
        )
        return f"Of {row['searched']} settings searched, {why}: nothing can be compared."
    best, *others = (arm for arm in arms if arm.problem == arms[0].problem)
    scale = found.scales[best.problem]
    text = (
        f"Of {row['searched']} settings searched and {row['confirmed']} confirmed with new seeds, {best.label} is best"
        f" by validation: test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    return f"{text} Against the next, {others[0].label}: {verdict(compare([(best, others[0])]))}" if others else text
