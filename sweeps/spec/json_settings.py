"""The settings of a trial as files, tables and ranks have them. No torch."""

from dataclasses import dataclass
from typing import Any

from tailor.config.trial import TrialConfig


@dataclass(frozen=True, slots=True)
class JsonSettings:
    """A `TrialConfig` as plain JSON values, defaults included; no module of the user is needed to read them."""

    values: dict[str, Any]

    @property
    def network(self) -> str:
        """The network's name."""
        return str(self.values["network"])

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return str(self.values["data"]["name"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.values["method"]["name"])

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return int(self.values["seed"])

    def parse(self) -> TrialConfig:
        """Return the configuration; the user's modules that it names have to be imported before."""
        return TrialConfig.model_validate(self.values)
