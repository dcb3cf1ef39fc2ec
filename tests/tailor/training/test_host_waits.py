"""Inside an epoch the host does not wait for the GPU; seen on a pretended one.

`tests/tailor/execution/test_pretended_gpu.py` counts the waits of whole trials; here is what it notices.
"""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tailor.data.device_images import DeviceImages
from tailor.data.task_data import Batch, batches
from tailor.model.state import Pixels
from tailor.networks import building
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import TrainingExtras, train
from tests.tailor.forking import end_of
from tests.tailor.pretended_gpu import pretended_gpu, waits_within
from tests.tailor.training.test_train import all_of, samples, training

PLANTED: dict[str, tuple[str, Callable[[Tensor], Any]]] = {
    "item": ("_local_scalar_dense", lambda outputs: outputs.sum().item()),
    "cpu": ("_to_copy", lambda outputs: outputs.detach().cpu()),
    "tolist": ("tolist", lambda outputs: outputs.detach().tolist()),
    "boolean indexing": ("index", lambda outputs: outputs[outputs > 0.0]),
    "printing": ("printing", lambda outputs: print(outputs.detach(), file=io.StringIO())),  # noqa: T201
}


def test_a_wait_that_is_planted_in_an_epoch_is_noticed() -> None:
    assert end_of(_plant_all) == 0


def _plant_all() -> None:
    for name in PLANTED:
        _plant(name)


def _plant(name: str) -> None:
    operation, planted = PLANTED[name]
    settings = training(epochs=1)

    def penalty(_batch: Batch, outputs: Tensor) -> Tensor:
        planted(outputs)
        return outputs.sum() * 0.0

    with pretended_gpu() as ranks:
        model = building.build("digits_vgg", 5, seed=0).to(ranks.device)
        placed = DeviceImages(ranks.device).place(samples())
        with waits_within(train) as waits:
            train(model, all_of(model, settings), placed, settings, "none", Checkpoint(None, 0.0, ranks),
                  TrainingExtras(penalty=penalty))  # fmt: skip
    in_steps = [found for found, asking in waits if asking == "backward.Backward._pass"]
    assert in_steps.count(operation) >= 4 and set(in_steps) == {operation}, waits  # 50 images, 16 in a step


def test_a_batch_and_its_normalisation_wait_for_nothing() -> None:
    assert end_of(_feed) == 0


def _feed() -> None:
    """Of images on the GPU, and of images that stay on the host since the GPU has no memory for them."""
    pixels = Pixels(mean=(0.485,), std=(0.229,))
    for free_bytes in (10**9, 0):
        with pretended_gpu() as ranks:
            placed = DeviceImages(ranks.device, lambda _device, free_bytes=free_bytes: free_bytes).place(samples())
            with waits_within(_look) as waits:
                _look(placed, pixels, ranks)
        assert placed.images.device.type == ("cpu" if free_bytes == 0 else ranks.device.type)
        assert waits == []


def _look(placed: Any, pixels: Pixels, ranks: Any) -> None:
    for batch in batches(placed, 16, 0, 0, "shift", ranks):
        assert batch.images.device == ranks.device
        pixels.hook(torch.nn.Identity(), (batch.images,))
