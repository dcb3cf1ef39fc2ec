"""Run a sweep: `python sweeps/launch.py SPEC`; see `sweeps.commands.launch`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python puts the folder of this script first; its modules must not hide libraries of the same name.
        del sys.path[0]
    from sweeps.commands.launch import main

    sys.exit(main())
