"""A user's own module: imported once under a name of its own, known by its source, and refused in clear words."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import PACKAGE, digest_of, digest_of_class, digests_in
from tailor.common.registry import Registry
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS, TrialConfig
from tailor.execution import plugins
from tailor.execution.dry_run import dry_run
from tailor.execution.plugins import load
from tailor.facts.regularisation import REGULARISERS
from tailor.pruning.criteria import CRITERIA

CRITERION = """
from tailor.extend import CRITERIA, Criterion
CRITERIA.add("{name}", Criterion(compute="nowhere:at_all", source="mine"))
# {comment}
"""
METHOD = """
from typing import Literal
from tailor.extend import Method, Recipe, register

@register
class Mine(Method):
    name: Literal["{name}"] = "{name}"

    def walk(self, config):
        recipe = Recipe(config)
        model = yield from recipe.head()
        tuned = yield recipe.fine_tune(model, 1)
        yield recipe.point(tuned)
"""
REGULARISER = """
from typing import Literal
from tailor.extend import REGULARISERS, Regulariser

class Mine(Regulariser):
    name: Literal["{name}"] = "{name}"

REGULARISERS.add("{name}", Mine)
# {comment}
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a module; each test uses names of its own, because an imported module stays in the process."""

    def write_module(text: str, stem: str = "mine") -> Path:
        path = tmp_path / f"{stem}.py"
        path.write_text(text)
        return path

    return write_module


def trial(method: object, **settings: object) -> TrialConfig:
    return parse_trial({"method": method} | settings, "test")


def test_a_module_is_known_by_its_source_and_loaded_once(write: Write) -> None:
    path = write(CRITERION.format(name="once", comment=""))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(path).sha256 == load(path).sha256 == expected
    assert "once" in CRITERIA
    assert digest_of(CRITERIA, "once") == expected
    assert digest_of(CRITERIA, "l1") is None
    assert digest_of(METHODS, "once") is None


def test_its_name_shadows_nothing_and_no_bytecode_is_written(tmp_path: Path) -> None:
    path = tmp_path / "json.py"
    path.write_text(CRITERION.format(name="shadow", comment=""))
    import json

    sha256 = load(path).sha256
    assert sys.modules["json"] is json
    assert sys.modules[f"{PACKAGE}.json_{sha256[:8]}"].__file__ == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_trial_uses_counts_in_its_id_and_nothing_else_does(tmp_path: Path) -> None:
    """Two processes' worth in one: the same criterion under two names, from modules that differ in a comment."""
    plain = trial({"name": "prune", "criterion": "l1"})
    before = dry_run(plain)
    for name, comment in (("id_one", "a"), ("id_two", "b")):
        path = tmp_path / f"{name}.py"
        path.write_text(CRITERION.format(name=name, comment=comment))
        sha256 = load(path).sha256
        found = digests_in(trial({"name": "prune", "criterion": name}).identity())
        assert found == {f"criterion {name}": sha256}
    assert digests_in(plain.identity()) == {}
    assert dry_run(plain) == before


@pytest.mark.parametrize(
    ("registry", "text", "settings", "shared_kinds"),
    [
        (
            CRITERIA,
            CRITERION,
            {"method": {"name": "prune", "criterion": "changing"}},
            ["train_source", "fit_head"],
        ),
        (
            REGULARISERS,
            REGULARISER,
            {"method": {"name": "prune", "criterion": "l1"}, "optimisation": {"regulariser": "changing"}},
            ["train_source", "fit_head", "score_filters", "prune"],
        ),
    ],
)
def test_a_comment_in_a_used_module_changes_the_trial_and_the_stages_from_its_use_on(
    tmp_path: Path, registry: Registry[object], text: str, settings: dict[str, object], shared_kinds: list[str]
) -> None:
    found = {}
    path = tmp_path / "mine.py"
    for comment in "ab":
        path.write_text(text.format(name="changing", comment=comment))
        load(path)
        found[comment] = dry_run(parse_trial(settings, "test"))
        forget(registry, "changing")
    assert found["a"].trial_id != found["b"].trial_id
    shared = [one.key == other.key for one, other in zip(found["a"].stages, found["b"].stages, strict=True)]
    kinds = [stage.kind for stage in found["a"].stages]
    assert [kind for kind, same in zip(kinds, shared, strict=True) if same] == shared_kinds


def forget(registry: Registry[object], record: str) -> None:
    """Undo a load, as a process of its own would have it; only a test needs that."""
    package = sys.modules[PACKAGE]
    for name in [name for name in vars(package) if name.startswith("mine_")]:
        delattr(package, name)
        sys.modules.pop(f"{PACKAGE}.{name}", None)
    del registry._records[record]


