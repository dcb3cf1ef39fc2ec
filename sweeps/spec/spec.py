"""A sweep as its author writes it: TOML -> Spec, with `extends` and `--set`. expand.py makes the trials.

docs/spec_keys.md lists every key; sweeps/specs/tour.toml shows most of them.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sweeps.errors import SpecError
from sweeps.spec.axes import SEEDS, SPEC_KEYS, Axes, flat_axes, overlap, refuse_unknown
from sweeps.spec.nested import check_plain, merge_tables, set_value
from sweeps.spec.printed_rows import PrintedRows
from sweeps.spec.resources import Resources
from sweeps.spec.search_settings import ConfirmSettings, SearchSettings, check_search
from sweeps.spec.settle_settings import SEED, SettleSettings, check_settle
from sweeps.spec.toml_text import literal, set_option
from tailor.config.parsing import settings_by_name
from transtailor.documents import DEEPEST, DocumentError, describe_fault, read_toml
from transtailor.files import is_there
from transtailor.names import closest, nearest
from transtailor.shell import command
from transtailor.validation import Fault, explained, keys_of

SPECS = Path(__file__).resolve().parents[1] / "specs"
EMBEDDED_SPEC = SPECS / "demo.toml"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NO_VALUES = ("null", "NULL", "Null", "nil", "None")  # of other languages; "none" is a value of some settings
GONE = {
    "search.cost": "leave it out: settings are chosen by their scores alone",
    "resources.fork_ranks": "leave it out: no rank is forked",
}
"""Keys that specs had -> what to do instead."""
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


def _trial(*others: str) -> AfterValidator:
    """Return a validator of a partial trial, whose table has the keys `others`, too."""

    def check(table: dict[str, Any]) -> dict[str, Any]:
        refuse_unknown(table, *others)
        return table

    return AfterValidator(check)


class Variant(BaseModel):
    """Settings that are merged on the base trial, with optional axes."""

    model_config = _STRICT
    label: str | None = Field(default=None, min_length=1)
    """Its name in comparisons, which the names of its arms begin with; None: the method's name (and criterion)."""
    axes: Axes = {}
    """Crossed with the common axes, only for this variant; keys are dotted."""
    settings: dict[str, Any] = {}
    """A partial trial, as nested tables."""

    @model_validator(mode="before")
    @classmethod
    def _of_table(cls, table: Any) -> Any:
        """Take the settings of a table [[variants]], which stand beside its label."""
        if not isinstance(table, dict) or table.keys() <= cls.model_fields.keys():
            return table
        refuse_unknown(table, "label", "axes")
        settings = {key: value for key, value in table.items() if key not in ("label", "axes")}
        return {key: value for key, value in table.items() if key not in settings} | {"settings": settings}

    @field_validator("label")
    @classmethod
    def _is_one_line(cls, label: str | None) -> str | None:
        shown = "".join(sign if sign.isprintable() else " " for sign in unicodedata.normalize("NFC", label or ""))
        tidy = " ".join(shown.split())
        if label is not None and label != tidy:  # it may look like another arm's
            raise ValueError(f"type a name in one line: {tidy!r}")
        return label

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
    tied_to_seed: list[Literal["source.seed", "data.split_seed"]] = []
    """Dotted keys of seeds that are set to the trial's seed: each seed draws its own source or splits."""
    trial: Annotated[dict[str, Any], _trial()] = {}
    """The base trial, partial, as nested tables."""
    axes: Axes = {}
    """Dotted key -> the values to cross."""
    tuning: Axes = {}
    """The same, for values from which the best is chosen: all arms have the same number of settings."""
    variants: list[Variant] = []
    """Settings merged on the base trial, each with `label` and `axes` if wanted; without any, the base alone."""
    exclude: list[Annotated[dict[str, Any], _trial("label")]] = []
    """Partial trials (and `label`); a list stands for any of its values."""
    search: SearchSettings | None = None
    """How settings are chosen from the axes; None: all of them are run."""
    confirm: ConfirmSettings | None = None
    """How the best settings of a search are run again; None: they are not, and nothing is compared."""
    settle: SettleSettings | None = None
    """How seeds are added until each comparison is settled; None: all trials are run."""
    resources: Resources = Resources()
    """What each trial uses: ranks, threads, GPUs."""
    printed: PrintedRows = []
    """Numbers of papers that the report shows beside the measured ones; they change no trial."""
    where: str = Field(default="", exclude=True)
    """The file, for messages."""
    assignments: list[str] = Field(default=[], exclude=True)
    """The `--set`s as typed, for messages."""

    @field_validator("tuning")
    @classmethod
    def _tunes_no_seed(cls, tuning: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key in ("seed", *SEEDS):
            if key in tuning:
                raise ValueError(f"{key}: it would keep the best seed by validation; write it under [axes]")
        return tuning

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
    if "method" in document and not {"name", "trial", "variants"} & document.keys():
        raise SpecError(
            f"{path.name} has the settings of a single trial; to run it, type: {command('trial', 'run', path)} "
            "(in a sweep they belong under [trial], and the sweep has a name)"
        )
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
    return _checked(document, path.name, is_name_typed=name is not None, assignments=[*assignments])


def spec_of(document: Mapping[str, Any], where: str) -> Spec:
    """Return the spec of a document as TOML would give it; its paths are relative to the working folder.

    Raises:
        SpecError: as `load_spec`, with `where` as the name of the document.
    """
    check_plain(document, where)
    return _checked(_completed(deepcopy(dict(document)), Path(where), ()), where)


def _checked(
    document: dict[str, Any], where: str, *, is_name_typed: bool = False, assignments: Sequence[str] = ()
) -> Spec:
    """Return the spec of a whole document."""
    for key in document:
        if key not in SPEC_KEYS:
            settings = {name: f"trial.{setting}" for name, setting in settings_by_name().items()}
            raise SpecError(f"{where}: unknown key {key!r}{nearest(key, SPEC_KEYS, settings)}")

    def place(fault: Fault) -> tuple[str, str]:
        options = [text for text in assignments if overlap(text.partition("=")[0].strip(), fault.key)]
        keys = [str(int(key) + 1) if key.isdigit() else key for key in fault.keys]
        return " ".join([*map(set_option, options)] or [where]), ".".join(keys)

    try:
        spec = Spec(**document, where=where, assignments=[*assignments])
    except ValidationError as error:
        raise SpecError(explained(error, place, partial(keys_of, Spec), gone=GONE)) from None
    check_name(spec.name, "--name" if is_name_typed else f"{where} name")
    check_search(spec.search, spec.confirm, spec.tuning, where)
    check_settle(spec.settle, document, spec.seed_tables(), where)
    if spec.resources.says_gpus:
        spec.check_gpu_hours()
    return spec


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
            raise SpecError(
                f"{path} is the folder of a run; to resume it, type: {command('run', path, '--retry')}"
            ) from None
        raise SpecError(f"{path}: cannot be read as a spec: {error.strerror}; type the path of a TOML file") from None
    except DocumentError as error:
        raise SpecError(f"{path.name}: {describe_fault(path, error)}") from None
    check_plain(document, path.name)
    return _completed(document, path, extended_by)


def _completed(document: dict[str, Any], path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    """Return a document with dotted axes, absolute imports and what it extends; changes `document`."""
    for table in ("axes", "tuning"):
        document[table] = flat_axes(document.get(table, {}))
    imports = document.get("imports", [])
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        raise SpecError(f'{path.name} imports: given {imports!r}; type a list, as in imports = ["my_method.py"]')
    document["imports"] = [str((path.parent / name).resolve()) for name in imports]
    if "extends" not in document:
        return document
    base_name = document.pop("extends")
    if not isinstance(base_name, str):
        raise SpecError(f'{path.name} extends: given {base_name!r}; type a path, or a shipped name: extends = "demo"')
    if "name" not in document:
        raise SpecError(f'{path.name}: has no name; type name = "{path.stem}" (its run folder) at the top')
    base_path = find_spec(Path(base_name), path.parent)
    base = _read_document(base_path, (*extended_by, path))
    both = [
        table for table in ("axes", "tuning") if isinstance(base[table], dict) and isinstance(document[table], dict)
    ]
    tables = {table: base[table] | document[table] for table in both}
    tables["imports"] = list(dict.fromkeys(base["imports"] + document["imports"]))
    return merge_tables(base, document) | tables


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
        settings = {name: f"trial.{setting}" for name, setting in settings_by_name().items()}
        hint = "" if table in tables else nearest(table, tables, settings)
        raise SpecError(
            f"{where}: {dotted_key!r} cannot be set; type a key that begins with trial., axes., tuning. or resources."
            + hint
        )
    if not isinstance(document.setdefault(table, {}), dict):
        return  # which is refused as it is
    if table in ("axes", "tuning"):
        document[table] |= flat_axes({".".join(path[1:]): value})
        return
    over: dict[str, Any] = {}
    set_value(over, path, value)
    document.update(merge_tables({table: document[table]}, over))


def _literal(text: str, key: str) -> Any:
    """Return what was typed behind the = of a `--set`.

    Raises:
        SpecError: it begins as a TOML value does, and is none.
    """
    value = literal(text)
    if value is text and (text[:1] in ("'", '"', "[", "{") or text in NO_VALUES):
        raise SpecError(
            f"--set {key}={text}: is no value in TOML; type for example --set 'axes.seed=[0, 1]' or "
            """--set 'axes.network=["resnet18", "vgg16"]'"""
        )
    return value
