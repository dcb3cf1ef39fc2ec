"""How often seeds were added to the arms of a run, as its launches say."""

from collections.abc import Iterable, Mapping
from typing import Any

from results.store.launches import launches_of
from results.store.reader import Run

SAID_FROM = 2  # additions: with one more look than these, errors have become frequent
ADVICE = (
    "If that was decided by looking at the results, more than 5% of such arms would be called better or worse without"
    " any difference: 18% of simulated sweeps with seven looks. --anytime gives intervals that hold however often one"
    " looks; [settle] in a spec adds seeds and keeps to 5%."
)


def seed_additions(run: Run) -> dict[str, int]:
    """Return how many launches added seeds to each arm that had some; arms without any are left out.

    Of several runs, the sums. A run without a provenance.json that can be read counts as never extended.
    """
    additions: dict[str, int] = {}
    for folder in run.paths.values():
        for arm, count in _additions_in(launches_of(folder)).items():
            additions[arm] = additions.get(arm, 0) + count
    return additions


def _additions_in(launches: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the launches that added seeds to each arm, by the names that arms have now."""
    additions: dict[str, int] = {}
    for launch in launches:
        renamed = launch.get("renamed_arms") or {}
        additions = {renamed.get(arm, arm): count for arm, count in additions.items()}
        for arm in launch.get("more_seeds") or {}:
            additions[arm] = additions.get(arm, 0) + 1
    return additions


def extension_notes(run: Run, arms: Iterable[str]) -> list[str]:
    """Say what adding seeds again and again does to the verdicts; nothing if no compared arm got some twice."""
    additions = seed_additions(run)
    most = max((additions.get(arm, 0) for arm in arms), default=0)
    if most < SAID_FROM:
        return []
    return [f"Seeds were added {most} times to arms that are compared. {ADVICE}"]
