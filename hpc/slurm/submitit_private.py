"""The private name of submitit that `hpc` uses; no other file may use one.

submitit has no public function for the text of a job: its executors write it and submit it at once.
"""

from typing import Any

from submitit import SlurmExecutor

from transtailor.private_names import PrivateNames

SUBMITIT = PrivateNames(
    library="submitit",
    tried="1.5.4",  # 1.5.2 and 1.5.3 have it too
    names={"submitit.SlurmExecutor._make_submission_file_text(uid)": "the text of a job, before it is submitted"},
)


def text_of(executor: SlurmExecutor, command: str) -> str:
    """Return the script that this executor would submit for a command."""
    with_private_names: Any = executor
    text: str = with_private_names._make_submission_file_text(command, uid="")
    return text
