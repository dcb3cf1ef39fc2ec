"""What can be done with runs: launch, look at, stop, try again, time, tidy. Commands and `Sweep` call these."""
