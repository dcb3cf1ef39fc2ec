"""TransTailor: which trials of a sweep run, and in which order. Specs, plans, the driver, and the commands."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.followed_run import FollowedRun, follow
    from sweeps.sweep import Sweep, SweepPlan

__all__ = ["FollowedRun", "Sweep", "SweepPlan", "follow"]


def __getattr__(name: str) -> Any:
    # Every process of a sweep imports this package; only notebooks use these names.
    if name in __all__:
        return getattr(import_module("sweeps.sweep" if name.startswith("Sweep") else "sweeps.followed_run"), name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
