"""How commands end: the base class of errors that they print without a traceback, and their exit codes.

The codes are for what started them: a shell, a script, SLURM, or another program of ours.

>>> [SUCCESS, FAILED, MISTAKE, TRY_AGAIN, INTERRUPTED]
[0, 1, 2, 75, 130]
"""

SUCCESS = 0
FAILED = 1  # the command ran, and something failed: trials, a training, a check of a cluster
MISTAKE = 2  # in what was typed or in a file; argparse uses it too
TRY_AGAIN = 75  # EX_TEMPFAIL: the input is fine, and starting the command again may succeed
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class UserError(Exception):
    """A mistake that a user can fix; the text says what was given, what is valid and what to type next.

    Command lines print only the text and end with `MISTAKE`.
    """
