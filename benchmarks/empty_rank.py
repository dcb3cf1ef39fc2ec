"""A rank whose stages do nothing, so that what is left of a trial is its scheduling. Without torch."""

from typing import Any


class EmptyRank:
    """begin / advance / close, as sweeps.trial.TrialRank; the trial's stages stand in config["data"]["stage_keys"]."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def begin(self, task: dict[str, Any]) -> None:
        """Take up a trial."""
        self._keys = list(task["config"]["data"]["stage_keys"])

    def advance(self) -> dict[str, Any] | None:
        """The next stage, done already; None after the last."""
        if not self._keys:
            return None
        return {"stage_key": self._keys.pop(0), "kind": "empty", "cached": False, "seconds": 0.0, "point": None}

    def close(self) -> None:
        """Nothing to let go of."""
