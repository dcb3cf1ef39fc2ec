"""The one command: it lists what there is, hands words over as they were typed, and imports only what it needs."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import parsed, transtailor_command
from tests.product import ROOT
from transtailor.__main__ import ENTRIES

HEAVY = ("torch", "ray", "pandas", "duckdb", "pyarrow", "numpy", "pydantic")


def test_without_words_it_lists_every_command(tmp_path: Path) -> None:
    said = transtailor_command(folder=tmp_path)
    assert said.returncode == 0
    assert said.stdout == transtailor_command("--help", folder=tmp_path).stdout
    assert [name for name, entry in ENTRIES.items() if name not in said.stdout or entry.text not in said.stdout] == []


def test_its_help_imports_nothing_large() -> None:
    program = (
        "import sys; from transtailor.__main__ import main; assert main(['--help']) == 0; "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ENTRIES)
def test_each_help_has_an_example_that_its_parser_takes(name: str, tmp_path: Path) -> None:
    said = transtailor_command(*name.split(), "--help", folder=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"usage: transtailor {name} ")
    example = said.stdout.splitlines()[-1].removeprefix("example: ")
    assert shlex.split(example)[: 1 + len(name.split())] == ["transtailor", *name.split()]
    parsed([*name.split(), *shlex.split(ENTRIES[name].example.partition(" -- ")[0])])


def test_a_mistyped_command_ends_with_2_and_the_nearest_name(tmp_path: Path) -> None:
    said = transtailor_command("stauts", "runs/demo", folder=tmp_path)
    assert said.returncode == 2
    assert "status" in said.stderr or "--help" in said.stderr  # click names the nearest since 8.4


@pytest.mark.parametrize(
    "words", ["status runs/demo", "report runs/demo", "trial plan t.toml", "data check d", "sites"]
)
def test_an_unknown_option_shows_the_usage_of_its_own_command(words: str, tmp_path: Path) -> None:
    said = transtailor_command(*words.split(), "--bogus", folder=tmp_path)
    name = words.removesuffix(" runs/demo").removesuffix(" t.toml").removesuffix(" d")
    assert said.returncode == 2 and said.stderr.startswith(f"usage: transtailor {name} [-h]")
    assert "unrecognized arguments: --bogus" in said.stderr


def test_words_and_exit_codes_pass_through(tmp_path: Path) -> None:
    said = transtailor_command("status", "runs/no such", folder=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "there is no run runs/no such" in said.stderr
    said = transtailor_command("script", "no_site", "--", "a", "--help", folder=tmp_path)
    assert said.returncode == 2 and "no site 'no_site'" in said.stderr


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_of_a_jobs_command_adds_nothing_to_the_jobs_text(word: str, tmp_path: Path) -> None:
    said = transtailor_command("script", "example", "--log-folder", "/shared/logs", "--", "df", word, folder=tmp_path)
    assert said.returncode == 0
    assert said.stdout.rstrip().endswith(f" df {word}")


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


@pytest.mark.parametrize(
    ("words", "completed"), [("transtailor stat", "plain,status"), ("transtailor table --form", "plain,--format")]
)
def test_a_shell_is_told_how_a_word_can_go_on(words: str, completed: str) -> None:
    program = "import sys; from transtailor.__main__ import main; sys.argv = ['transtailor']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"_TRANSTAILOR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
    )  # fmt: skip
    assert done.stdout.splitlines() == [completed]
