"""What arms are compared within."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from results.text.names import problem_text


class Problem(NamedTuple):
    """Arms are compared within a problem: one network on one target data set with one number of training images."""

    network: str
    dataset: str
    train_images: int = 0  # 0: not known

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Problem":
        """Return the problem of a row with its three columns, of which the images may be null."""
        return cls(row["network"], row["dataset"], row["train_images"] or 0)

    @property
    def record(self) -> dict[str, str | int | None]:
        """The columns that name it in a table; null where the images are not known."""
        return {"network": self.network, "dataset": self.dataset, "train_images": self.train_images or None}

    def __str__(self) -> str:
        return problem_text(self.network, self.dataset, self.train_images)
