"""A sweep as its author writes it: TOML -> Spec, with `extends` and `--set`. expand.py makes the trials.

docs/spec_keys.md lists every key; sweeps/specs/tour.toml shows most of them.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeps.errors import SpecError
from sweeps.spec.axes import (
    SEEDS,
    SPEC_KEYS,
    TRIAL_KEYS,
    check_axes,
    check_tied,
    check_trial_keys,
    flat_axes,
    probable_axis,
)
from sweeps.spec.nested import check_plain, merge_tables, set_value
from sweeps.spec.printed_rows import PrintedRow, parse_printed
from sweeps.spec.resources import Resources
from sweeps.spec.search_settings import ConfirmSettings, SearchSettings, check_search
from sweeps.spec.settle_settings import SEED, SettleSettings, check_settle
from sweeps.spec.toml_text import literal, set_option, toml_value
from tailor.config.parsing import is_list, nearest_setting, settings_by_name
from transtailor.documents import DEEPEST, DocumentError, describe_fault, read_toml
from transtailor.files import is_there
from transtailor.names import closest, nearest
from transtailor.shell import command
from transtailor.validation import list_faults

SPECS = Path(__file__).resolve().parents[1] / "specs"
EMBEDDED_SPEC = SPECS / "demo.toml"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NO_VALUES = ("null", "NULL", "Null", "nil", "None")  # of other languages; "none" is a value of some settings
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class Variant(BaseModel):
    """Settings that are merged on the base trial, with optional axes."""

    model_config = _STRICT
    label: str | None = Field(default=None, min_length=1)
    """Its name in comparisons, which the names of its arms begin with; None: the method's name (and criterion)."""
    axes: dict[str, list[Any]] = {}
    """Crossed with the common axes, only for this variant; keys are dotted."""
    settings: dict[str, Any] = {}
    """A partial trial, as nested tables."""

    def as_table(self) -> dict[str, Any]:
        """Return the table [[variants]] of a spec file."""
        head = {"label": self.label, "axes": self.axes}
        return {key: value for key, value in head.items() if value} | self.settings


class Spec(BaseModel):
    """A sweep before it is expanded, with `extends` and `--set` applied."""

    model_config = _STRICT
    name: str
    """Name of the sweep and its run folder."""
    imports: list[str] = []
    """Paths of your own modules, in a file relative to it."""
    tied_to_seed: list[str] = []
    """Dotted keys of seeds that are set to the trial's seed: each seed draws its own source or splits."""
    trial: dict[str, Any] = {}
    """The base trial, partial, as nested tables."""
    axes: dict[str, list[Any]] = {}
    """Dotted key -> the values to cross."""
    tuning: dict[str, list[Any]] = {}
    """The same, for values from which the best is chosen: all arms have the same number of settings."""
    variants: list[Variant] = []
    """Settings merged on the base trial, each with `label` and `axes` if wanted; without any, the base alone."""
    exclude: list[dict[str, Any]] = []
    """Partial trials (and `label`); a list stands for any of its values."""
    search: SearchSettings | None = None
    """How settings are chosen from the axes; None: all of them are run."""
    confirm: ConfirmSettings | None = None
    """How the best settings of a search are run again; None: they are not, and nothing is compared."""
    settle: SettleSettings | None = None
    """How seeds are added until each comparison is settled; None: all trials are run."""
    resources: Resources = Resources()
    """What each trial uses: ranks, threads, GPUs."""
    printed: list[PrintedRow] = []
    """Numbers of papers that the report shows beside the measured ones; they change no trial."""
    where: str = Field(default="", exclude=True)
    """The file, for messages."""
    path: Path | None = Field(default=None, exclude=True)
    """The path of the file, for line numbers in messages."""
    assignments: list[str] = Field(default=[], exclude=True)
    """The `--set`s as typed, for messages."""

    @property
    def adds_trials(self) -> bool:
        """Whether trials are added while the sweep runs, decided by the scores so far."""
        return self.search is not None or self.settle is not None

    def check_gpu_hours(self) -> None:
        """Raise SpecError if a search or [settle] is limited by hours of GPUs, and its trials use none."""
        for name, settings in (("search", self.search), ("settle", self.settle)):
            gpu_hours = None if settings is None else settings.gpu_hours
            if gpu_hours is not None and not self.resources.gpus_per_rank:
                raise SpecError(
                    f"{self.where} [{name}] gpu_hours = {gpu_hours:g}: trials use no GPU (gpus_per_rank in "
                    "[resources] is 0), so none pass; give hours instead"
                )

    def seed_tables(self) -> list[str]:
        """Return the tables that give the key `seed`, such as "[axes]"."""
        tables = {"[trial]": self.trial, "[axes]": self.axes}
        for number, variant in enumerate(self.variants, start=1):
            tables[f"[[variants]] {number}"] = {**variant.settings, **variant.axes}
        return [name for name, table in tables.items() if SEED in table]

    def to_toml(self, imports: Sequence[str] | None = None) -> str:
        """Write the spec as self-contained TOML; `load_spec` reads it back as an equal spec.

        `imports` are the paths to write instead of the spec's own.
        """
        # Axes keep their dotted keys, in quotes: as nested tables they would change their order.
        document = self.model_dump(exclude_none=True) | {
            "imports": self.imports if imports is None else list(imports),
            "variants": [variant.as_table() for variant in self.variants],
            "resources": self.resources.as_said(),
        }
        return tomli_w.dumps({key: value for key, value in document.items() if value})


