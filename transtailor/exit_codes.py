"""How the programs end, for whoever started them: a shell, a script, SLURM, or another program of this one."""

SUCCESS = 0
FAILED = 1  # what was asked for was tried: trials have failed, a training cannot continue, a cluster lacks something
MISTAKE = 2  # in what was typed or in a file; argparse ends with it, too
TRY_AGAIN = 75  # EX_TEMPFAIL: nothing is wrong with what was asked for, and starting it again may succeed
INTERRUPTED = 130  # 128 + SIGINT, as shells count
