from __future__ import annotations

import pytest

from search.figures.style import COLOURS, GREY

DARK_GROUND = "#14171C"  # --ground of pages/templates/style.css


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#FFFFFF", DARK_GROUND])
@pytest.mark.parametrize("colour", [*COLOURS, GREY])
def test_colours_stand_out_on_both_grounds(colour: str, ground: str) -> None:
    low, high = sorted(map(luminance, (colour, ground)))
    assert (high + 0.05) / (low + 0.05) >= 3
