"""The sections of many trials, each validated and written as JSON once: nearly all trials have the same few."""

from typing import Any

from pydantic import ValidationError

from sweeps.spec.json_settings import JsonSettings
from tailor.config.trial import TrialConfig
from tailor.core.settings import Settings

_KINDS: dict[str, type[Settings]] = {
    name: type(field.default) for name, field in TrialConfig.model_fields.items() if isinstance(field.default, Settings)
}


class Sections:
    """Sections that the trials of one spec have in common; kept no longer, as a data set may be registered again."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], Settings] = {}
        self._written: dict[int, tuple[Settings, dict[str, Any]]] = {}  # with the section, so that no other has its id

    def parse(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the same settings with each section validated; one that is refused stays, for the trial's message."""
        sections: dict[str, Any] = {}
        for name, kind in _KINDS.items():
            if isinstance(given := raw.get(name), dict):
                key = (name, repr(given))  # in which 1, 1.0 and True differ, and 0.0 and -0.0
                try:
                    sections[name] = self._parsed.get(key) or self._parsed.setdefault(key, kind.model_validate(given))
                except ValidationError:
                    continue
        return raw | sections

    def write(self, config: TrialConfig) -> JsonSettings:
        """Return a trial's settings as plain values; equal sections are one object, never changed."""
        own = config.model_dump(mode="json", exclude=set(_KINDS))
        return JsonSettings(
            {name: own[name] if name in own else self._plain(getattr(config, name)) for name in _FIELDS}
        )

    def _plain(self, section: Settings) -> dict[str, Any]:
        if id(section) not in self._written:
            self._written[id(section)] = (section, section.model_dump(mode="json"))
        return self._written[id(section)][1]


_FIELDS = tuple(TrialConfig.model_fields)
