"""Private names of Ray, Ray Tune, submitit and torch: one file of each room may use them, and says so at the start."""

import re
import runpy
import shutil
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import ray
import submitit
import torch
from ray.tune.execution.tune_controller import TuneController
from submitit.core.core import PicklingExecutor

from hpc.cluster import nodes
from hpc.ray.local import local_ray
from hpc.ray.private import RAY
from hpc.sites.site import Need, Site
from hpc.slurm.script import script
from hpc.slurm.submitit_private import SUBMITIT
from sweeps.driver.tune_private import TUNE
from sweeps.driver.tune_site import TuneSite
from sweeps.spec.resources import Resources
from tailor.core import torch_private
from tailor.core.torch_private import TORCH
from tailor.parallel.process_group import join
from tests.private_uses import PRIVATE, Use, private_uses
from tests.product import PRODUCT, ROOT
from transtailor.private_names import LibraryError, PrivateNames
from transtailor.shell import pip

HOLDERS = {
    "hpc.ray.private": RAY,
    "hpc.slurm.submitit_private": SUBMITIT,
    "sweeps.driver.tune_private": TUNE,
    "tailor.core.torch_private": TORCH,
}


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    """Of the product."""
    return private_uses()


def test_private_names_are_used_in_their_files_alone(uses: list[Use]) -> None:
    assert [use for use in uses if use.module not in HOLDERS] == []


@pytest.mark.parametrize("module", HOLDERS)
def test_each_private_name_of_such_a_file_is_looked_for_at_the_start(module: str, uses: list[Use]) -> None:
    used = {use.name for use in uses if use.module == module}
    listed = {word for name in HOLDERS[module].names for word in re.findall(r"\w+", name) if PRIVATE.fullmatch(word)}
    assert used
    assert used - listed == set()


PLANTS = {
    "an import": ("from torch._inductor import config", "_inductor"),
    "a name of a module": ("from torch.nn.modules.conv import _ConvNd", "_ConvNd"),
    "a later import": ("def later():\n    import ray._private.services", "_private"),
    "an attribute": ("import torch\ntorch._assert(True, '')", "_assert"),
    "an attribute of an argument": ("def kinds(model):\n    return model._modules", "_modules"),
    "of an object's attribute": ("class A:\n    def f(self):\n        return self.model._modules", "_modules"),
    "of a call's result": ("import ray\nray.nodes()[0]._parse()", "_parse"),
    "a keyword": ("import ray\nray.init(_system_config={})", "_system_config"),
    "a text": ("def kinds(model):\n    return getattr(model, '_modules')", "_modules"),
    "an overridden method": (
        "from torch import nn\nclass Layer(nn.Linear):\n    def _load_from_state_dict(self): ...",
        "_load_from_state_dict",
    ),
    "an inherited attribute": (
        "from tailor.parallel.norm import SynchronisedBatchNorm\n"
        "class Norm(SynchronisedBatchNorm):\n    def f(self):\n        return self._buffers",
        "_buffers",
    ),
}


def test_planted_private_names_are_found(uses: list[Use], tmp_path: Path) -> None:
    for room in PRODUCT:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for plant, (text, _) in PLANTS.items():
        (tmp_path / "results" / f"{plant}.py").write_text(text)
    found = [use for use in private_uses(tmp_path) if use not in uses]
    assert {use.module: use.name for use in found} == {f"results.{plant}": name for plant, (_, name) in PLANTS.items()}
    assert len(found) == len(PLANTS)


def test_own_private_names_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "own.py").write_text(
        "import os\nfrom torch import nn\n"
        "class Layer(nn.Linear):\n    def f(self):\n        self._mine = self.__class__\n        return self._made()\n"
        "    def _made(self):\n        return os._exit\n"
        "def f(layer):\n    return layer._made\n"
    )
    assert private_uses(tmp_path) == []


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
    present = [
        "torch.nn.Module.__init__(__annotations__)",
        "ray.init(address)",
        "torch._dynamo",
        "torch.ops.aten._to_copy",
    ]
    names = dict.fromkeys([*absent, *present[1:]], "nothing")
    found = PrivateNames(library="torch", tried="1", names=names).find_missing()
    assert found == absent


def _text(library: str, names: PrivateNames, lost: str) -> str:
    return (
        f"{library} {version(library)} lacks what is used of it: {lost} ({names.names[lost]}); it was tried with "
        f"{library} {names.tried}: type: " + pip("install", f"{names.library}=={names.tried}")
    )


def test_a_local_ray_says_what_ray_lacks_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.ray_constants, "ENABLE_RAY_CLUSTER")
    with pytest.raises(LibraryError) as told, local_ray(1):
        pass
    assert str(told.value) == _text("ray", RAY, "ray._private.ray_constants.ENABLE_RAY_CLUSTER")
    assert not ray.is_initialized()


def test_a_driver_of_a_cluster_says_what_ray_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray._private.state, "available_resources_per_node")
    with pytest.raises(LibraryError) as told:
        nodes.connect("192.0.2.1:1")
    assert str(told.value) == _text("ray", RAY, "ray._private.state.available_resources_per_node")


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
    with pytest.raises(LibraryError) as told:
        script(Site(cpus_per_node=2, walltime_min=60), Need(log_folder=tmp_path), ["true"])
    assert str(told.value) == _text("submitit", SUBMITIT, "submitit.SlurmExecutor._make_submission_file_text(uid)")


def test_ranks_that_join_say_what_torch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_foreach_lerp_")
    with pytest.raises(LibraryError) as told:
        join("cpu")
    assert str(told.value) == _text("torch", TORCH, "torch._foreach_lerp_")


def test_a_name_that_is_imported_is_told_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = "torch.nn.modules.batchnorm._NormBase"
    monkeypatch.delattr(torch.nn.modules.batchnorm, "_NormBase")
    with pytest.raises(LibraryError) as told:
        runpy.run_path(torch_private.__file__)
    assert str(told.value) == _text("torch", TORCH, lost)


def test_rays_bounds_are_those_of_the_version_that_was_tried() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    major, minor = map(int, RAY.tried.split(".")[:2])
    assert [text for text in asked if text.startswith("ray")] == [f"ray[tune]>={major}.{minor},<{major}.{minor + 1}"]
    assert TUNE.tried == RAY.tried
