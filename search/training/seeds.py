"""Seeds that follow from others; loads no torch."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that is a function of the parts alone, and differs between them."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
