"""The sections of many trials, each validated and written as JSON once: nearly all trials have the same few."""

from typing import Any

from pydantic import ValidationError

from sweeps.spec.json_settings import JsonSettings
from tailor.common.settings import Settings
from tailor.config.trial import TrialConfig

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
            table = raw.get(name)
            if not isinstance(table, dict):
                continue
            key = (name, repr(table))  # in which 1, 1.0 and True differ, and 0.0 and -0.0
            if key not in self._parsed:
                try:
                    self._parsed[key] = kind.model_validate(table)
                except ValidationError:
                    continue
            sections[name] = self._parsed[key]
        return raw | sections

    def write(self, config: TrialConfig) -> JsonSettings:
        """Return a trial's settings as plain values; equal sections are one object, never changed."""
        outside_sections = config.model_dump(mode="json", exclude=set(_KINDS))
        values = {}
        for name in _FIELDS:
            is_section = name not in outside_sections
            values[name] = self._plain(getattr(config, name)) if is_section else outside_sections[name]
        return JsonSettings(values)

    def _plain(self, section: Settings) -> dict[str, Any]:
        """Return a section as plain values, written once."""
        if id(section) not in self._written:
            self._written[id(section)] = (section, section.model_dump(mode="json"))
        return self._written[id(section)][1]


_FIELDS = tuple(TrialConfig.model_fields)
