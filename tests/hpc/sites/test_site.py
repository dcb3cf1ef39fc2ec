"""Sites: found by name or path, faults said with key, value and nearest name; and the text of a job at one."""

from pathlib import Path

import pytest

from hpc.errors import SiteError
from hpc.sites.site import SHIPPED, Controller, Site, SubmissionLimits, find_site, read_site, site_files

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
        (SMALL + 'acount = "x"', ["unknown key 'acount'", "did you mean 'account'"]),
        ("cpus_per_node = 4", ["walltime_min is missing", "walltime_min = ..."]),
        (SMALL + 'gpus_per_node = "2"', ["gpus_per_node: given '2'", "integer"]),
        (SMALL + "memory_gb = 0", ["memory_gb: given 0", "greater than 0"]),
        (SMALL + "memory_gb = inf", ["memory_gb: given inf", "finite"]),
        (SMALL + "exclusive = 1", ["exclusive: given 1", "boolean"]),
        (SMALL + 'setup = "module load x"', ["setup: given 'module load x'", "a list, in [ ]"]),
        (SMALL + "partition = gpu", ["not valid TOML", "line 3", "partition = gpu"]),
        (SMALL + 'gpus_per_node = 4\ngres = "gpu:4"', ["gres: given 'gpu:4'", '"gpu:a100"', "gpus_per_node"]),
        (SMALL + 'gres = "gpu:a100"', ["gpu:a100", "needs gpus_per_node"]),
        (SMALL + '[controller]\ngres = "gpu:a100"', ["controller: ", "gres = 'gpu:a100' needs gpus_per_node"]),
        (
            SMALL + '[controller]\ngpus_per_node = 1\ngres = "gpu:1"',
            ["controller.gres: given 'gpu:1'", "write only the n"],
        ),
        (SMALL + 'shared_folder = "runs"', ["shared_folder: given 'runs'", "beginning with /"]),
        (SMALL + 'scratch_folder = "~/tmp"', ["scratch_folder: given '~/tmp'", "$TMPDIR"]),
        (SMALL + '[sbatch]\nwrap = "touch x"', ["'wrap' cannot be set here", "leave it out"]),
        (SMALL + "[limits]\narray_size = 2", ["limits.array_size is gone", "leave it out"]),
        (SMALL + '[sbatch]\n"--nice" = 1', ["'--nice' is not a flag"]),
        (SMALL + "[sbatch]\nhold = false", ["hold = false", "leave it out"]),
        (SMALL + '[sbatch]\ncomment = "a\\nb"', ["sbatch.comment: given", "one line"]),
    ],
)
def test_a_fault_names_key_value_and_what_to_write(tmp_path: Path, text: str, said: list[str]) -> None:
    message = fault(tmp_path, text)
    assert [part for part in said if part not in message] == []


def test_an_editor_on_windows_may_have_written_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_site(path).cpus_per_node == 4


def test_a_file_beside_the_working_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mycluster.toml").write_text(SMALL)
    with pytest.raises(SiteError, match=r"meant by ./mycluster.toml"):
        find_site("mycluster")
    assert find_site("./mycluster.toml").cpus_per_node == 4


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, "walltime_min = 0\nacount = 'x'")
    assert len(message.splitlines()) == 3  # one line each


@pytest.mark.parametrize(
    ("key", "hostile"),
    [
        *((key, "a\\nb") for key in ("partition", "account", "qos", "constraint", "network_interface", "description")),
        *(("partition", hostile) for hostile in ("a\\u2028b", "a\\rb", "a\\tb", "\\u0000", "a\\\\b", "", " ")),
    ],
)
def test_texts_that_would_leave_their_line_are_refused(tmp_path: Path, key: str, hostile: str) -> None:
    assert f"{key}: given " in fault(tmp_path, f'{SMALL}{key} = "{hostile}"')


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
    assert site_files()["example"].parent == SHIPPED
    (own_sites / "example.toml").write_text(SMALL)
    (own_sites / "mine.toml").write_text(SMALL)
    files = site_files()
    assert {"example", "mine"} <= set(files)
    assert files["example"] == own_sites / "example.toml"
    assert find_site("example").cpus_per_node == 4
    assert find_site(str(own_sites / "mine.toml")) == find_site("mine")


def test_without_xdg_the_users_folder_is_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".config" / "transtailor" / "sites"
    folder.mkdir(parents=True)
    (folder / "home.toml").write_text(SMALL)
    assert site_files()["home"] == folder / "home.toml"


def test_an_unknown_name_gets_the_nearest_and_the_way_to_a_site(own_sites: Path) -> None:
    (own_sites / "alps.toml").write_text(SMALL)
    with pytest.raises(SiteError, match=r"no site 'alp'; did you mean 'alps'.*valid: alps, example.* init"):
        find_site("alp")
    with pytest.raises(SiteError, match=r"'local' is this machine.*init"):
        find_site("local")
    with pytest.raises(SiteError, match="cannot be read"):
        find_site(str(own_sites / "none.toml"))


@pytest.mark.parametrize(
    "flag",
    ["mem", "clusters", "cluster", "M", "n", "ntask", "gpu", "time-min", "share", "exclu", "uid", "container-image"],
)
def test_a_flag_on_which_a_sweep_depends_is_refused_however_it_is_written(tmp_path: Path, flag: str) -> None:
    assert f"{flag!r}" in fault(tmp_path, f"{SMALL}[sbatch]\n{flag} = 1\n")


def test_other_flags_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f"{SMALL}[sbatch]\nexclude = 'n1'\nmem-bind = 'local'\nnumema-policy = 1\nwait-all-nodes = 1\n")
    assert len(read_site(path).sbatch) == 4


@pytest.mark.parametrize("name", ["wice,genius", "all", "a b", "--x"])
def test_a_cluster_is_one_name(tmp_path: Path, name: str) -> None:
    assert 'the name of one cluster, such as "wice"' in fault(tmp_path, f'{SMALL}cluster = "{name}"')
