"""Searches with halving whose every score is known: which settings were tried, and how far each came."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from results.store.writer import Writer
from tests.results.exact_run import COMMON, START, Trial, write_run

RUNGS = (1, 4)  # epochs
NOTHING: Mapping[int, int] = {}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A setting of a search, tried with one seed.

    Attributes:
        scores: at each rung that it reached; one more: at its end.
        state: finished, stopped, resting, running, or continued: it was stopped, and runs again.
        values: of the axes.
        removed: share of the MACs that its last point lacks.
    """

    scores: Sequence[float]
    state: str = "finished"
    values: Mapping[str, Any] = field(default_factory=dict)
    removed: float = 0.2

    @property
    def trial(self) -> Trial:
        """Its trial; unless it ended, without points."""
        ended = {"resting": "missing", "running": "missing", "continued": "stopped"}.get(self.state, self.state)
        last = self.scores[len(RUNGS) :]
        return Trial(label="arm", seed=0, config=dict(self.values), ended=ended, right=(50,) * len(last),
                     validation=last, removed=(self.removed,))  # fmt: skip


def write_halved(run: Path, tried: Sequence[Tried], confirmed: Mapping[int, int] = NOTHING) -> Path:
    """Writes the run, and says where.

    Args:
        confirmed: number of a setting -> how many of 100 test images its six trials with new seeds name rightly.
    """
    again = {
        number: [Trial(label=f"arm, proposal {number}", seed=seed, right=(right + seed % 2,),
                       config=dict(tried[number].values)) for seed in range(1, 7)]
        for number, right in confirmed.items()
    }  # fmt: skip
    trials = [one.trial for one in tried]
    write_run(run, [*trials, *(trial for several in again.values() for trial in several)])
    of = {"batch": 0, "variant": 0, "drawn_by": "random", "refusal": None, **COMMON}
    groups = [([trial], "search", None, one) for trial, one in zip(trials, tried, strict=True)]
    groups += [(several, "confirm", number, tried[number]) for number, several in again.items()]
    writer = Writer(run / "tables")
    writer.add("proposals", [
        {**of, "number": number, "purpose": purpose, "confirms": confirms, "values_json": json.dumps(dict(one.values)),
         "seeds": [trial.seed for trial in several], "trial_ids": [trial.trial_id for trial in several]}
        for number, (several, purpose, confirms, one) in enumerate(groups)
    ])  # fmt: skip
    writer.add("rungs", [
        {**COMMON, "trial_id": one.trial.trial_id, "rung": rung, "epochs": RUNGS[rung], "point": None,
         "stage_key": "0" * 64, "metric": "accuracy", "validation_score": score, "macs": 1000}
        for one in tried for rung, score in enumerate(one.scores[: len(RUNGS)])
    ])  # fmt: skip
    writer.add("attempts", [row for one in tried for row in _attempts(one)])
    writer.commit()
    return run


def _attempts(one: Tried) -> list[dict[str, Any]]:
    """One to each rung that it reached, and the last one; all trials end at `START`."""
    last = {"finished": ["finished"], "running": ["running"], "continued": ["running"]}.get(one.state, [])
    statuses = ["rested"] * len(one.scores[: len(RUNGS)]) + last
    minutes = [place - len(statuses) for place in range(len(statuses))]
    minutes[-1] = 1 if one.state == "continued" else minutes[-1]
    return [
        {**COMMON, "trial_id": one.trial.trial_id, "attempt": place + 1, "driver": "d", "status": status, "cause": None,
         "log_tail": None, "host": "h", "started_at": START + timedelta(minutes=minutes[place]), "ended_at": None}
        for place, status in enumerate(statuses)
    ]  # fmt: skip
