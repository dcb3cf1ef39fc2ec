"""Every mistake in what was typed: exit code 2, one clear message with file, key and nearest name, nothing created."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.run.run_folder import RunFolder
from tests.sweeps.conftest import Command, WriteSpec
from transtailor.__main__ import main
from transtailor.shell import command


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Launch in this process, in the test's folder: it must end with 2 and change no file; returns the message."""
    monkeypatch.chdir(tmp_path)

    def launch(*arguments: object) -> str:
        before = contents(tmp_path)
        assert main(["run", *map(str, arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.strip()
        assert "Traceback" not in printed.err
        assert contents(tmp_path) == before
        return printed.err

    return launch


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder` with what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "text", ["name = \n", 'name = "bad"\n[axis]\nseed = [0]\n', 'name = "bad"\n[resources]\nranks = 0\n']
)
def test_a_bad_spec_begins_no_run(write_spec: WriteSpec, refused: Callable[..., str], text: str) -> None:
    """What else is refused in specs is in tests/refusals.toml, by plan."""
    assert "spec.toml" in refused(write_spec(text))


@pytest.mark.parametrize("site", [(), ("--site", "serial")])
def test_a_sweep_on_this_machine_cannot_be_detached(
    write_spec: WriteSpec, refused: Callable[..., str], site: tuple[str, ...]
) -> None:
    assert "--detach needs a SLURM site" in refused(write_spec(), "--plan", "--detach", *site)


def test_no_such_spec_names_the_nearest(write_spec: WriteSpec, refused: Callable[..., str]) -> None:
    write_spec(name="paper.toml")
    assert "did you mean 'paper.toml'" in refused("papr.toml")
    assert "did you mean 'demo'" in refused("sweeps/specs/demmo.toml")
    write_spec(name="m.toml")
    assert "did you mean 'demo'" in refused("demo.toml")


def test_a_setting_that_is_set_twice_is_refused(write_spec: WriteSpec, refused: Callable[..., str]) -> None:
    sets = ["--set", "trial.optimisation.epochs=2", "--set", "trial.optimisation.epochs = 3"]
    assert "--set trial.optimisation.epochs=...: is typed 2 times" in refused(write_spec(), *sets)


def test_a_spec_is_no_pipe_and_no_run(tmp_path: Path, run: RunFolder, refused: Callable[..., str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert f"{tmp_path / 'pipe'} is a pipe; save the spec as a file" in refused(tmp_path / "pipe")
    assert f"is the folder of a run; to resume it, type: {command('run', run.path, '--retry')}" in refused(run.path)


def test_a_folder_and_a_binary_file_are_no_specs(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as a spec: Is a directory; type the path of a TOML" in refused(tmp_path / "folder.toml")
    assert "binary.toml: is not valid TOML" in refused(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    "name", ["", "été", ".hidden", "a/b", "x" * 101, "two words", "a\nb", "$(touch x)", "it's", '"', "`x`", "a;b"]
)
def test_a_name_that_cannot_name_a_folder(write_spec: WriteSpec, refused: Callable[..., str], name: str) -> None:
    assert f"--name: {name!r} cannot name a run folder; type a name of a-z, A-Z, " in refused(
        write_spec(), "--name", name
    )


@pytest.mark.parametrize("option", ["--runs", "--cache"])
def test_a_file_in_place_of_a_folder(
    tmp_path: Path, write_spec: WriteSpec, refused: Callable[..., str], option: str
) -> None:
    (tmp_path / "file").write_text("")
    assert f"{option} file/below" in refused(write_spec(), option, "file/below")


@pytest.mark.parametrize("option", ["--runs", "--cache"])
def test_a_folder_that_may_not_be_written(write_spec: WriteSpec, refused: Callable[..., str], option: str) -> None:
    # Not even root may make a file in /proc.
    assert f"{option} /proc/below: /proc cannot be written" in refused(write_spec(), option, "/proc/below")


@pytest.mark.parametrize("option", [["--site", "locla"], ["--plam"], ["--ext"], ["--max-disk-gb", "-1"]])
def test_bad_options(launch: Command, write_spec: WriteSpec, tmp_path: Path, option: list[str]) -> None:
    done = launch(write_spec(), *option)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]
