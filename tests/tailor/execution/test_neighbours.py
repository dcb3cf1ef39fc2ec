"""A user's file that imports modules beside it: found as with `python FILE`, or refused in clear words.

Neighbours have other names in each test, because Python imports a name once.
"""

import hashlib
import py_compile
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.common.neighbours import read_user_file, run_user_file
from tailor.common.plugin_digests import digest_of, digest_of_class
from tailor.execution import plugins
from tailor.pruning.criteria import CRITERIA
from tailor.saved_model import whole_network

LAYER = "from torch import nn\n\ndef layer():\n    return nn.Linear(3, 2)\n"
NET = "from {} import layer\n\ndef Net():\n    return layer()\n"
INSIDE = "def Net():\n    from {} import layer\n    return layer()\n"
CRITERION = """
from tailor.extend import CRITERIA, Criterion
from {module} import layer
CRITERIA.add("{name}", Criterion(compute=lambda _scoring: layer(), source="mine"))
"""

FOLDERS: dict[str, tuple[str, dict[str, str]]] = {
    "beside it": ("src/net.py", {"src/net.py": NET.format("blocks_a"), "src/blocks_a.py": LAYER}),
    "a package beside it": (
        "src/net.py",
        {"src/net.py": NET.format("utils_b.conv"), "src/utils_b/__init__.py": "", "src/utils_b/conv.py": LAYER},
    ),
    "a folder beside it": ("src/net.py", {"src/net.py": NET.format("utils_c.conv"), "src/utils_c/conv.py": LAYER}),
    "relative": (
        "src/models_d/net.py",
        {
            "src/models_d/__init__.py": "",
            "src/models_d/net.py": NET.format(".blocks"),
            "src/models_d/blocks.py": LAYER,
        },
    ),
    "two packages up": (
        "src_e/models/net.py",
        {
            "src_e/__init__.py": "",
            "src_e/models/__init__.py": "",
            "src_e/models/net.py": NET.format("..layers.conv"),
            "src_e/layers/__init__.py": "",
            "src_e/layers/conv.py": LAYER,
        },
    ),
    "its package imports it": (
        "models_f/net.py",
        {
            "models_f/__init__.py": "from .net import Net\n",
            "models_f/net.py": NET.format(".blocks"),
            "models_f/blocks.py": LAYER,
        },
    ),
    "by its package's name": (
        "models_g/net.py",
        {"models_g/__init__.py": "", "models_g/net.py": NET.format("models_g.blocks"), "models_g/blocks.py": LAYER},
    ),
    "inside a function": ("src/net.py", {"src/net.py": INSIDE.format("blocks_h"), "src/blocks_h.py": LAYER}),
    "beside folders with our names": (
        "net.py",
        {
            "net.py": NET.format("blocks_i"),
            "blocks_i.py": "import results.store.schema\nimport sweeps.producer\n" + LAYER,
            "results/notes.py": "",
            "sweeps/notes.py": "",
        },
    ),
    "a name with spaces": ("my code/net.py", {"my code/net.py": NET.format("blocks_j"), "my code/blocks_j.py": LAYER}),
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_makes_a_network_finds_its_neighbours(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, files = FOLDERS[kind]
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    assert tuple(whole_network(f"{name}:Net").state_dict()) == ("weight", "bias")


@pytest.mark.parametrize("is_copy", [False, True])
@pytest.mark.parametrize("kind", ["beside", "package", "package that imports it"])
def test_a_plugin_finds_its_neighbours_and_so_does_its_copy(kind: str, is_copy: bool, tmp_path: Path) -> None:
    name = f"{kind} {is_copy}"
    stem = f"blocks_{name.replace(' ', '_')}"
    folder = tmp_path / "code"
    module = stem
    if kind != "beside":
        folder = tmp_path / f"package_{stem}"
        module = f".{stem}"
        write(folder, {"__init__.py": "from . import mine\n" if kind == "package that imports it" else ""})
    write(folder, {"mine.py": CRITERION.format(module=module, name=name), f"{stem}.py": LAYER})
    path = folder / "mine.py"
    user_file = read_user_file(path)
    sha256 = user_file.sha256
    assert sha256 != hashlib.sha256(path.read_bytes()).hexdigest()
    if is_copy:
        copy = tmp_path / sha256
        copies = {f"neighbours/{name}": content.decode() for name, content in user_file.neighbours.items()}
        write(copy, {"mine.py": path.read_text(), "origin.txt": str(path), **copies})
        for original in folder.iterdir():
            original.write_text("raise ValueError('the original is not what runs')")
        plugins.load_copy(copy / "mine.py")
    else:
        plugins.load(path)
    assert CRITERIA[name].source == "mine"
    assert digest_of(CRITERIA, name) == sha256


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"net.py": NET.format(".blocks"), "blocks.py": LAYER}, "has no __init__.py, so it is no package: add one, or"),
        ({"net.py": NET.format("nowhere_at_all")}, "put it beside net.py, in "),
        ({"net.py": "1 / 0\n"}, "net.py, line 1: ZeroDivisionError: division by zero"),
        ({}, "no such file: net.py; type the path of a .py file"),
    ],
)
def test_what_cannot_be_found_is_explained(
    files: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        whole_network("net.py:Net")
    assert message in str(raised.value) and "expected FILE:NAME" not in str(raised.value)


def test_the_cause_of_a_module_that_cannot_be_imported_is_told_from_its_own_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"'src'\); of a file, type its path with .py: src/net_h.py:Net$"):
        whole_network("src.net_h:Net")
    write(
        tmp_path, {"installed_h.py": "import nowhere_at_all\n", "made_i.py": "from torch.nn import ReLU\nnet = ReLU()"}
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="No module named 'nowhere_at_all'.* install"):
        whole_network("installed_h:Net")
    assert type(whole_network("made_i:net")).__name__ == "ReLU"


