"""Each fault of the scale has its place in the code; the runner tells a fault that is found from one that is not."""

import ast
import subprocess
from pathlib import Path

import pytest

from tools import fault_scale
from tools.fault_scale import FAULTS, NOT_FOUND, TIERS, PlantedFault
from transtailor.sources import ROOT

PROJECT = """
[project]
name = "toy"
version = "1"
[tool.setuptools]
py-modules = ["toy"]
"""
TOY = "def larger(one, other):\n    return one if one > other else other\n"
TEST = "from toy import larger\n\n\ndef test_larger():\n    assert larger(2, 1) == 2\n"
TABLE = """
[[faults]]
what = "{what}"
room = "toy"
file = "toy.py"
old = "one > other"
new = "{new}"
found_by = "test_toy.py::test_larger"
tier = "test"
"""


@pytest.mark.parametrize("fault", fault_scale.faults_of(ROOT), ids=lambda fault: str(fault.number))
def test_a_fault_has_its_place_and_its_test(fault: PlantedFault) -> None:
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(fault.planted_in(source))) != ast.dump(ast.parse(source))
    assert fault.file.startswith(f"{fault.room}/")
    if fault.found_by != NOT_FOUND:
        file, _, function = fault.found_by.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")
        assert fault.tier in TIERS


def test_at_most_ten_are_not_found() -> None:
    assert sum(fault.found_by == NOT_FOUND for fault in fault_scale.faults_of(ROOT)) <= 10


def test_a_fault_is_found_or_not_or_to_be_ported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = [TABLE.format(what=what, new=new) for what, new in (("least", "one < other"), ("equal", "one >= other"))]
    tables.append(tables[0].replace("one > other", "one > another"))
    for name, text in {"pyproject.toml": PROJECT, "toy.py": TOY, "test_toy.py": TEST, FAULTS: "".join(tables)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert fault_scale.main(["1"], tmp_path) == 0
    assert capsys.readouterr().out == "1: found by test_toy.py::test_larger\n"
    assert fault_scale.main([], tmp_path) == 1
    said = capsys.readouterr()
    assert said.out == "1: found by test_toy.py::test_larger\n"
    unfound, gone = said.err.splitlines()
    assert unfound == "2: test_toy.py::test_larger does not find: equal"
    assert gone.startswith("3: port it: toy.py has 'one > another' 0 times")
    assert (tmp_path / "toy.py").read_text() == TOY
