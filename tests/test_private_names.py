"""Private names of Ray, Ray Tune, submitit and torch: one file of each room may use them, and says so at the start.

In all other files `make lint` finds attributes `x._name` (ruff's SLF001), and this test the other ways to such a name.
Neither finds a name that is built at run time, or internals without an underscore.
"""

import ast
import importlib
import re
import runpy
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import ray
import submitit
import torch
from ray.tune.execution.tune_controller import TuneController
from submitit.core.core import PicklingExecutor
from torch import nn

from hpc.cluster import nodes
from hpc.ray.local import local_ray
from hpc.ray.private import RAY
from hpc.sites.site import Need, Site
from hpc.slurm.script import script
from hpc.slurm.submitit_private import SUBMITIT
from sweeps.driver.tune_private import TUNE
from sweeps.driver.tune_site import TuneSite
from sweeps.spec.resources import Resources
from tailor.common import torch_private
from tailor.common.torch_private import TORCH
from tailor.parallel.norm import SynchronisedBatchNorm
from tailor.parallel.process_group import join
from tests.product import ROOT, modules
from transtailor.private_names import LibraryError, PrivateNames
from transtailor.shell import pip

HOLDERS = {
    "hpc.ray.private": RAY,
    "hpc.slurm.submitit_private": SUBMITIT,
    "sweeps.driver.tune_private": TUNE,
    "tailor.common.torch_private": TORCH,
}
LIBRARIES = ("ray", "submitit", "torch", "torchvision")
OUR_OWN = {"_PLUGIN", "_key", "__MACOSX"}  # attributes that our code reads by `getattr`, and a folder of archives
PRIVATE = re.compile(r"_(?!_\w*__$)[A-Za-z_]\w*")


def is_theirs(module: str) -> bool:
    """Whether a module belongs to one of the libraries."""
    return module.split(".")[0] in LIBRARIES


def words_of(text: str, *, attributes: bool = False) -> set[str]:
    """Private names that a file imports, gives as keywords, has as texts beside a `getattr`, or as attributes."""
    words: set[str] = set()
    by_text = re.search(r"\b(?:get|set|del|has)attr\(", text) is not None
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import():
                words |= {part for alias in node.names if is_theirs(alias.name) for part in alias.name.split(".")}
            case ast.ImportFrom(module=str(module)) if is_theirs(module):
                words |= {*module.split("."), *(alias.name for alias in node.names)}
            case ast.keyword(arg=str(word)):
                words.add(word)
            case ast.Constant(value=str(word)) if by_text:
                words.add(word)
            case ast.Attribute(attr=word) if attributes:
                words.add(word)
    return {word for word in words if PRIVATE.fullmatch(word)} - OUR_OWN


def inherited_words(kind: type) -> set[str]:
    """Private names of the libraries' classes that the functions of our class override or use."""
    theirs: set[str] = set()
    for base in kind.__mro__:
        if is_theirs(base.__module__):
            made = getattr(vars(base).get("__init__"), "__code__", None)
            theirs |= {*vars(base), *vars(base).get("__annotations__", {}), *(made.co_names if made else ())}
    ours: set[str] = set()
    for name, member in vars(kind).items():
        function = getattr(member, "fget", getattr(member, "__func__", member))  # of a property, of a classmethod
        if code := getattr(function, "__code__", None):
            ours |= {name, *names_in(code)}
    return {word for word in theirs & ours if PRIVATE.fullmatch(word)}


def names_in(code: CodeType) -> Iterator[str]:
    """The names of attributes and globals in a function and those inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def inherited_of(module: str, text: str) -> set[str]:
    """Those of all classes of one of our modules."""
    if "class " not in text:
        return set()
    members = vars(importlib.import_module(module)).values()
    kinds = [member for member in members if isinstance(member, type) and member.__module__ == module]
    return {word for kind in kinds for word in inherited_words(kind)}


def test_private_names_are_used_in_their_files_alone() -> None:
    used: dict[str, set[str]] = {}
    for module, path in modules().items():
        text = path.read_text()
        if module not in HOLDERS and (words := words_of(text) | inherited_of(module, text)):
            used[module] = words
    assert used == {}


@pytest.mark.parametrize("module", HOLDERS)
def test_each_private_name_of_such_a_file_is_looked_for_at_the_start(module: str) -> None:
    text = modules()[module].read_text()
    used = words_of(text, attributes=True) | inherited_of(module, text)
    listed = {word for name in HOLDERS[module].names for word in re.findall(r"\w+", name)}
    assert used
    assert used - listed == set()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("from torch._inductor import config", "_inductor"),
        ("from torch.nn.modules.conv import _ConvNd", "_ConvNd"),
        ("def later():\n    import ray._private.services", "_private"),
        ("import ray\nray.init(_system_config={})", "_system_config"),
        ("def kinds(model):\n    return getattr(model, '_modules')", "_modules"),
    ],
)
def test_planted_words_are_found(text: str, word: str) -> None:
    assert words_of(text) == {word}


class Layer(nn.Linear):
    """Overrides a function of torch's; what it has beside that is its own."""

    def _load_from_state_dict(self, *_: Any) -> None: ...

    def _made(self) -> None:
        self._mine = self._made


