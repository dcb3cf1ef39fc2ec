"""The model of a client is what nfs(5) says: what it believes, when it asks, what is lost."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.clients.mounts import Clients
from tests.clients.untrue import MAY_BE_UNTRUE, unexpected

pytestmark = pytest.mark.long


def names_in(folder: Path) -> list[str]:
    """What a client lists."""
    return sorted(path.name for path in folder.iterdir())


def test_an_absent_name_is_believed_until_the_folder_is_opened(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    assert not (here / "stop").exists()
    (there / "stop").touch()
    assert not (here / "stop").exists()
    assert clients.untrue("here")[-1].startswith("absent /stop ")
    os.close(os.open(here, os.O_RDONLY))
    assert (here / "stop").exists()


def test_a_name_and_its_size_are_believed_until_the_file_is_opened(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    (there / "file").write_text("short")
    assert (here / "file").stat().st_size == 5
    (there / "file").write_text("a longer one")
    assert (here / "file").stat().st_size == 5
    assert (here / "file").read_text() == "a longer one"
    (there / "file").unlink()
    assert (here / "file").exists()
    with pytest.raises(FileNotFoundError):
        (here / "file").read_text()
    assert {line.split()[0] for line in clients.untrue("here")} >= {"size", "gone"}


def test_without_close_to_open_a_listing_is_believed_too(clients: Clients) -> None:
    here, there = clients.start("here", cto=0)[0], clients.start("there")[0]
    assert names_in(here) == []
    (there / "file").touch()
    assert names_in(here) == []


def test_times_are_those_of_the_mount(clients: Clients) -> None:
    here, there = clients.start("here", acdirmin=0)[0], clients.start("there")[0]
    assert not (here / "file").exists()
    (there / "file").touch()
    assert (here / "file").exists()


def test_what_is_written_is_seen_once_it_is_synced_or_closed_and_lost_without_power(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    with (here / "log").open("w") as log:
        log.write("first\n")
        log.flush()
        assert (there / "log").read_text() == ""
        os.fsync(log.fileno())
        assert (there / "log").read_text() == "first\n"
        log.write("second\n")
    assert (there / "log").read_text() == "first\nsecond\n"
    log = (here / "lost").open("w")  # noqa: SIM115  # nobody closes it
    log.write("lost")
    log.flush()
    clients.cut("here")
    with pytest.raises(OSError, match="Transport endpoint|not connected"):
        log.close()
    assert (there / "lost").read_text() == ""


def test_two_that_append_overwrite_each_other(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    with (here / "log").open("a") as one, (there / "log").open("a") as other:
        one.write("one\n")
        other.write("other\n")
    assert (here / "log").read_text() == "one\nr\n"  # the one that was closed first is overwritten


def test_a_lock_holds_between_clients(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    (here / "lock").touch()
    with (here / "lock").open("r+") as one, (there / "lock").open("r+") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_open_file_that_is_removed_is_stale_elsewhere_and_lives_on_here(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    for name in ("here", "there"):
        (here / name).write_text("content")
    with (here / "here").open() as kept, (here / "there").open() as lost:
        (here / "here").unlink()
        (there / "there").unlink()
        assert kept.read() == "content"
        with pytest.raises(OSError) as error:
            lost.read()
        assert error.value.errno == errno.ESTALE
        assert [name[:4] for name in names_in(here)] == [".nfs"]
    assert names_in(here) == []


def test_the_lost_answer_to_a_link_is_a_refusal(clients: Clients) -> None:
    (here,) = clients.start("here", link=2)
    (here / "file").touch()
    (here / "first").hardlink_to(here / "file")
    with pytest.raises(FileExistsError):
        (here / "second").hardlink_to(here / "file")
    assert (here / "second").exists()


def test_calls_of_the_server_fail_when_they_should(clients: Clients) -> None:
    (here,) = clients.start("here")
    errors = []
    for before in range(4):
        clients.fail("here", errno.EDQUOT, before=before)
        try:
            (here / f"{before}").write_text("x")
        except OSError as error:
            errors.append(error.errno)
    assert errors == [errno.EDQUOT] * 4 and clients.calls("here") > 2
    clients.fail("here", errno.EDQUOT, before=10**6)
    (here / "last").write_text("x")


def test_folders_and_links_are_as_elsewhere(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    (here / "a/b").mkdir(parents=True)
    (here / "a/b/file").write_text("x" * 300_000)
    (here / "link").symlink_to("a/b")
    (here / "a/b/file").rename(here / "a/file")
    assert (there / "a/file").read_text() == "x" * 300_000
    assert names_in(there / "link") == [] and Path(there / "link").readlink() == Path("a/b")
    (there / "a/b").rmdir()
    (there / "a/file").chmod(0o600)
    assert (there / "a/file").stat().st_mode & 0o777 == 0o600
    assert names_in(here / "a") == ["file"]


def test_only_names_on_a_short_list_may_be_untrue() -> None:
    harmless = "other /lives/3/runs/small/cluster/head.json 7 python"
    late = "absent /lives/3/runs/small/cluster/stop 7 python"
    assert unexpected([harmless, late, late]) == [late]
    assert len(MAY_BE_UNTRUE) <= 6
