"""Digits as a person would draw them, of many sizes and shades, into a folder.

    python tests/search/draw_digits.py FOLDER

writes ten digits in each of the styles below: `<digit>-<style>.png`.
"""

import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * step / 24) for step in range(25)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


# Strokes in a box of 1 x 1, y downwards.
STROKES: dict[int, list[list[Point]]] = {
    0: [arc(0.5, 0.5, 0.3, 0.46, -90, 270)],
    1: [[(0.35, 0.2), (0.52, 0.04), (0.52, 0.96)]],
    2: [[*arc(0.5, 0.3, 0.28, 0.26, -170, 40), (0.2, 0.95), (0.82, 0.95)]],
    3: [[*arc(0.45, 0.27, 0.27, 0.23, -150, 90), *arc(0.45, 0.73, 0.31, 0.24, -90, 150)]],
    4: [[(0.6, 0.04), (0.18, 0.62), (0.86, 0.62)], [(0.64, 0.35), (0.64, 0.97)]],
    5: [[(0.78, 0.05), (0.3, 0.05), (0.26, 0.43), *arc(0.47, 0.67, 0.3, 0.28, -120, 140)]],
    6: [[(0.66, 0.04), (0.36, 0.4), *arc(0.5, 0.69, 0.26, 0.27, 190, 540)]],
    7: [[(0.18, 0.06), (0.82, 0.06), (0.42, 0.96)]],
    8: [arc(0.5, 0.27, 0.22, 0.22, 90, 450), arc(0.5, 0.73, 0.28, 0.24, -90, 270)],
    9: [[*arc(0.52, 0.3, 0.25, 0.25, 0, 360), (0.76, 0.4), (0.66, 0.96)]],
}

# (width, height), pen as a share of the digit, ground, ink, the box's place: left, top, side
STYLES: dict[str, tuple[tuple[int, int], float, int, int, tuple[float, float, float]]] = {
    "paper": ((400, 400), 0.11, 255, 0, (0.2, 0.2, 0.6)),
    "chalk": ((280, 280), 0.11, 0, 255, (0.2, 0.2, 0.6)),
    "corner": ((640, 480), 0.1, 235, 40, (0.05, 0.05, 0.4)),
    "thin": ((900, 900), 0.04, 255, 20, (0.3, 0.25, 0.5)),
    "tiny": ((28, 28), 0.12, 255, 0, (0.15, 0.15, 0.7)),
    "wide": ((1000, 200), 0.12, 30, 220, (0.7, 0.1, 0.15)),
}


def draw(digit: int, style: str) -> Image.Image:
    """A grey picture, with a little noise as of a camera; the same at every call."""
    (width, height), pen, ground, ink, (left, top, side) = STYLES[style]
    zoom = 4 if width < 100 else 1  # drawn large and shrunk: smooth edges
    picture = Image.new("L", (zoom * width, zoom * height), ground)
    pencil = ImageDraw.Draw(picture)
    size = side * width * zoom
    thick = max(1, round(pen * size))
    for stroke in STROKES[digit]:
        points = [
            (left * width * zoom + x * size, top * height * zoom + y * size) for x, y in stroke
        ]
        pencil.line(points, fill=ink, width=thick, joint="curve")
        for x, y in (points[0], points[-1]):
            pencil.ellipse([x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2], fill=ink)
    small = picture.resize((width, height), Image.Resampling.BOX)
    if style in ("corner", "wide"):
        noise = random.Random(digit)
        grains = bytes(min(255, max(0, level + noise.randint(-8, 8))) for level in small.tobytes())
        small = Image.frombytes("L", small.size, grains).filter(ImageFilter.GaussianBlur(1))
    return small


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for style in STYLES:
        for digit in STROKES:
            draw(digit, style).save(folder / f"{digit}-{style}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
