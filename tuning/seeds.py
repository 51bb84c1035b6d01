"""Seeds that follow from what they are for, so that no random choice depends on what ran before it."""

from __future__ import annotations

import hashlib


def derive_seed(*keys: object, bits: int = 63) -> int:
    """A seed for the purpose that the keys name, unrelated to the seeds of all other purposes; `bits` up to 64."""
    return int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:8], "big") >> (64 - bits)
