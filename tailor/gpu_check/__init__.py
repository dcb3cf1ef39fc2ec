"""Whether this program computes on a GPU what it computes on the CPU: the checks of `check-gpu`."""
