"""A user's file that imports modules beside it: found as with `python FILE`, or refused in clear words.

Neighbours have other names in each test, because Python imports a name once.
"""

import hashlib
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import digest_of
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
            "results/__init__.py": "",
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
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if is_copy:
        copy = tmp_path / sha256
        write(copy, {"mine.py": path.read_text(), plugins.ORIGIN: str(path)})
        path.write_text("raise ValueError('the original is not what runs')")
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
        ({"net.py": "def Net(width): ...\n"}, "Net is called without arguments"),
        ({"net.py": "1 / 0\n"}, "ZeroDivisionError: division by zero); mend its code"),
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
    with pytest.raises(ConfigError, match="No module named 'nowhere_at_all'.*, or install it$"):
        whole_network("installed_h:Net")
    assert type(whole_network("made_i:net")).__name__ == "ReLU"


def test_a_name_that_two_folders_have_is_refused(tmp_path: Path) -> None:
    files = {"net.py": NET.format("blocks_twice"), "blocks_twice.py": LAYER}
    write(tmp_path / "a", files)
    write(tmp_path / "b", files)
    whole_network(f"{tmp_path}/a/net.py:Net")
    with pytest.raises(ConfigError, match="both have a module 'blocks_twice', and Python imports a name once; rename"):
        whole_network(f"{tmp_path}/b/net.py:Net")
