"""The one command: it lists what there is, hands words over as they were typed, and imports only what it needs."""

import json
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.commands import parsed, transtailor_command
from transtailor import cli
from transtailor.__main__ import GONE, main, tree
from transtailor.errors import INTERRUPTED

HEAVY = ("torch", "ray", "pandas", "duckdb", "pyarrow", "numpy", "pydantic")


ENTRIES = tree().entries


def command_of(name: str) -> click.Command:
    module, _, function = ENTRIES[name][0].partition(":")
    command = getattr(import_module(module), function)
    assert isinstance(command, click.Command)
    return command


def test_without_words_it_lists_every_command(tmp_path: Path) -> None:
    said = transtailor_command(folder=tmp_path)
    assert said.returncode == 0
    assert said.stdout == transtailor_command("--help", folder=tmp_path).stdout
    assert len(ENTRIES) == 27
    for name, (_, text) in ENTRIES.items():
        assert f" {name} " in said.stdout
        assert text in said.stdout


@pytest.mark.parametrize("name", ENTRIES)
def test_each_help_has_an_example_that_its_parser_takes(name: str, tmp_path: Path) -> None:
    said = transtailor_command(*name.split(), "--help", folder=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"Usage: transtailor {name} ")
    example = said.stdout.splitlines()[-1].removeprefix("example: ")
    assert shlex.split(example)[: 1 + len(name.split())] == ["transtailor", *name.split()]
    parsed(shlex.split(example)[1:])


@pytest.mark.parametrize("name", ENTRIES)
def test_each_option_says_what_it_is_for(name: str) -> None:
    options = [parameter for parameter in command_of(name).params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_a_mistyped_command_ends_with_2_and_the_nearest_name(tmp_path: Path) -> None:
    said = transtailor_command("stauts", "runs/demo", folder=tmp_path)
    assert said.returncode == 2 and "did you mean 'status'?" in said.stderr
    said = transtailor_command("data", "chek", "d", folder=tmp_path)
    assert said.returncode == 2 and "did you mean 'check'?" in said.stderr and "transtailor data --help" in said.stderr
    said = transtailor_command("prepare", "birds", folder=tmp_path)
    assert said.returncode == 2 and "did you mean 'data prepare'?" in said.stderr


@pytest.mark.parametrize("name", [name for name in GONE if name not in ENTRIES])
def test_what_to_type_in_place_of_a_command_that_went_is_said_in_a_line_and_works(name: str, tmp_path: Path) -> None:
    said = transtailor_command(*name.split(), "one", "another", folder=tmp_path)
    (line,) = said.stderr.splitlines()
    assert (said.returncode, said.stdout) == (2, "")
    program, *words = shlex.split(line.rpartition("type: ")[2])
    if Path(program).name == "transtailor":
        parsed(words)
    else:
        assert shutil.which(program)


@pytest.mark.parametrize("words", ["status runs/demo", "report runs/demo", "trial run t.toml", "data check d", "fetch"])
def test_an_unknown_option_shows_the_usage_of_its_own_command(words: str, tmp_path: Path) -> None:
    said = transtailor_command(*words.split(), "--bogus", folder=tmp_path)
    name = words.removesuffix(" runs/demo").removesuffix(" t.toml").removesuffix(" d")
    assert said.returncode == 2 and said.stderr.startswith(f"Usage: transtailor {name} ")
    assert "No such option" in said.stderr and "--bogus" in said.stderr


@pytest.mark.parametrize(
    "words", ["data prepare a --from b --to c --labels d --labels e", "data prepare a --from b --to c --to=d"]
)
def test_an_option_that_counts_once_is_given_once(words: str, tmp_path: Path) -> None:
    said = transtailor_command(*words.split(), folder=tmp_path)
    option = re.findall("--[a-z]+", words)[-1]
    assert said.returncode == 2 and said.stderr.endswith(f"Error: {option} is given 2 times; give it once\n")


def test_words_and_exit_codes_pass_through(tmp_path: Path) -> None:
    said = transtailor_command("status", "runs/no such", folder=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "there is no run runs/no such" in said.stderr


def test_an_interrupt_ends_with_130_also_while_the_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transtailor.cli.import_uncollected", interrupted)
    assert main(["status", "runs/demo"]) == INTERRUPTED


def test_a_torchvision_of_another_torch_is_explained() -> None:
    @cli.command(example="")
    def broken() -> None:
        """Import it."""
        raise RuntimeError("operator torchvision::nms does not exist")

    said = CliRunner().invoke(broken)
    assert said.exit_code == 2
    assert re.fullmatch(r"error: torch \S+ and torchvision \S+ do not fit together .*: docs/install.md\n", said.stderr)


def test_the_version(tmp_path: Path) -> None:
    import transtailor

    said = transtailor_command("--version", folder=tmp_path)
    assert (said.returncode, said.stdout) == (0, f"transtailor {transtailor.__version__}\n")


def test_a_shipped_spec_goes_by_its_name_from_any_folder(tmp_path: Path) -> None:
    said = transtailor_command("plan", "tour", folder=tmp_path)
    assert said.returncode == 0 and "sweep     tour: 14 trials" in said.stdout
    (probe,) = [line.strip() for line in said.stdout.splitlines() if "--only" in line]
    assert " run tour --only " in probe  # what is suggested runs, and plans no more
    (tmp_path / "tour").mkdir()
    assert transtailor_command("plan", "tour", folder=tmp_path).returncode == 0
    said = transtailor_command("plan", "tuor", folder=tmp_path)
    assert said.returncode == 2 and "did you mean 'tour'?" in said.stderr


@pytest.fixture
def working_folder(tmp_path: Path) -> Path:
    """A folder with a run in runs/ and a spec."""
    run = tmp_path / "runs" / "birds"
    run.mkdir(parents=True)
    trials = {
        "3f2a": {"arm": "prune l1", "config": {"seed": 0, "optimisation": {"epochs": 1}}},
        "81bc": {"arm": "fine_tune", "config": {"seed": 0, "optimisation": {"epochs": 2}}},
    }
    (run / "plan.json").write_text(json.dumps({"trials": trials}))
    (tmp_path / "mine.toml").touch()
    return tmp_path


def test_a_run_is_found_by_its_name_below_runs(working_folder: Path) -> None:
    said = transtailor_command("status", "birds", folder=working_folder)
    assert "runs/birds" in said.stderr  # it is damaged
    assert "no run bird;" in transtailor_command("status", "bird", folder=working_folder).stderr
    (working_folder / "birds").mkdir()
    assert "birds is not the folder of a run" in transtailor_command("status", "birds", folder=working_folder).stderr
