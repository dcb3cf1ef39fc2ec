"""What a client may say in a sweep that is not true: the names on a list, and why each does no harm."""

import re
from collections.abc import Iterable

MAY_BE_UNTRUE = {
    r"^other .*/cluster/(head|progress)\.json ": "replaced in that moment: the new one is opened",
    r"^other .*/tables/(\w+)/\1\.parquet ": "replaced since its folder was listed: the rows of that moment are read",
    r"^size .*/launch\.lock ": "the progress of its holder, which others see up to 30 s late",
    r"^absent .*/cluster/outcome\.json ": "written between the look at its folder and that at it: who waits asks again",
    r"^absent .*/cache/.. ": "a folder, which whoever stores a stage makes unless the server has it",
}
"""What was said, as a pattern -> why that does no harm."""


def unexpected(lines: Iterable[str]) -> list[str]:
    """Those of the lines of clients' logs that are not on the list."""
    return sorted({line for line in lines if not any(re.search(pattern, line) for pattern in MAY_BE_UNTRUE)})
