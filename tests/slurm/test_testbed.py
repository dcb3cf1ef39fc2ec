"""The test bed itself: what a killed one left is no hindrance, a living one is."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.slurm.testbed import BRIDGE, Testbed, alone


def test_the_bridge_of_a_killed_test_bed_is_taken_away() -> None:
    with alone(), tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # munge wants a path open to all
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "alias", f"{folder}/killed"], check=True)
        testbed = Testbed(Path(folder), nodes=1, accounting=False)
        try:
            testbed.up()
            assert testbed.state_of("node1") == "idle"
            with pytest.raises(RuntimeError, match=f"a test bed is up; .* down --folder {folder}"):
                Testbed(Path(folder, "second")).up()
            assert testbed.state_of("node1") == "idle"
        finally:
            testbed.down()
        assert not Path("/sys/class/net", BRIDGE).exists()
