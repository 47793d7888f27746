"""What fresh seeds gain, on made-up curves of which one was lucky with one seed."""

import numpy as np

from benchmarks.candidates import CHOICES, JUDGED_BY, LOOKED_AT, draw

SEEDS = 6


def reports(value: float) -> list[dict[str, float]]:
    """A worse epoch, then one whose metrics all equal `value`."""
    return [dict.fromkeys((LOOKED_AT, *JUDGED_BY), it) for it in (value + 1, value)]


def test_fresh_seeds_find_that_the_single_best_was_lucky() -> None:
    lucky = {seed: reports(0.1 if seed == 0 else 1.0) for seed in range(SEEDS)}
    steady = {seed: reports(0.5) for seed in range(SEEDS)}
    bad = {seed: reports(2.0) for seed in range(SEEDS)}
    by = {0: lucky, 1: steady, 2: bad, 3: bad, 4: bad}
    found = [draw(by, trials=5, random=np.random.default_rng(seed)) for seed in range(40)]
    misled = [one for one in found if one[1, 0] == [1.0, 1.0]]  # by the lucky one
    right = [one for one in found if one not in misled]
    assert misled
    assert right
    for choice in CHOICES:
        assert all(one[choice] == [-0.5, -0.5] for one in misled)
        # If the lucky seed is among the fresh ones, two of them may still mislead.
        assert all(one[choice] == [0.0, 0.0] for one in right if choice[1] == 3)
