"""Call the site's command for the end of a sweep (`on_end`), on the controller's node."""

import shlex
import subprocess
from contextlib import suppress
from typing import Literal

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.errors import ClusterError
from transtailor.terminal import say

ON_END_LIMIT_S = 60.0


def call_on_end(folder: ClusterFolder, how: Literal["finished", "failed", "interrupted"]) -> None:
    """Run `on_end` with two arguments: `how`, and the run's folder, which has the cluster's folder in it.

    The result is printed and has no other effect. The command is not called if other users can change the site.
    """
    try:
        folder.check()
        command = folder.site().on_end
        if not command:
            return
        run_folder = folder.path.resolve().parent
        words = [*command, how, str(run_folder)]
        completed = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=ON_END_LIMIT_S, check=False)
        result = f"{shlex.join(words)} ended with code {completed.returncode}"
    except (ClusterError, OSError, subprocess.TimeoutExpired) as error:
        result = str(error)
    with suppress(OSError):  # the log may be in a folder that is full
        say(f"on_end: {result}")