class Norm(SynchronisedBatchNorm):
    """Reads an attribute of torch's."""

    @property
    def kept(self) -> Any:
        return self._buffers


def test_planted_inherited_names_are_found() -> None:
    assert inherited_words(Layer) == {"_load_from_state_dict"}
    assert inherited_words(Norm) == {"_buffers"}


@pytest.mark.parametrize("names", HOLDERS.values(), ids=HOLDERS)
def test_the_installed_versions_have_all_of_them(names: PrivateNames) -> None:
    assert names.find_missing() == []
    names.check()


def test_each_kind_of_name_can_be_missing() -> None:
    absent = [
        "torch._no_module",
        "torch.nn.modules.no_module._Name",
        "torch._dynamo.no_module",
        "torch.ops.aten._no_operation",
        "torch.Tensor._no_method",
        "torch.nn.Module.__init__(_no_attribute)",
        "ray.init(_no_keyword)",
    ]
    present = ["ray.init(address)", "torch._dynamo", "torch.ops.aten._to_copy"]
    names = dict.fromkeys([*absent, *present], "nothing")
    found = PrivateNames(library="torch", tried="1", names=names).find_missing()
    assert found == absent


@contextmanager
def refused_without(library: str, names: PrivateNames, lost: str) -> Iterator[None]:
    """Expect the error that names the library, the lost name, what it was for, and what to type."""
    with pytest.raises(LibraryError) as refused:
        yield
    lacks = f"{library} {version(library)} lacks what is used of it: {lost} ({names.names[lost]})"
    assert str(refused.value).startswith(lacks)
    assert str(refused.value).endswith("type: " + pip("install", f"{names.library}=={names.tried}"))


@pytest.fixture
def no_ray() -> None:
    """End a Ray that a test before this one may have left in this process."""
    ray.shutdown()


@pytest.mark.usefixtures("no_ray")
def test_a_local_ray_says_what_ray_lacks_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.ray_constants, "ENABLE_RAY_CLUSTER")
    with refused_without("ray", RAY, "ray._private.ray_constants.ENABLE_RAY_CLUSTER"), local_ray(1):
        pass
    assert not ray.is_initialized()


def test_a_driver_of_a_cluster_says_what_ray_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.state, "available_resources_per_node")
    with refused_without("ray", RAY, "ray._private.state.available_resources_per_node"):
        nodes.connect("192.0.2.1:1")


def test_a_sweep_says_what_tune_lacks_before_its_place_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing_kept(self: Any) -> None: ...

    monkeypatch.setattr(TuneController, "__init__", nothing_kept)
    opened: list[str] = []
    site = TuneSite("module:Class", Resources(), tmp_path, lambda: opened.append("a place"))  # type: ignore
    with pytest.raises(LibraryError, match=r"TuneController.__init__\(_live_trials\).*pip install 'ray\[tune\]==2"):
        site.run(None, None)  # type: ignore
    assert opened == []


def test_a_script_says_what_submitit_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind in (submitit.SlurmExecutor, PicklingExecutor):  # which says that executors have it
        monkeypatch.delattr(kind, "_make_submission_file_text")
    with refused_without("submitit", SUBMITIT, "submitit.SlurmExecutor._make_submission_file_text(uid)"):
        script(Site(cpus_per_node=2, walltime_min=60), Need(log_folder=tmp_path), ["true"])


def test_ranks_that_join_say_what_torch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_foreach_lerp_")
    with refused_without("torch", TORCH, "torch._foreach_lerp_"):
        join("cpu")


def test_a_name_that_is_imported_is_told_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.modules.batchnorm, "_NormBase")
    with refused_without("torch", TORCH, "torch.nn.modules.batchnorm._NormBase"):
        runpy.run_path(torch_private.__file__)


def test_rays_bounds_are_those_of_the_version_that_was_tried() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    major, minor = map(int, RAY.tried.split(".")[:2])
    assert [text for text in asked if text.startswith("ray")] == [f"ray[tune]>={major}.{minor},<{major}.{minor + 1}"]
    assert TUNE.tried == RAY.tried
