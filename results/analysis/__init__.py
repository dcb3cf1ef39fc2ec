"""One file per question that a run can answer: which arm, which setting, which stop rule, how many seeds."""
