"""TransTailor: the results of sweeps (Parquet store, statistics, report). Imports neither torch nor Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.loaded_run import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Writing rows or printing help imports this package too; only reading should cost the import of the reader.
    if name == "load":
        from results.loaded_run import load

        return load
    raise AttributeError(f"module 'results' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