def load_spec(
    path: Path, assignments: Sequence[str] = (), name: str | None = None, imports: Sequence[Path] = ()
) -> Spec:
    """Read a spec file.

    Args:
        path: a TOML file.
        assignments: `key=value` each, as typed after `--set`; they are applied last.
        name: replaces the spec's name.
        imports: user modules in addition to those of the spec; they are not imported here.

    Raises:
        SpecError: no such file, not TOML, an unknown key, a value of the wrong type; the text says what to type.
    """
    if path.is_fifo():
        raise SpecError(f"{path} is a pipe; save the spec as a file, which the launch that resumes reads again")
    document = _read_document(path, ())
    _refuse_single_trial(document, path)
    keys = [assignment.partition("=")[0].strip() for assignment in assignments]
    for key in keys:
        if keys.count(key) > 1:
            raise SpecError(f"--set {key}=...: is typed {keys.count(key)} times; leave all but one out")
    modules = [str(module.resolve()) for module in imports]
    document["imports"] += [module for module in modules if module not in document["imports"]]
    for assignment in assignments:
        _assign(document, assignment)
    if name is not None:
        document["name"] = name
    return _checked(document, path.name, is_name_typed=name is not None, path=path, assignments=[*assignments])


def spec_of(document: Mapping[str, Any], where: str) -> Spec:
    """Return the spec of a document as TOML would give it; its paths are relative to the working folder.

    Raises:
        SpecError: as `load_spec`, with `where` as the name of the document.
    """
    check_plain(document, where)
    return _checked(_completed(deepcopy(dict(document)), Path(where), ()), where)


def _checked(document: dict[str, Any], where: str, *, is_name_typed: bool = False, **source: Any) -> Spec:
    """Return the spec of a whole document; `source` has the fields that only messages read."""
    _check_keys(document, where)
    variants = [_variant(raw, f"{where} [[variants]] {number}") for number, raw in _tables(document, "variants", where)]
    exclude = [raw for _number, raw in _tables(document, "exclude", where)]
    for number, raw in enumerate(exclude, start=1):
        check_trial_keys(raw, ("label",), f"{where} [[exclude]] {number}")
    check_trial_keys(_table(document, "trial", where), (), f"{where} [trial]")
    check_axes(document["axes"], f"{where} [axes]")
    check_axes(document["tuning"], f"{where} [tuning]")
    for key in ("seed", *SEEDS):
        if key in document["tuning"]:
            raise SpecError(f"{where} [tuning] {key}: it would keep the best seed by validation; write it under [axes]")
    check_tied(document.get("tied_to_seed", []), where)
    document |= {"variants": variants, "exclude": exclude}
    document["printed"] = parse_printed([raw for _number, raw in _tables(document, "printed", where)], where)
    try:
        spec = Spec(**document, where=where, **source)
    except ValidationError as error:
        raise SpecError(_explained(error, where)) from None
    check_name(spec.name, "--name" if is_name_typed else f"{where} name")
    check_search(spec.search, spec.confirm, spec.tuning, where)
    check_settle(spec.settle, document, spec.seed_tables(), where)
    if spec.resources.says_gpus:
        spec.check_gpu_hours()
    return spec


