"""Streams of random numbers that depend on a seed and a purpose alone, never on a global generator."""

import hashlib


def stream(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose ("head", "order", ...) and counters (epoch, ...): equal inputs, equal stream."""
    text = "/".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
