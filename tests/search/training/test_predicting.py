"""Pictures from anywhere: classified, skipped or refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import DataError
from search.final.predict import classify, find_pictures
from search.training.bundle import Bundle


def save(path: Path, size: tuple[int, int] = (40, 30), mode: str = "L", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    deep = picture.convert("I") if mode.startswith("I") else picture
    deep.convert(mode).save(path, **options)
    return path


def test_folders_are_searched_in_order_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a/z.png", ".hidden/x.png", "b/.x.png", "c.png"):
        save(tmp_path / name)
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = list(find_pictures([tmp_path, tmp_path / "c.png"]))
    names = [(str(path.relative_to(tmp_path)), named) for path, named in found]
    assert names == [
        ("c.png", False),
        ("a/z.png", False),
        ("b/10.png", False),
        ("b/2.png", False),
        ("c.png", True),
    ]


def test_predictions_are_the_networks(bundle: Bundle, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{'x' * n}.png") for n in range(1, 6)]
    predictions, skipped = classify(bundle, paths)
    assert [one.path for one in predictions] == paths
    assert not skipped
    images = torch.stack([one.image_CHW for one in predictions])
    shares = bundle.probabilities(images)
    for one, row in zip(predictions, shares, strict=True):
        assert one.label == int(row.argmax())
        assert dict(one.ranking) == pytest.approx(dict(enumerate(row.tolist())))
        assert [share for _, share in one.ranking] == sorted(row.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("name", "size", "mode", "options"),
    [
        ("one.png", (1, 1), "L", {}),
        ("wide.png", (4000, 2), "L", {}),
        ("tall.png", (1, 4000), "RGB", {}),
        ("cmyk.jpg", (50, 50), "CMYK", {}),
        ("palette.png", (50, 50), "P", {}),
        ("palette.gif", (50, 50), "P", {"transparency": 0}),
        ("bits.png", (50, 50), "1", {}),
        ("alpha.png", (50, 50), "RGBA", {}),
        ("la.png", (50, 50), "LA", {}),
        ("float.tiff", (50, 50), "F", {}),
        ("int.tiff", (50, 50), "I", {}),
        ("deep.png", (50, 50), "I;16", {}),
        ("image.webp", (50, 50), "RGB", {}),
        ("no suffix", (50, 50), "L", {"format": "PNG"}),
        ("wrong.jpg", (50, 50), "L", {"format": "PNG"}),
    ],
)
def test_odd_pictures_are_classified(
    name: str,
    size: tuple[int, int],
    mode: str,
    options: dict[str, object],
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    path = save(tmp_path / name, size, mode, **options)
    (prediction,), _ = classify(bundle, [path])
    assert prediction.image_CHW.shape == (1, 28, 28)
    assert 0 < prediction.probability <= 1


def test_animations_show_their_first_frame(bundle: Bundle, tmp_path: Path) -> None:
    frames = [Image.new("L", (28, 28), shade) for shade in (0, 128, 255)]
    for frame in frames:
        frame.paste(255 - frame.getpixel((0, 0)), (10, 5, 14, 25))  # type: ignore[operator]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "first.png")
    (animated, first), _ = classify(bundle, [tmp_path / "a.gif", tmp_path / "first.png"])
    assert torch.equal(animated.image_CHW, first.image_CHW)
    assert "first of its frames" in animated.notes


def bad_pictures(folder: Path) -> dict[str, Path]:
    whole = save(folder / "whole.png", (200, 200)).read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "header.png").write_bytes(whole[:30])
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    (folder / "flipped.png").write_bytes(damaged)
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "folder.png").mkdir()
    (folder / "unread.png").write_bytes(whole)
    (folder / "unread.png").chmod(0)
    return {
        **{path.stem: path for path in folder.iterdir() if path.name != "whole.png"},
        "missing": folder / "missing.png",
        "nul": folder / "a\0b.png",
        "below a file": folder / "whole.png" / "x.png",
        "too long": folder / ("x" * 5000),
        "device": Path("/dev/null"),
    }


def test_bad_pictures_end_in_a_line(bundle: Bundle, tmp_path: Path) -> None:
    bad = bad_pictures(tmp_path)
    if os.geteuid() == 0:
        del bad["unread"]  # root reads everything
    assert len(bad) >= 15
    for name, path in bad.items():
        with pytest.raises(DataError) as caught:
            classify(bundle, [path])
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) > 30


def test_in_a_folder_they_are_skipped_and_said(bundle: Bundle, tmp_path: Path) -> None:
    bad_pictures(tmp_path)
    predictions, skipped = classify(bundle, [tmp_path])
    readable = {"whole.png"} | ({"unread.png"} if os.geteuid() == 0 else set())
    assert {one.path.name for one in predictions} == readable
    assert {"truncated.png", "empty.png", "bomb.png", "pipe.png", "text.png"} <= {
        one.path.name for one in skipped
    }
    assert all(one.reason for one in skipped)


def test_nothing_to_classify_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no picture to classify"):
        classify(bundle, [tmp_path])
