"""What arms are compared within."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Arms are compared within a problem: one network on one target data set with one number of training images."""

    network: str
    dataset: str
    train_images: int = 0  # 0: not known

    def __str__(self) -> str:
        images = "" if not self.train_images else f" ({self.train_images} training images)"
        return f"{self.network} on {self.dataset}{images}"
