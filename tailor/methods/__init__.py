"""One file per method; importing this package registers them all."""

from tailor.methods import adaptation, baselines, pac_net, prune, schemes, transtailor
from tailor.methods.base import METHODS, Method, Steps, register

__all__ = [
    "METHODS",
    "Method",
    "Steps",
    "adaptation",
    "baselines",
    "pac_net",
    "prune",
    "register",
    "schemes",
    "transtailor",
]
