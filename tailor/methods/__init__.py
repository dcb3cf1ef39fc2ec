"""One file per method; importing this package registers them all."""

from tailor.methods import baselines, transtailor
from tailor.methods.base import METHODS, Method, Steps, register

__all__ = ["METHODS", "Method", "Steps", "baselines", "register", "transtailor"]
