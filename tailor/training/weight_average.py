"""The exponential moving average of a model's weights over the steps of a training."""

import torch
from torch import Tensor, nn

from tailor.common.torch_private import move_towards


class WeightAverage:
    """The average of all floating-point tensors of a model's state, running statistics included.

    It starts from the weights. After step n (from 1) it is d x average + (1 - d) x weights with d = min(decay,
    n / (n + 9)), so that a short training does not end near its start. All ranks have the same average.

    Args:
        decay: in (0, 1); None: no average.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        state = {} if decay is None else model.state_dict()
        # The model's own tensors: they share its memory, and so have the weights after each step.
        self._weights = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        self.tensors = {name: tensor.clone() for name, tensor in self._weights.items()}
        self._decay = 0.0 if decay is None else decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Add the weights after a step to the average; `steps` is the number of steps so far."""
        if self.tensors:
            decay = min(self._decay, steps / (steps + 9.0))
            move_towards(list(self.tensors.values()), list(self._weights.values()), 1.0 - decay)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from the average of an earlier process."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    def move_in(self) -> None:
        """Set the model's weights to the average, if there is one."""
        for name, tensor in self.tensors.items():
            self._weights[name].copy_(tensor)
