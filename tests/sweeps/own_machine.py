"""Commands on what is nearly a machine of their own: their own processes, network, /tmp and /dev/shm, gone afterwards.

So a test may fill a disk, take a port or leave a folder to somebody else, and nobody outside notices.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path("/mnt/here")  # the test's folder, as commands see it
NEEDS = "namespaces of processes, network and mounts take root, and a Python that is not below /tmp"
needs_namespaces = pytest.mark.skipif(os.geteuid() != 0 or sys.base_prefix.startswith("/tmp/"), reason=NEEDS)
LIMIT_S = 1200.0
PREPARE = """
set -u
ip link set lo up
mount -t tmpfs tmpfs /mnt
mkdir /mnt/code /mnt/here /mnt/home /mnt/python /mnt/environment
mount --bind {python} /mnt/python
mount --bind {environment} /mnt/environment
mount --bind {code} /mnt/code
mount --bind {folder} /mnt/here
mount -t tmpfs -o mode=1777,size=1g tmpfs /tmp  # small enough to be filled by a test
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /root
mkdir -p {python}
mount --bind /mnt/python {python}
export HOME=/mnt/home PYTHONPATH=/mnt/code PATH=/mnt/environment/bin:$PATH
unset XDG_CACHE_HOME
cd /mnt/here
"""
LEFT = """
echo "--- left"
ls -A /tmp /dev/shm
for _ in $(seq 300); do  # one that has closed its files may take a moment more
ps -eo pid=,args= >/mnt/processes  # no pipe: its other end, before it becomes grep, would be told as left
grep -q -v -e "^ *1 " -e "ps -eo" /mnt/processes || break
sleep 0.1
done
grep -v -e "^ *1 " -e "ps -eo" /mnt/processes
exit 0
"""


@dataclass(frozen=True)
class Ended:
    """What commands said, and what they left."""

    said: str  # both streams
    left: str  # files in /tmp and /dev/shm, then processes, one per line


def on_own_machine(folder: Path, commands: str) -> Ended:
    """Runs lines of bash there; `folder` is /mnt/here, the repository /mnt/code, what is installed /mnt/environment.

    All three may lie below /tmp or /root, where everything is hidden but Python itself, so that any user may pass.
    """
    prepare = PREPARE.format(
        code=shlex.quote(str(ROOT)),
        folder=shlex.quote(str(folder)),
        environment=shlex.quote(sys.prefix),
        python=shlex.quote(sys.base_prefix),
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
         "bash", "-c", prepare + commands + LEFT],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    said, _, left = done.stdout.partition("--- left\n")
    return Ended(said, left)
