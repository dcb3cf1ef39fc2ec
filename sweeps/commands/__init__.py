"""The commands of `python -m sweeps` and `python sweeps/launch.py`."""
