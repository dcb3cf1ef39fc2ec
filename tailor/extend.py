"""What your own module imports: everything that docs/extend shows, from one module that keeps its name.

    from tailor.extend import CRITERIA, Criterion

Importing it imports no torch; `Samples`, `Scoring` and `batches` do, so import those inside a function.
"""

import importlib
from typing import Any

from tailor.config.allocations import ALLOCATIONS, Allocation, Global
from tailor.config.trial import METHODS, Method, TrialConfig, register
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.facts.regularisation import REGULARISERS, Regulariser
from tailor.methods.recipe import Recipe
from tailor.pruning.criteria import CRITERIA, Criterion
from tailor.stages import StageGenerator

__all__ = [
    "ALLOCATIONS", "CRITERIA", "DATASETS", "METHODS", "NETWORKS", "REGULARISERS", "Allocation", "Criterion",
    "DataInfo", "Global", "Method", "NetworkInfo", "Recipe", "Regulariser", "StageGenerator", "Steps", "TrialConfig",
    "register",
]  # fmt: skip
Steps = StageGenerator  # its name in modules that were written for version 0.1
_WITH_TORCH = {
    "Samples": "tailor.data.task_data",
    "batches": "tailor.data.task_data",
    "Scoring": "tailor.pruning.criteria.base",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(importlib.import_module(_WITH_TORCH[name]), name)
    raise AttributeError(f"module 'tailor.extend' has no attribute {name!r}")
