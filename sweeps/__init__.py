"""TransTailor: which trials of a sweep run, and in which order. Specs, plans, the driver, and the commands."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.followed_run import FollowedRun, follow
    from sweeps.sweep import Sweep, SweepPlan

__all__ = ["FollowedRun", "Sweep", "SweepPlan", "follow"]


def __getattr__(name: str) -> Any:
    # Every process of a sweep imports this package; only notebooks use these names.
    if name in ("FollowedRun", "follow"):
        from sweeps import followed_run

        return getattr(followed_run, name)
    if name in ("Sweep", "SweepPlan"):
        from sweeps import sweep

        return getattr(sweep, name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
