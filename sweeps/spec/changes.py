"""What the exclusions of a spec and each `--set` change in its trials: one that changes none is refused."""

from collections.abc import Mapping
from typing import Any

from results.text.settings import leaves
from sweeps.errors import SpecError
from sweeps.spec.nested import ABSENT, value_at
from sweeps.spec.spec import Spec
from sweeps.spec.toml_text import set_option, toml_value
from transtailor.names import nearest


class Changes:
    """The exclusions and the `--set` of a spec; they note which of them have an effect on the trials looked at."""

    def __init__(self, spec: Spec) -> None:
        """No trial was looked at yet."""
        self._spec = spec
        self._exclusions = [_Exclusion(pattern, number) for number, pattern in enumerate(spec.exclude, start=1)]
        self._without = [one for one in spec.assignments if _is_setting(spec, one)]  # without effect so far
        self._trials: list[dict[str, Any]] = []  # for messages about exclusions

    @property
    def assignments_are_known(self) -> bool:
        """Whether each `--set` has an effect."""
        return not self._without

    @property
    def are_all_known(self) -> bool:
        """Whether all of them have an effect, so that no more trials need to be looked at."""
        return self.assignments_are_known and all(exclusion.used for exclusion in self._exclusions)

    def excludes(self, settings: Mapping[str, Any], label: str | None) -> bool:
        """Whether these settings of a trial are excluded."""
        named = settings if label is None else {**settings, "label": label}
        return any([exclusion.matches(named) for exclusion in self._exclusions])  # a list: each notes its match

    def look_at(self, settings: Mapping[str, Any], label: str) -> None:
        """Keep a trial, excluded or not, for messages about exclusions."""
        if self._exclusions:
            self._trials.append({**settings, "label": label})

    def keep(self, raw: Mapping[str, Any]) -> None:
        """Note which `--set` have an effect on a trial that is not excluded, or would have if it were possible.

        Args:
            raw: its settings as written, since parsing may change them (a relative path becomes absolute).
        """
        if self._without:
            self._without = [one for one in self._without if not _matches(_given(self._spec, one), _at(raw, one))]

    def check_exclusions(self, *, alone: bool = False) -> None:
        """Raise SpecError for an exclusion that matches no trial; `alone`: only if one of its settings matches none.

        One with a setting that a `--set` gives may match none: `--set 'axes.network=["digits_vgg"]'` of a spec that
        excludes some trials of digits_resnet.
        """
        given = {_setting(assignment) for assignment in self._spec.assignments}
        for exclusion in self._exclusions:
            if self._trials and not exclusion.used and not exclusion.settings & given:
                exclusion.refuse(self._spec.where, self._trials, alone=alone)

    def check_assignments(self) -> None:
        """Raise SpecError for a `--set trial.` that axes or variants override everywhere."""
        for assignment in self._without:
            setting, where = _setting(assignment), self._spec.where
            is_axis = setting in self._spec.axes
            place = "[axes]" if is_axis else "every variant"
            as_axis = set_option(f"axes.{setting}=[{toml_value(_given(self._spec, assignment))}]")
            advice = f"type {as_axis}" if is_axis else "change the spec's [[variants]]"
            raise SpecError(
                f"--set {assignment}: has no effect, because {place} of {where} sets {setting} itself; {advice}"
            )


def _setting(assignment: str) -> str:
    """The setting that a `--set` gives to all trials or as an axis."""
    return assignment.partition("=")[0].strip().removeprefix("trial.").removeprefix("axes.")


def _is_setting(spec: Spec, assignment: str) -> bool:
    """Whether a `--set` gives one setting of all trials."""
    return assignment.strip().startswith("trial.") and not isinstance(_given(spec, assignment), Mapping)


def _given(spec: Spec, assignment: str) -> Any:
    return _at(spec.trial, assignment)


def _at(table: Mapping[str, Any], assignment: str) -> Any:
    return value_at(table, _setting(assignment))


class _Exclusion:
    """A partial trial to exclude; notes whether it matched any trial."""

    def __init__(self, pattern: dict[str, Any], number: int) -> None:
        self.pattern = pattern
        self.number = number
        self.used = False

    @property
    def settings(self) -> set[str]:
        """The settings that all together exclude a trial, and maybe `label`."""
        return {key for key, _ in leaves(self.pattern)}

    def matches(self, settings: Mapping[str, Any]) -> bool:
        found = _matches(self.pattern, settings)
        self.used |= found
        return found

    def refuse(self, where: str, trials: list[dict[str, Any]], *, alone: bool) -> None:
        """Raise SpecError, with the nearest name, because this has excluded no trial."""
        where = f"{where} [[exclude]] {self.number}"
        for key, wanted in leaves(self.pattern):
            values = {toml_value(value) for trial in trials if (value := value_at(trial, key)) not in (ABSENT, None)}
            if not values:
                known = {name for trial in trials for name, _ in leaves(trial)}
                raise SpecError(f"{where}: no trial has a setting {key!r}{nearest(key, sorted(known))}")
            if not any(_matches(wanted, value_at(trial, key)) for trial in trials):
                raise SpecError(
                    f"{where} {key}: matches no trial; given {toml_value(wanted)}"
                    f"{nearest(toml_value(wanted), sorted(values))}"
                )
        if not alone:
            raise SpecError(f"{where}: matches no trial, though each of its settings does; correct it or remove it")


def _matches(pattern: Any, value: Any) -> bool:
    """Whether `value` has all settings of `pattern`; a list in the pattern stands for any of its values."""
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _matches(inner, value[key]) for key, inner in pattern.items()
        )
    if isinstance(pattern, list) and not isinstance(value, list):
        return any(_matches(choice, value) for choice in pattern)
    return type(pattern) is type(value) and pattern == value or _both_numbers(pattern, value) and pattern == value


def _both_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
