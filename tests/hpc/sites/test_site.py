"""Sites: found by name or path, faults said with key, value and nearest name; and the text of a job at one."""

from pathlib import Path

import pytest

from hpc.errors import SiteError
from hpc.sites.site import SHIPPED, Controller, Site, SubmissionLimits, find_site, read_site, site_files
from transtailor.__main__ import main

SMALL = "cpus_per_node = 4\nwalltime_min = 60\n"


@pytest.fixture
def own_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own sites, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "transtailor" / "sites"
    folder.mkdir(parents=True)
    return folder


def fault(folder: Path, text: str) -> str:
    """What is said of a site file of that text."""
    path = folder / "broken.toml"
    path.write_text(text)
    with pytest.raises(SiteError) as raised:
        read_site(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + 'acount = "x"', ["unknown key acount", "did you mean 'account'"]),
        (SMALL + "[limits]\nmax_job = 2", ["unknown key limits.max_job", "did you mean 'max_jobs'", "array_size"]),
        ("cpus_per_node = 4", ["walltime_min is missing", "walltime_min = ..."]),
        (SMALL + 'gpus_per_node = "2"', ["gpus_per_node = '2'", "integer"]),
        (SMALL + "memory_gb = 0", ["memory_gb = 0", "greater than 0"]),
        (SMALL + "memory_gb = inf", ["memory_gb = inf", "finite"]),
        (SMALL + "exclusive = 1", ["exclusive = 1", "boolean"]),
        (SMALL + 'setup = "module load x"', ["setup = 'module load x'", "a list, in [ ]"]),
        (SMALL + "partition = gpu", ["not valid TOML", "line 3", "quotes"]),
        (SMALL + "partition\n", ["not valid TOML", "line 3", "each line is a key, =, and a value"]),
        (SMALL + 'gpus_per_node = 4\ngres = "gpu:4"', ["gres = 'gpu:4'", '"gpu:a100"', "gpus_per_node"]),
        (SMALL + 'gpus_per_node = 4\ngres = "gpu:a100:4"', ["gres = 'gpu:a100:4'", '"gpu:a100"']),
        (SMALL + 'gres = "gpu:a100"', ["gpu:a100", "needs gpus_per_node"]),
        (SMALL + '[controller]\ngres = "gpu:a100"', ["controller = ", "gres = 'gpu:a100' needs gpus_per_node"]),
        (SMALL + '[controller]\ngpus_per_node = 1\ngres = "gpu:1"', ["controller.gres = 'gpu:1'", "write only the n"]),
        (SMALL + 'shared_folder = "runs"', ["shared_folder = 'runs'", "beginning with /"]),
        (SMALL + 'scratch_folder = "~/tmp"', ["scratch_folder = '~/tmp'", "$TMPDIR"]),
        (SMALL + '[sbatch]\nmem = "4G"', ["'mem' cannot be set here", "use memory_gb"]),
        (SMALL + '[sbatch]\nwrap = "touch x"', ["'wrap' cannot be set here", "each job"]),
        (SMALL + '[sbatch]\n"--nice" = 1', ["'--nice' is not a flag"]),
        (SMALL + '[sbatch]\n"a b" = 1', ["'a b' is not a flag"]),
        (SMALL + "[sbatch]\nhold = false", ["hold = false", "leave it out"]),
        (SMALL + '[sbatch]\ncomment = "a\\nb"', ["sbatch.comment", "one line"]),
    ],
)
def test_a_fault_names_key_value_and_what_to_write(tmp_path: Path, text: str, said: list[str]) -> None:
    message = fault(tmp_path, text)
    assert [part for part in said if part not in message] == []


def test_an_editor_on_windows_may_have_written_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_site(path).cpus_per_node == 4
    path.write_text(SMALL, encoding="utf-16")
    with pytest.raises(SiteError, match=r"mine.toml: is not valid TOML: .*UTF-16.*save the file as UTF-8$"):
        read_site(path)


