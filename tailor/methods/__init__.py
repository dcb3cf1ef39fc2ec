"""One file per method; importing this package registers them all."""

from tailor.methods import adaptation, baselines, pac_net, prune, schemes, transtailor
