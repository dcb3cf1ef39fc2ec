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
    """Notes which exclusions and which `--set` of a spec have an effect on its trials."""

    def __init__(self, spec: Spec) -> None:
        """Begin with no trial looked at."""
        self._spec = spec
        self._exclusions = [_Exclusion(pattern, number) for number, pattern in enumerate(spec.exclude, start=1)]
        self._assignments_without_effect = [
            assignment
            for assignment in spec.assignments  # not an axis, nor a whole table
            if assignment.strip().startswith("trial.") and not isinstance(assigned_value(spec, assignment), Mapping)
        ]  # so far
        self._trials: list[dict[str, Any]] = []  # for messages about exclusions

    @property
    def assignments_are_known(self) -> bool:
        """Whether each `--set` has an effect."""
        return not self._assignments_without_effect

    @property
    def are_all_known(self) -> bool:
        """Whether all of them have an effect, so that no more trials need to be looked at."""
        return self.assignments_are_known and all(exclusion.used for exclusion in self._exclusions)

    def excludes(self, settings: Mapping[str, Any], label: str | None) -> bool:
        """Whether these settings of a trial are excluded."""
        labelled_settings = settings if label is None else {**settings, "label": label}
        is_excluded = False
        for exclusion in self._exclusions:  # all of them, because each notes its match
            if exclusion.matches(labelled_settings):
                is_excluded = True
        return is_excluded

    def remember(self, settings: Mapping[str, Any], label: str) -> None:
        """Keep a trial, excluded or not, for messages about exclusions."""
        if self._exclusions:
            self._trials.append({**settings, "label": label})

    def keep(self, raw: Mapping[str, Any], over: Mapping[str, Any]) -> None:
        """Note which `--set` have an effect on a trial that is not excluded, or would have if it were possible.

        Args:
            raw: its settings as written; a table of another name (a method) has replaced that of [trial].
            over: those of them that are not of [trial], but of the variant, the axes or [tuning].
        """
        self._assignments_without_effect = [
            assignment
            for assignment in self._assignments_without_effect
            if value_at(over, setting_of(assignment)) is not ABSENT or value_at(raw, setting_of(assignment)) is ABSENT
        ]

    def check_exclusions(self, *, sampled: bool = False) -> None:
        """Raise SpecError for an exclusion that matches no trial.

        `sampled`: not all trials were looked at, only some with each value of each axis. A combination may then be
        among the others, so an exclusion is refused only if one of its settings matches none.

        One with a setting that a `--set` gives may match none: `--set 'axes.network=["digits_vgg"]'` of a spec that
        excludes some trials of digits_resnet.
        """
        assigned_settings = {setting_of(assignment) for assignment in self._spec.assignments}
        for exclusion in self._exclusions:
            may_match_none = bool(exclusion.settings & assigned_settings)
            if self._trials and not exclusion.used and not may_match_none:
                exclusion.refuse(self._spec.where, self._trials, sampled=sampled)

    def check_assignments(self) -> None:
        """Raise SpecError for a `--set trial.` that axes or variants override everywhere."""
        for assignment in self._assignments_without_effect:
            setting = setting_of(assignment)
            axes = [axis for axis in self._spec.axes if setting.startswith(f"{axis}.")]  # of whole tables
            if axes:
                overriding, advice = "[axes]", f"change the tables of {axes[0]} there"
            elif setting in self._spec.axes:
                overriding = "[axes]"
                value = assigned_value(self._spec, assignment)
                values = value if isinstance(value, list) else [value]
                advice = f"type {set_option(f'axes.{setting}={toml_value(values)}')}"
            else:
                overriding = "every variant"
                advice = "change the spec's [[variants]]"
                name = f"{setting.rpartition('.')[0]}.name"
                if name != setting and value_at(self._spec.trial, name) is not ABSENT:
                    setting += f" or {name}"
            raise SpecError(
                f"--set {assignment}: has no effect, because {overriding} of {self._spec.where} sets {setting} itself; "
                f"{advice}"
            )


def setting_of(assignment: str) -> str:
    """Return the setting that a `--set` gives to all trials or as an axis."""
    return assignment.partition("=")[0].strip().removeprefix("trial.").removeprefix("axes.")


def assigned_value(spec: Spec, assignment: str) -> Any:
    """Return the value that a `--set` has given to the base trial."""
    return value_at(spec.trial, setting_of(assignment))


class _Exclusion:
    """A partial trial to exclude; notes whether it matched any trial."""

    def __init__(self, pattern: dict[str, Any], number: int) -> None:
        self.pattern = pattern
        self.number = number
        self.used = False

    @property
    def settings(self) -> set[str]:
        """The settings that all together exclude a trial, and maybe `label`."""
        return {key for key, _value in leaves(self.pattern)}

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Whether this excludes a trial with these settings; a match is noted in `used`."""
        is_match = _matches(self.pattern, settings)
        self.used |= is_match
        return is_match

    def refuse(self, where: str, trials: list[dict[str, Any]], *, sampled: bool) -> None:
        """Raise SpecError, with the nearest name, because this has excluded no trial.

        Of `sampled` trials, return if each setting matches some trial: all may match together in one not looked at.
        """
        where = f"{where} [[exclude]] {self.number}"
        for key, pattern in leaves(self.pattern):
            values_of_trials = [_named(value_at(trial, key)) for trial in trials]
            has_value = [value for value in values_of_trials if value not in (ABSENT, None)]
            values_in_use = {toml_value(value) for value in has_value if not isinstance(value, Mapping)}
            if not values_in_use:
                known_keys = {known_key for trial in trials for known_key, _value in leaves(trial)}
                raise SpecError(f"{where}: no trial has a setting {key!r}{nearest(key, sorted(known_keys))}")
            if not any(_matches(pattern, value) for value in values_of_trials):
                raise SpecError(
                    f"{where} {key}: matches no trial; given {toml_value(pattern)}"
                    f"{nearest(toml_value(pattern), sorted(values_in_use))}"
                )
        if not sampled:
            raise SpecError(f"{where}: matches no trial, though each of its settings does; correct it or remove it")


def _matches(pattern: Any, value: Any) -> bool:
    """Whether `value` has all settings of `pattern`; a list in the pattern stands for any of its values."""
    if isinstance(pattern, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _matches(inner, value[key]) for key, inner in pattern.items()
        )
    if isinstance(pattern, list) and not isinstance(value, list):
        return any(_matches(choice, value) for choice in pattern)
    value = _named(value)
    are_comparable = type(pattern) is type(value) or (_is_number(pattern) and _is_number(value))
    return are_comparable and pattern == value


def _named(value: Any) -> Any:
    """Return the name of a table that has one, as a spec may have it instead: `method = "prune"`."""
    return value.get("name", value) if isinstance(value, Mapping) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
