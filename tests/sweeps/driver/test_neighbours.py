"""Sweeps beside others, and on machines that lack something: they finish or say what is missing, and leave nothing."""

from pathlib import Path

import pytest

from results.store.reader import finished_trial_ids
from tests.sweeps.own_machine import Ended, needs_namespaces, on_own_machine

SPEC = """
name = "one"
[trial]
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 2, head_epochs = 1 }
[[variants]]
method.name = "fine_tune"
"""
LAUNCH = "python /mnt/code/sweeps/launch.py spec.toml --site local"
RAY = "python -m ray.scripts.scripts"  # its own script names the folder that it was installed in
AS_NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
NOTHING_LEFT = "/dev/shm:\n\n/tmp:\n"

pytestmark = [needs_namespaces, pytest.mark.check, pytest.mark.timeout(1500)]


def run_there(folder: Path, commands: str) -> Ended:
    (folder / "spec.toml").write_text(SPEC)
    return on_own_machine(folder, commands)


FULL_HOME = "mount -t tmpfs -o size=1m tmpfs /mnt/home; head -c 2000000 /dev/zero >/mnt/home/full 2>/dev/null"
FOREIGN_TMP_RAY = "mkdir -m 700 /tmp/ray; chown nobody /tmp/ray"
TINY_SHARED_MEMORY = "mount -o remount,size=64k /dev/shm"
FEW_FILES = "ulimit -n 256"


@pytest.mark.parametrize("mine", ["a", pytest.param("abc", marks=pytest.mark.long)])
def test_sweeps_of_two_users_with_little_room_and_few_files_beside_a_foreign_ray(tmp_path: Path, mine: str) -> None:
    """The foreign one has the default port, the default token, and is what RAY_ADDRESS says; mine share a cache."""
    ended = run_there(
        tmp_path,
        f"""
        {RAY} start --head --port=6379 --num-cpus=1 --temp-dir=/tmp/foreign --block >foreign.log 2>&1 &
        foreign=$!
        until (echo >/dev/tcp/127.0.0.1/6379) 2>/dev/null; do sleep 0.2; done
        export RAY_ADDRESS=127.0.0.1:6379
        {FULL_HOME}; {FOREIGN_TMP_RAY}; {TINY_SHARED_MEMORY}; {FEW_FILES}
        for name in {" ".join(mine)}; do {LAUNCH} --name $name & sweeps="${{sweeps:-}} $!"; done
        cp spec.toml /tmp/; mkdir -m 755 /tmp/theirs; chown nobody /tmp/theirs
        (cd /tmp/theirs; cp ../spec.toml .; HOME=/tmp/theirs {AS_NOBODY} {LAUNCH}
        echo "theirs ended with $?")
        for sweep in $sweeps; do wait $sweep; echo "mine ended with $?"; done
        kill -0 $foreign && echo "the foreign Ray lives"
        kill $foreign; wait $foreign
        # Its workers and agents notice it a moment later: until none has a file of it open.
        while ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q /tmp/foreign/; do sleep 0.2; done
        cp -r /tmp/theirs/runs theirs; rm -r /tmp/foreign /tmp/theirs /tmp/ray /tmp/spec.toml
        """,
    )
    assert "Traceback" not in ended.said, ended.said
    assert ended.said.count("mine ended with 0") == len(mine), ended.said
    assert "theirs ended with 0" in ended.said, ended.said
    assert "the foreign Ray lives" in ended.said
    assert [len(finished_trial_ids(tmp_path / "runs" / name)) for name in mine] == [1] * len(mine)
    assert len(finished_trial_ids(tmp_path / "theirs" / "one")) == 1
    assert ended.left == NOTHING_LEFT


@pytest.mark.long
@pytest.mark.parametrize(
    "lack", ["unset HOME", "mount -t tmpfs -o ro tmpfs /mnt/home"], ids=["home", "home_to_write_to"]
)
def test_a_machine_that_lacks_something(tmp_path: Path, lack: str) -> None:
    ended = run_there(tmp_path, f"({lack}\n {LAUNCH}; echo ended with $?)")
    assert "Traceback" not in ended.said, ended.said
    assert "ended with 0" in ended.said, ended.said
    assert len(finished_trial_ids(tmp_path / "runs" / "one")) == 1
    assert ended.left == NOTHING_LEFT


def test_where_ray_cannot_start_the_command_says_what_it_needs(tmp_path: Path) -> None:
    ended = run_there(tmp_path, f"(ulimit -n 40; {LAUNCH}; echo ended with $?)")
    assert "Traceback" not in ended.said, ended.said
    assert "ended with 2" in ended.said, ended.said
    assert "ulimit -n is 40" in ended.said
    assert "--site serial" in ended.said
    assert ended.left == NOTHING_LEFT


def test_a_full_tmp_is_told(tmp_path: Path) -> None:
    ended = run_there(
        tmp_path, f"head -c 100G /dev/zero >/tmp/full 2>/dev/null; {LAUNCH}; echo ended with $?; rm /tmp/full"
    )
    assert "Traceback" not in ended.said, ended.said
    assert "ended with 2" in ended.said, ended.said
    assert "No space left on device" in ended.said
    assert ended.left == NOTHING_LEFT