def test_a_file_beside_the_working_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mycluster.toml").write_text(SMALL)
    with pytest.raises(SiteError, match=r"meant by ./mycluster.toml"):
        find_site("mycluster")
    assert find_site("./mycluster.toml").cpus_per_node == 4


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, "walltime_min = 0\nacount = 'x'")
    assert len(message.splitlines()) == 4  # the file, and one line each


@pytest.mark.parametrize(
    ("key", "hostile"),
    [
        *((key, "a\\nb") for key in ("partition", "account", "qos", "constraint", "network_interface", "description")),
        *(("partition", hostile) for hostile in ("a\\u2028b", "a\\rb", "a\\tb", "\\u0000", "a\\\\b", "", " ")),
    ],
)
def test_texts_that_would_leave_their_line_are_refused(tmp_path: Path, key: str, hostile: str) -> None:
    assert f"{key} = " in fault(tmp_path, f'{SMALL}{key} = "{hostile}"')


@pytest.mark.parametrize("line", ["module load a\\ntouch x", "#SBATCH --time=9", "  #SBATCH --time=9"])
def test_a_setup_line_is_one_line_and_no_flag(tmp_path: Path, line: str) -> None:
    assert "setup.0" in fault(tmp_path, f'{SMALL}setup = ["{line}"]')


def test_a_site_cannot_be_changed() -> None:
    site = Site(cpus_per_node=1, walltime_min=1)
    with pytest.raises(ValueError, match="frozen"):
        site.partition = "other"


def test_the_example_shows_every_key() -> None:
    example = find_site("example")
    assert example.model_fields_set == set(Site.model_fields)
    assert example.limits.model_fields_set == set(SubmissionLimits.model_fields)
    assert example.controller.model_fields_set == set(Controller.model_fields)


def test_a_name_is_found_in_the_users_folder_first(own_sites: Path) -> None:
    assert site_files()["example"].path.parent == SHIPPED
    (own_sites / "example.toml").write_text(SMALL)
    (own_sites / "mine.toml").write_text(SMALL)
    files = site_files()
    assert {"example", "mine"} <= set(files)
    assert (files["example"].path, files["example"].hides) == (own_sites / "example.toml", SHIPPED / "example.toml")
    assert find_site("example").cpus_per_node == 4
    assert find_site(str(own_sites / "mine.toml")) == find_site("mine")


def test_without_xdg_the_users_folder_is_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".config" / "transtailor" / "sites"
    folder.mkdir(parents=True)
    (folder / "home.toml").write_text(SMALL)
    assert site_files()["home"].path == folder / "home.toml"


def test_an_unknown_name_gets_the_nearest_and_the_way_to_a_site(own_sites: Path) -> None:
    (own_sites / "alps.toml").write_text(SMALL)
    with pytest.raises(SiteError, match=r"no site 'alp'; did you mean 'alps'.*valid: alps, example.* init"):
        find_site("alp")
    with pytest.raises(SiteError, match=r"'local' is this machine.*init"):
        find_site("local")
    with pytest.raises(SiteError, match="cannot be read"):
        find_site(str(own_sites / "none.toml"))


def test_the_listing_says_where_sites_are_and_what_is_wrong(
    own_sites: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sites"]) == 0
    (own_sites / "alps.toml").write_text(SMALL + 'acount = "x"')
    (own_sites / "example.toml").write_text(SMALL)
    assert main(["sites"]) == 2
    listing = capsys.readouterr().out
    assert f"alps  {own_sites / 'alps.toml'}" in listing
    assert "BROKEN:   unknown key acount; did you mean 'account'?" in listing
    assert f"hides {SHIPPED / 'example.toml'}" in listing
    assert "4 CPUs, 0 GPUs, 60 min" in listing  # the others are still described


def test_pyxis_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('cpus_per_node = 1\nwalltime_min = 1\n[sbatch]\ncontainer-image = "x.sqsh"\n')
    with pytest.raises(SiteError, match="a flag of pyxis or enroot, which are not supported.*use the key container"):
        read_site(path)
