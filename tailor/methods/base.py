"""What a method is: settings with a name, and a generator that yields stages and reads like its paper."""

from abc import abstractmethod
from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tailor.registry import Registry
from tailor.settings import Settings
from tailor.stages import Outcome, Stage

if TYPE_CHECKING:
    from tailor.config import TrialConfig

Steps = Generator[Stage, Outcome, None]
M = TypeVar("M", bound="Method")


class Method(Settings):
    """Settings of one method; subclasses set `name` to a literal and are registered with `register`."""

    version: ClassVar[int] = 1
    keeps_source_head: ClassVar[bool] = False
    """Whether it trains on the source task with the pre-trained network's own head, which then has to fit that task."""
    name: str

    @abstractmethod
    def walk(self, config: "TrialConfig") -> Steps:
        """Yield the stages of a trial in order; each `yield` gives the stage's outcome back."""

    def check(self, config: "TrialConfig") -> None:
        """Raise ValueError for a combination of settings that cannot be, before anything is trained."""

    def warnings(self, config: "TrialConfig") -> tuple[str, ...]:  # noqa: ARG002
        """What a user should know before she starts such a trial; nothing by default."""
        return ()

    def label(self) -> str:
        """The name of this arm in comparisons, unless the spec gives one."""
        return self.name


def check_path(steps: int, step_macs_fraction: float) -> None:
    """Raise ValueError for a path whose steps together remove the whole network."""
    if steps * step_macs_fraction >= 1.0:
        raise ValueError(
            f"steps x step_macs_fraction = {steps * step_macs_fraction:g} removes the whole network; "
            "choose fewer steps or a smaller step, so that the product stays below 1"
        )


METHODS: Registry[type[Method]] = Registry("method")


def register(method: type[M]) -> type[M]:
    """Make a method usable by its name (class decorator)."""
    METHODS.add(method.model_fields["name"].default, method)
    return method
