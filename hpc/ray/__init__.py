"""One node of a Ray cluster, and a private Ray on this machine."""
