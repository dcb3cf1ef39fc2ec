"""What all of `tailor` is built on: errors, settings, registries, seeds, signs of life. Without torch."""
