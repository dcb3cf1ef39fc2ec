"""What is known by name without torch: networks, data sets, weights, regularisers, what a network can lose."""