LOADS: dict[str, Callable[[Path], object]] = {
    "plugin": plugins.load,
    "--module": lambda path: whole_network(f"{path}:Net"),
}


@pytest.mark.parametrize("load", LOADS)
def test_a_neighbour_hides_no_library_and_one_that_is_imported_is_refused(load: str, tmp_path: Path) -> None:
    text = CRITERION.format(module="math", name=f"tabs {load}").replace("layer", "sqrt")
    text += "\nfrom torch.nn import ReLU as Net\n"
    write(tmp_path, {"net.py": text, "tabnanny.py": "raise ValueError('not for the library')\n"})
    LOADS[load](tmp_path / "net.py")
    library = import_module("tabnanny").__file__
    assert library != str(tmp_path / "tabnanny.py")
    write(tmp_path, {"imports_tabs.py": "import tabnanny\n"})
    for statement in ("import tabnanny", "def f():\n    from tabnanny import check", "import imports_tabs"):
        write(tmp_path, {"net.py": f"{text}\n{statement}\n"})
        with pytest.raises(ConfigError, match=f"{tmp_path}/tabnanny.py.*{library}.*rename"):
            LOADS[load](tmp_path / "net.py")


@pytest.mark.parametrize("where", ["net", "acts"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("import os\nos.chdir('/')", "os.chdir"),
        ("import torch\ntorch.set_default_dtype(torch.float64)", "torch.set_default_dtype"),
        ("import torch\ntorch.set_default_device('meta')", "torch.set_default_device"),
        ("import torch\ntorch.set_grad_enabled(False)", "torch.set_grad_enabled"),
    ],
)
def test_what_would_act_on_all_that_follows_is_an_error_of_the_file(
    code: str, words: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CRITERION.format(module="math", name=f"{words} {where}").replace("layer", "sqrt")
    text += "\nfrom torch.nn import ReLU as Net\n"
    neighbour = f"acts_{len(code)}"
    write(tmp_path, {"net.py": text if where == "acts" else code + text, f"{neighbour}.py": code})
    monkeypatch.chdir(tmp_path)
    for load in ("plugin", "--module"):
        if where == "acts":
            write(tmp_path, {"net.py": f"import {neighbour}_{load[-1]}\n{text}", f"{neighbour}_{load[-1]}.py": code})
        with pytest.raises(ConfigError) as refused:
            LOADS[load](Path("net.py"))
        assert "net.py" in str(refused.value) and words in str(refused.value)
        assert (Path.cwd(), torch.get_default_dtype(), torch.empty(0).device.type) == (tmp_path, torch.float32, "cpu")
        assert torch.is_grad_enabled()


IMPORTS = {
    "import {0}_a": ["{0}_a.py", "{0}_b.py"],
    "def f():\n    from {0}_b import layer": ["{0}_b.py"],
    "import {0}_p.sub.deep": ["{0}_p/__init__.py", "{0}_p/sub/deep.py", "{0}_p/sub/side.py"],
    "from {0}_p import math, sub": ["{0}_p/__init__.py"],
    "from importlib import import_module\nimport_module('{0}' + '_b')": ["{0}_b.py"],
    "import sys\nsys.path.insert(0, __file__[:-6] + 'lib')\nimport {0}_l": ["lib/{0}_l.py"],
    "import math": [],
}


@pytest.mark.parametrize("statement", IMPORTS)
def test_what_a_file_imports_from_its_folder_counts_and_nothing_else(statement: str, tmp_path: Path) -> None:
    stem = f"counted_{list(IMPORTS).index(statement)}"
    files = {
        "net.py": CRITERION.format(module="math", name=stem).replace("layer", "sqrt") + statement.format(stem),
        f"{stem}_a.py": f"import {stem}_b\n",
        f"{stem}_b.py": "layer = 1\n",
        f"{stem}_p/__init__.py": "import math",
        f"{stem}_p/sub/deep.py": "from . import side",
        f"{stem}_p/sub/side.py": "",
        f"lib/{stem}_l.py": "",
        "not_imported.py": "",
    }
    write(tmp_path, files)
    plugin = plugins.load(tmp_path / "net.py")
    expected = [name.format(stem) for name in IMPORTS[statement]]
    assert plugin.user_file.neighbours == {name: files[name].encode() for name in expected}
    is_plain = plugin.sha256 == hashlib.sha256(files["net.py"].encode()).hexdigest()
    assert is_plain is not any(files[name] or "__init__" not in name for name in expected)


def test_a_changed_neighbour_is_another_digest_and_needs_another_process(tmp_path: Path) -> None:
    files = {"net.py": NET.format("blocks_j1"), "blocks_j1.py": LAYER}
    write(tmp_path, files)
    before = read_user_file(tmp_path / "net.py")
    whole_network(f"{tmp_path}/net.py:Net")
    write(tmp_path, {"blocks_j1.py": LAYER.replace("3, 2", "2, 3")})
    with pytest.raises(ConfigError, match="blocks_j1.py was changed.* restart Python"):
        whole_network(f"{tmp_path}/net.py:Net")
    neighbours = {"blocks_j1.py": (tmp_path / "blocks_j1.py").read_bytes()}
    assert replace(before, neighbours=neighbours).sha256 != before.sha256


def test_what_a_link_leads_to_is_what_was_read(tmp_path: Path) -> None:
    write(tmp_path, {"mine/net.py": NET.format("linked_j2.blocks"), "elsewhere/blocks.py": LAYER})
    (tmp_path / "mine" / "linked_j2").symlink_to(tmp_path / "elsewhere")
    user_file = read_user_file(tmp_path / "mine" / "net.py")
    write(tmp_path, {"elsewhere/blocks.py": "raise ValueError('this is not what was read')"})
    assert run_user_file(user_file).Net().in_features == 3


def test_a_compiled_neighbour_counts_and_a_changed_one_is_not_loaded(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": CRITERION.format(module="compiled_j3", name="compiled"), "compiled_j3.py": LAYER})
    source = tmp_path / "compiled_j3.py"
    compiled = py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")), doraise=True)
    source.unlink()
    user_file = plugins.load(tmp_path / "net.py").user_file
    assert user_file.neighbours == {"compiled_j3.pyc": Path(str(compiled)).read_bytes()}
    del sys.modules["compiled_j3"]
    with Path(str(compiled)).open("ab") as stream:
        stream.write(b"another")
    with pytest.raises(ImportError, match="compiled_j3.pyc was changed"):
        import_module("compiled_j3")


def test_what_an_earlier_file_has_loaded_counts_for_one_that_loads_it_by_a_call(tmp_path: Path) -> None:
    by_call = "from importlib import import_module\nlayer = import_module('shared' + '_j4').layer\n"
    register = CRITERION.partition("\nfrom {module} import layer")
    files = {
        "shared_j4.py": LAYER,
        "first.py": CRITERION.format(module="shared_j4", name="first j4"),
        "second.py": register[0] + "\n" + by_call + register[2].format(name="second j4"),
    }
    write(tmp_path, files)
    plugins.load(tmp_path / "first.py")
    sha256 = plugins.load(tmp_path / "second.py").sha256
    assert sha256 != hashlib.sha256(files["second.py"].encode()).hexdigest()


def test_an_empty_neighbour_counts(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": "try:\n    import is_there_j5\nexcept ImportError:\n    pass\n"})
    before = read_user_file(tmp_path / "net.py").sha256
    write(tmp_path, {"is_there_j5.py": ""})
    assert read_user_file(tmp_path / "net.py").sha256 != before


def test_a_neighbour_that_is_not_in_the_key_is_not_loaded_later(tmp_path: Path) -> None:
    register = CRITERION.format(module="math", name="later").replace("lambda _scoring: layer()", "compute")
    text = "def compute(_scoring):\n    from importlib import import_module\n    import_module('blocks_' + 'k1')\n"
    write(tmp_path, {"net.py": text + register.replace("layer", "sqrt"), "blocks_k1.py": LAYER})
    plugins.load(tmp_path / "net.py")
    with pytest.raises(ImportError, match=f"{tmp_path}/blocks_k1.py counts in no key.*`import blocks_k1`"):
        CRITERIA["later"].compute(SimpleNamespace())


BY_PATH = {
    "its spec": "from importlib.util import module_from_spec, spec_from_file_location as spec\n"
    "found = spec('any', {file!r})\nfound.loader.exec_module(module_from_spec(found))\n",
    "run_path": "import runpy\nrunpy.run_path({file!r})\n",
    "its text": "from pathlib import Path\nexec(Path({file!r}).read_text())\n",
}


@pytest.mark.parametrize("way", BY_PATH)
def test_what_a_file_loads_by_a_path_beside_it_would_be_in_no_key(way: str, tmp_path: Path) -> None:
    register = CRITERION.format(module="math", name="by path").replace("layer", "sqrt")
    stem = f"blocks_{way.replace(' ', '_')}"
    statements = BY_PATH[way].format(file=str(tmp_path / f"{stem}.py"))
    write(tmp_path, {"net.py": statements + register, f"{stem}.py": LAYER})
    with pytest.raises(ConfigError, match=f"net.py, line .*{tmp_path}/{stem}.py counts in no key.*`import {stem}`"):
        plugins.load(tmp_path / "net.py")
    write(tmp_path, {"net.py": f"import {stem}\n{statements}{register}"})
    assert f"{stem}.py" in plugins.load(tmp_path / "net.py").user_file.neighbours


def test_a_file_beside_it_that_is_run_by_its_path_later_is_refused(tmp_path: Path) -> None:
    register = CRITERION.format(module="math", name="by path later").replace("lambda _scoring: layer()", "compute")
    text = f"def compute(_scoring):\n    import runpy\n    runpy.run_path({str(tmp_path / 'blocks_k3.py')!r})\n"
    write(tmp_path, {"net.py": text + register.replace("layer", "sqrt"), "blocks_k3.py": LAYER})
    plugins.load(tmp_path / "net.py")
    with pytest.raises(ImportError, match=f"{tmp_path}/blocks_k3.py counts in no key"):
        CRITERIA["by path later"].compute(SimpleNamespace())


def test_a_class_of_a_neighbour_has_the_digest_of_the_file_that_imports_it(tmp_path: Path) -> None:
    text = CRITERION.format(module="kinds_l1", name="kinds").replace("layer", "Kind")
    write(tmp_path, {"net.py": text, "kinds_l1.py": "class Kind: ...\n"})
    sha256 = plugins.load(tmp_path / "net.py").sha256
    assert digest_of_class(import_module("kinds_l1").Kind) == sha256


def test_a_name_that_two_folders_have_is_refused(tmp_path: Path) -> None:
    files = {"net.py": NET.format("blocks_twice"), "blocks_twice.py": LAYER}
    write(tmp_path / "a", files)
    write(tmp_path / "b", files)
    whole_network(f"{tmp_path}/a/net.py:Net")
    with pytest.raises(ConfigError, match=f"'blocks_twice'.*{tmp_path}/b/.*{tmp_path}/a/.*rename"):
        whole_network(f"{tmp_path}/b/net.py:Net")
