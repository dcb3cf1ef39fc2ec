"""Networks built from their names, and weights loaded into them."""
