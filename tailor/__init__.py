"""TransTailor sweeps, what a trial does: load, score, prune, fine-tune; without Ray, SLURM or tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailor.model.state import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    # Planning imports this package and must not import torch.
    if name == "load_model":
        from tailor.model.state import load_model

        return load_model
    raise AttributeError(f"module 'tailor' has no attribute {name!r}")
