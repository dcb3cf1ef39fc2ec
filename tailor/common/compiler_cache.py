"""Where torch keeps compiled code."""

import os
import tempfile
from pathlib import Path

from tailor.common.errors import ConfigError
from transtailor.ownership import refuse_shared


def check_cache() -> None:
    """Make torch keep compiled code, which it loads again later, in a folder that no other user can write to.

    Torch's default is a folder in /tmp with a name that another user may have taken.

    Raises:
        ConfigError: another user owns that folder or can write to it.
    """
    default_folder = f"{tempfile.gettempdir()}/transtailor-inductor-{os.getuid()}"
    folder = Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", default_folder))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_shared((folder,), ConfigError)
