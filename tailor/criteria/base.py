"""What a criterion gets to see."""

from dataclasses import dataclass

from tailor.data import Samples
from tailor.distributed import Ranks
from tailor.stages import Placement
from tailor.state import ModelState
from tailor.surgery import Group


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring:
    """A model to be scored; the fields that a criterion did not declare to need are None."""

    state: ModelState
    found: tuple[Group, ...]
    ranks: Ranks
    samples: Samples | None  # the target's training images
    batch_size: int | None  # global
    placement: Placement | None
    seed: int | None

    @property
    def data(self) -> Samples:
        """The samples of a criterion that declared `reads_data`."""
        assert self.samples is not None
        return self.samples
