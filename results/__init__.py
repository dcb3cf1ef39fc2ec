"""TransTailor sweeps, what came out: the Parquet store, statistics and the report; knows nothing of torch or Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.store.reader import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Whoever writes rows, or prints help, imports this package and must not pay for what reads them.
    if name == "load":
        from results.store.reader import load

        return load
    raise AttributeError(f"module 'results' has no attribute {name!r}")