def test_a_method_of_ones_own_shares_the_stages_that_it_takes_from_others(write: Write) -> None:
    load(write(METHOD.format(name="my_own")))
    own, known = dry_run(trial("my_own")), dry_run(trial("fine_tune"))
    assert own.trial_id != known.trial_id
    assert [stage.key for stage in own.stages] == [stage.key for stage in known.stages]


@pytest.mark.parametrize(
    ("line", "typed", "words"),
    [
        ("yield from recipe.head()", "yield recipe.head()", "walk yields a generator; expected a stage;.* yield from"),
        ("yield recipe.point(tuned)", "return", "yields no operating point, so the trial would have no result"),
    ],
)
def test_a_walk_that_cannot_give_a_result_is_refused_by_the_plan(
    write: Write, line: str, typed: str, words: str
) -> None:
    load(write(METHOD.format(name="idle").replace(line, typed)))
    with pytest.raises(ConfigError, match=f"method 'idle': walk {words}|method 'idle': {words}"):
        dry_run(trial("idle"))


def test_a_class_of_a_users_module_has_its_digest(write: Write) -> None:
    sha256 = load(write(REGULARISER.format(name="classy", comment=""))).sha256
    assert digest_of_class(REGULARISERS["classy"]) == sha256
    assert digest_of_class(REGULARISERS["l2_sp"]) is None


BAD = {
    "raises": ("import sys\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
    "does not parse": ("def f(:\n", "line 1)"),
    "exits": ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
    "imports what is not there": ("import no_such_library\n", "line 1: ModuleNotFoundError: No module named"),
    "registers nothing": ("x = 1\n", "registers nothing; decorate a method"),
    "registers no method": (
        "from tailor.extend import register\n@register\nclass A: ...\n",
        "TypeError: A is no method",
    ),
    "has no walk": (METHOD.format(name="idle").replace("walk", "wlak"), "TypeError: Mine has no generator walk(self,"),
    "has another walk": (METHOD.format(name="idle").replace(", config):", "):"), "Mine has no generator walk(self,"),
    "has a walk that yields nothing": (
        METHOD.format(name="idle").replace("yield from ", "").replace("yield ", ""),
        "Mine has no generator walk",
    ),
    "has a criterion of two arguments": (
        CRITERION.format(name="two", comment="").replace('"nowhere:at_all"', "lambda scoring, power: 0"),
        "line 3: TypeError: compute is called with one argument, a Scoring: missing a required argument: 'power'",
    ),
    "has a criterion that needs what there is not": (
        CRITERION.format(name="two", comment="").replace("source=", "needs={'batchnorm'}, source="),
        "line 3: ValueError: needs = ['batchnorm']; expected a set of norm, ",
    ),
    "takes a name": (CRITERION.format(name="l1", comment=""), "line 3: ValueError: criterion 'l1' is registered"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_with_file_and_line(write: Write, case: str) -> None:
    text, words = BAD[case]
    path = write(text)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"{PACKAGE}.mine_{sha256[:8]}" not in sys.modules


@pytest.mark.parametrize("end", ["undefined_name", "raise KeyboardInterrupt"])
def test_a_module_that_raises_leaves_nothing_registered(write: Write, end: str) -> None:
    text = CRITERION.format(name="half", comment="")
    path = write(text + end)
    with pytest.raises((ConfigError, KeyboardInterrupt)):
        load(path)
    assert "half" not in CRITERIA
    load(write(text))
    assert digest_of(CRITERIA, "half") is not None


def test_an_edited_module_needs_another_process(write: Write) -> None:
    load(write(CRITERION.format(name="edited", comment="a")))
    with pytest.raises(ConfigError, match="'edited' is registered already.*restart Python, if this file was edited"):
        load(write(CRITERION.format(name="edited", comment="b")))
    assert digest_of(CRITERIA, "edited") is not None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nowhere\.py: cannot be imported: No such file.*type the path of a \.py file"
    ):
        load(tmp_path / "nowhere.py")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_what_was_read_is_what_runs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read once: changed in between, the hashed source still is the one that is executed."""
    path = write(CRITERION.format(name="read_once", comment=""))
    real = Path.read_bytes

    def and_then_change(self: Path) -> bytes:
        content = real(self)
        self.write_text("1 / 0")
        return content

    monkeypatch.setattr(Path, "read_bytes", and_then_change)
    sha256 = plugins.load(path).sha256
    assert digest_of(CRITERIA, "read_once") == sha256
