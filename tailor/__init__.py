"""TransTailor sweeps, what a trial does: load, score, prune, fine-tune; without Ray, SLURM or tables."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailor.model.state import load_model
    from tailor.user_module.prune import prune, transtailor
    from tailor.user_module.pruned import PrunedNetwork, load

__all__ = ["PrunedNetwork", "load", "load_model", "prune", "transtailor"]
_MODULES = dict.fromkeys(("prune", "transtailor"), "user_module.prune") | dict.fromkeys(
    ("load", "PrunedNetwork"), "user_module.pruned"
)
_MODULES["load_model"] = "model.state"


def __getattr__(name: str) -> Any:
    # Planning imports this package and must not import torch.
    if name in _MODULES:
        return getattr(import_module(f"tailor.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'tailor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
