"""Folders of images whose classes have names that break things elsewhere."""

from __future__ import annotations

from pathlib import Path

from data.errors import DataError
from data.folders.layout import read_layout


def test_class_names_are_kept_as_they_are_or_refused(
    tmp_path: Path, hostile_names: tuple[str, ...]
) -> None:
    kept, refusals = [], []
    for number, name in enumerate(hostile_names):
        root = tmp_path / str(number)
        for one in ("plain", name):
            if one != Path(one).name or one == "..":
                break  # no single folder can have that name
            try:
                (root / "train" / one).mkdir(parents=True)
            except (OSError, ValueError):
                break  # nor this system's
            for image in range(5):
                (root / "train" / one / f"{image}.png").touch()
        else:
            try:
                layout = read_layout(root, tmp_path / "data")
            except DataError as error:
                refusals.append(str(error))
            else:
                assert set(layout.class_names) == {"plain", name}
                kept.append(name)
    assert "<img src=x onerror=alert(1)>" in kept
    assert all(refusal.isprintable() for refusal in refusals)
    assert all("\n" not in name and "\x1b" not in name for name in kept)
