"""The site's command for the end of a sweep (`on_end`), which the controller's node calls."""

import shlex
import subprocess
from contextlib import suppress
from typing import Literal

from hpc.errors import ClusterError
from hpc.folders.cluster_folder import ClusterFolder
from transtailor.terminal import say

ON_END_LIMIT_S = 60.0


def call_on_end(folder: ClusterFolder, how: Literal["finished", "failed", "interrupted"]) -> None:
    """Run `on_end` with `how` and the run's folder, which the cluster's is in.

    Its result is printed and has no other effect. It is not called if other users can change the site.
    """
    try:
        folder.check()
        command = folder.site().on_end
        if not command:
            return
        words = [*command, how, str(folder.path.resolve().parent)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=ON_END_LIMIT_S, check=False)
        text = f"{shlex.join(words)} ended with code {done.returncode}"
    except (ClusterError, OSError, subprocess.TimeoutExpired) as error:
        text = str(error)
    with suppress(OSError):  # the log may be in a folder that is full
        say(f"on_end: {text}")
