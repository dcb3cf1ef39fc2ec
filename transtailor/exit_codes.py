"""Exit codes of the programs, for what started them: a shell, a script, SLURM, or another program of ours.

>>> [SUCCESS, FAILED, MISTAKE, TRY_AGAIN, INTERRUPTED]
[0, 1, 2, 75, 130]
"""

SUCCESS = 0
FAILED = 1  # the command ran, and something failed: trials, a training, a check of a cluster
MISTAKE = 2  # in what was typed or in a file; argparse uses it too
TRY_AGAIN = 75  # EX_TEMPFAIL: the input is fine, and starting the command again may succeed
INTERRUPTED = 130  # 128 + SIGINT, as shells count