def files_of(path: Path) -> Iterator[Path]:
    """Yield the file of a spec that was read, and those that it extends, the nearest first."""
    yield path
    base_name = read_toml(path).get("extends")
    if base_name is not None:
        yield from files_of(find_spec(Path(base_name), path.parent))


def find_spec(name: Path, folder: Path = Path()) -> Path:
    """Return the file that was typed in `folder`, or the shipped spec of that name if it does not exist: `demo`."""
    shipped = SPECS / f"{name}.toml"
    is_shipped = name.parent == Path() and not (folder / name).is_file() and shipped.is_file()
    return shipped if is_shipped else folder / name


def check_name(name: str, where: str) -> None:
    """Raise SpecError unless `name` can name a run folder on any file system."""
    if not RUN_NAME.fullmatch(name):
        raise SpecError(
            f"{where}: {name!r} cannot name a run folder; type a name of a-z, A-Z, 0-9, '.', '_' and '-' "
            "that begins with a letter or a digit, of at most 100 characters"
        )


def _read_document(path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in extended_by:
        raise SpecError(f"{path.name}: extends itself, through {', '.join(other.name for other in extended_by)}")
    return _completed(_read_toml(path), path, extended_by)


def _completed(document: dict[str, Any], path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    """Return a document with dotted axes, absolute imports and what it extends; changes `document`."""
    for table in ("axes", "tuning"):
        document[table] = flat_axes(document.get(table, {}), f"{path.name} [{table}]")
    document["imports"] = _absolute(document.get("imports", []), path)
    if "extends" not in document:
        return document
    base_name = document.pop("extends")
    if not isinstance(base_name, str):
        raise SpecError(f'{path.name} extends: given {base_name!r}; type a path, or a shipped name: extends = "demo"')
    if "name" not in document:
        raise SpecError(f'{path.name}: has no name; type name = "{path.stem}" (its run folder) at the top')
    base_path = find_spec(Path(base_name), path.parent)
    base = _read_document(base_path, (*extended_by, path))
    tables = {table: base[table] | document[table] for table in ("axes", "tuning")}
    tables["imports"] = list(dict.fromkeys(base["imports"] + document["imports"]))
    return merge_tables(base, document) | tables


def _absolute(imports: Any, spec: Path) -> list[str]:
    """Resolve the paths of modules in a spec, which are relative to it."""
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        raise SpecError(f'{spec.name} imports: given {imports!r}; type a list, as in imports = ["my_method.py"]')
    return [str((spec.parent / name).resolve()) for name in imports]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = read_toml(path)
    except FileNotFoundError:
        neighbours = [neighbour.name for neighbour in path.parent.glob("*.toml")]
        shipped_names = [shipped.stem for shipped in SPECS.glob("*.toml")]
        is_a_neighbour = closest(path.name, neighbours) is not None and path.stem not in shipped_names
        typed = path.name if is_a_neighbour else path.stem  # shipped ones are typed without .toml
        if f"{path.name}.toml" in neighbours:
            typed = f"{path.name}.toml"
        nearest_name = nearest(typed, [*neighbours, *shipped_names])
        raise SpecError(
            f"no such spec: {path}{nearest_name}; type the path of a TOML file, or a shipped name"
        ) from None
    except OSError as error:
        if is_there(path / "spec.toml"):
            raise SpecError(f"{path} is the folder of a run; to resume it, type: {command('retry', path)}") from None
        raise SpecError(f"{path}: cannot be read as a spec: {error.strerror}; type the path of a TOML file") from None
    except DocumentError as error:
        raise SpecError(f"{path.name}: {describe_fault(path, error)}") from None
    check_plain(document, path.name)
    return document


def _variant(raw: Mapping[str, Any], where: str) -> Variant:
    check_trial_keys(raw, ("label", "axes"), where)
    axes = flat_axes(raw.get("axes", {}), f"{where} axes")
    check_axes(axes, f"{where} axes")
    settings = {key: value for key, value in raw.items() if key not in ("label", "axes")}
    label = raw.get("label")
    if isinstance(label, str) and label:
        shown = "".join(sign if sign.isprintable() else " " for sign in unicodedata.normalize("NFC", label))
        tidy = " ".join(shown.split())
        if label != tidy:  # it may look like another arm's
            raise SpecError(f"{where} label: given {label!r}; type a name in one line: {tidy!r}")
    try:
        return Variant(label=label, axes=axes, settings=settings)
    except ValidationError as error:
        raise SpecError(_explained(error, where)) from None


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, Mapping):
        raise SpecError(f"{where} {key}: given {table!r}; type a table, beginning with a line [{key}]")
    return table


def _tables(document: Mapping[str, Any], key: str, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the tables [[key]] of a document, each with its number from 1."""
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise SpecError(f"{where} {key}: given {tables!r}; type each one as a table, beginning with a line [[{key}]]")
    return list(enumerate(tables, start=1))


def _refuse_single_trial(document: Mapping[str, Any], path: Path) -> None:
    """Raise SpecError for the file of a single trial, which has a trial's settings instead of a sweep's."""
    if "method" in document and not {"name", "trial", "variants"} & document.keys():
        raise SpecError(
            f"{path.name} has the settings of a single trial; to run it, type: {command('trial', 'run', path)} "
            "(in a sweep they belong under [trial], and the sweep has a name)"
        )


def _check_keys(document: Mapping[str, Any], where: str) -> None:
    for key, value in document.items():
        if key not in SPEC_KEYS:
            raise SpecError(f"{where}: no such key: {key!r} (given {value!r}){_hint_at_trial(key, value)}")
    if "name" not in document:
        raise SpecError(f'{where}: has no name; type name = "..." (the run folder) as its first line')


def _hint_at_trial(key: str, value: Any) -> str:
    """Return the end of a message about an unknown key of a spec, which may be meant as a setting of the trial."""
    settings = settings_by_name()
    close = key if key in TRIAL_KEYS else closest(key, [*SPEC_KEYS, *settings])
    if close is None or close in SPEC_KEYS:
        return nearest(key, SPEC_KEYS)
    setting = settings[close]
    table = "axes" if isinstance(value, list) and not is_list(setting) else "trial"
    meant = "it is" if setting == key else f"did you mean {setting}? It is"
    return f"; {meant} a setting of the trial: write it under [{table}]"


def _assign(document: dict[str, Any], assignment: str) -> None:
    """Apply one `--set` to the document."""
    where = f"--set {assignment}"
    dotted_key, equals, text = assignment.partition("=")
    path = dotted_key.strip().split(".")
    if not equals or not all(path) or len(path) > DEEPEST:
        raise SpecError(f"{where}: is not key=value; type for example --set trial.seed=3 or --set 'axes.seed=[0,1]'")
    if not text.strip():
        raise SpecError(f"{where}: has no value; type one behind the =, or {dotted_key}='\"\"' for an empty text")
    value = _literal(text.strip(), dotted_key)
    tables = ("trial", "axes", "tuning", "resources")
    table = path[0]
    if table not in tables or len(path) < 2:
        hint = "" if table in tables else _hint_at_set(path, text, tables)
        raise SpecError(
            f"{where}: {dotted_key!r} cannot be set; type a key that begins with trial., axes., tuning. or resources."
            + hint
        )
    if table in ("axes", "tuning"):
        axes = flat_axes({".".join(path[1:]): value}, where)
        check_axes(axes, where, f"{table}.")
        document[table] |= axes
        return
    over: dict[str, Any] = {}
    set_value(over, path, value)
    if table == "trial":
        check_trial_keys(over["trial"], (), where)
    document.update(merge_tables({table: _table(document, table, where)}, over))


def _hint_at_set(path: Sequence[str], text: str, tables: Sequence[str]) -> str:
    """Return the end of a message: the `--set` that was probably meant by a key outside of the tables."""
    top_key = path[0]
    if top_key == "name":
        name = text.strip("'\"")
        return f"; did you mean --name {shlex.quote(name)}?"
    if top_key in SPEC_KEYS and top_key not in tables:
        return "; change it in the spec"
    dotted_keys = settings_by_name()
    probable_name = closest(top_key, dotted_keys)
    is_nearer_to_a_table = probable_name != top_key and closest(top_key, tables) is not None
    if top_key in tables or probable_name is None or is_nearer_to_a_table:
        return nearest(top_key, tables)
    setting = nearest_setting(".".join([dotted_keys[probable_name], *path[1:]]))
    axis = text if text.strip().startswith("[") else probable_axis(text)
    is_axis = axis not in (toml_value([text]), toml_value([literal(text)])) and not is_list(setting)
    return f"; did you mean {set_option(f'axes.{setting}={axis}' if is_axis else f'trial.{setting}={text}')}?"


def _literal(text: str, key: str) -> Any:
    """Return what was typed behind the = of a `--set`.

    Raises:
        SpecError: it begins as a TOML value does, and is none.
    """
    value = literal(text)
    if value is not text:
        return value
    if text[:1] in ("'", '"'):
        raise SpecError(f"--set {key}={text}: a quote is opened there and not closed")
    for opening, closing in ("[]", "{}"):
        if text[:1] == opening and text.count(opening) != text.count(closing):
            raise SpecError(f"--set {key}={text}: {opening} and {closing} do not match; type them in pairs")
    if text[:1] == "[":
        raise SpecError(
            f"--set {key}={text}: a list has commas between its values, and quotes around words, which the shell "
            f"removes: type {set_option(f'{key}={probable_axis(text)}')}"
        )
    if text[:1] == "{":
        raise SpecError(
            f"--set {key}={text}: {{ }} has keys, = and values, with quotes around words, as in {{ from = 0, to = 4 }}"
        )
    if text in NO_VALUES:
        raise SpecError(f"--set {key}={text}: TOML has no such value; type another one, or leave this --set out")
    return text


def _explained(error: ValidationError, where: str) -> str:
    """Explain the first fault, with its key and the value given."""
    fault = list_faults(error)[0]
    is_unknown = fault.kind == "unknown"
    *tables, key = (key for key in fault.keys if is_unknown or not key.isdigit())  # without indices of lists
    table = f"{where} [{'.'.join(tables)}]" if tables else where
    if is_unknown:
        return f"{table}: no such key: {key!r} (given {fault.given!r}){nearest(key, _model_at(tables).model_fields)}"
    if fault.kind == "missing":
        return f"{table}: has no {key}; add a line {key} = ..."
    if isinstance(fault.given, Mapping):  # the combination of its values is wrong
        return f"{where} [{fault.key}]: {fault.expected}"
    return f"{table} {key}: given {fault.given!r}; {fault.expected[0].lower()}{fault.expected[1:]}"


def _model_at(tables: Sequence[str]) -> type[BaseModel]:
    """Return the model of a table of a spec, by its keys."""
    model: type[BaseModel] = Spec
    for key in tables:
        annotation = model.model_fields[key].annotation  # a model, or `Model | None`
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
