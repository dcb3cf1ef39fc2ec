"""The exponential moving average of a model's weights over the steps of a training."""

import torch
from torch import Tensor, nn

from tailor.core.torch_private import move_towards


class WeightAverage:
    """The average of all floating-point tensors of a model's state, running statistics included.

    After step n (from 1) it is d x average + (1 - d) x weights with d = min(decay, n / (n + 9)): so a short training
    does not end near the weights that it started from. It starts from those weights. Ranks hold equal averages.

    Args:
        model: what is averaged.
        decay: in (0, 1); None averages nothing, and nothing is kept.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        state = {} if decay is None else model.state_dict()  # tensors that share the model's memory
        self._now = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        self.tensors = {name: tensor.clone() for name, tensor in self._now.items()}
        self._decay = 0.0 if decay is None else decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take the weights in after a step, `steps` in all so far."""
        if self.tensors:
            decay = min(self._decay, steps / (steps + 9.0))
            move_towards([*self.tensors.values()], [*self._now.values()], 1.0 - decay)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what an earlier process had averaged."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    def move_in(self) -> None:
        """Give the model the average for its weights, if there is one."""
        for name, tensor in self.tensors.items():
            self._now[name].copy_(tensor)
