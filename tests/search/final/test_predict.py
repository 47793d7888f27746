"""Pictures from anywhere, classified from Python: right, skipped or refused in a line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import DataError
from search.final.predict import bundle_folder, predict
from search.spec.domains import SpecError
from search.store.folders import FINAL, OWNER
from search.training.bundle import CONFIG, Bundle, Prediction, read_bundle, write_bundle
from search.training.epoch import BundleError


def save(path: Path, size: tuple[int, int] = (40, 30), mode: str = "L", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    deep = picture.convert("I") if mode.startswith("I") else picture
    deep.convert(mode).save(path, **options)
    return path


def test_predictions_are_the_networks(bundle: Bundle, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{'x' * n}.png") for n in range(1, 6)]
    found = predict(paths, bundle=bundle)
    assert [one.path for one in found.pictures] == paths
    assert not found.skipped
    shares = bundle.probabilities(torch.stack([one.image_CHW for one in found.pictures]))
    for one, row in zip(found.pictures, shares, strict=True):
        assert one.label == int(row.argmax())
        assert dict(one.ranking) == pytest.approx(dict(enumerate(row.tolist())))
        assert [share for _, share in one.ranking] == sorted(row.tolist(), reverse=True)


def test_many_pictures_are_classified_in_parts(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, sizes = [save(tmp_path / f"{'x' * n}.png") for n in range(1, 6)], list[int]()
    whole, plain = predict(paths, bundle=bundle).table(), Bundle.probabilities

    def counted(self: Bundle, images_NCHW: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images_NCHW))
        return plain(self, images_NCHW)

    monkeypatch.setattr(Bundle, "probabilities", counted)
    monkeypatch.setattr("search.final.predict.AT_ONCE", 2, raising=False)
    parts = predict(paths, bundle=bundle).table()
    assert sizes == [2, 2, 1]
    for one, other in zip(parts, whole, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-5)


def test_a_prediction_of_many_classes_is_small() -> None:
    shares_K = torch.linspace(0, 1, 1000).flip(0)
    one = Prediction(path=Path("x"), image_CHW=torch.empty(0), notes=(), shares_K=shares_K)
    assert one.shares_K.nbytes < 10_000
    assert (one.label, one.probability) == one.ranking[0] == (0, 1)
    tied = dataclasses.replace(one, shares_K=torch.ones(1000))
    assert (tied.label, [label for label, _ in tied.ranking]) == (0, list(range(1000)))


def test_predictions_are_shown_as_a_table(bundle: Bundle, tmp_path: Path) -> None:
    found = predict(save(tmp_path / "<x>.png"), bundle=bundle)
    [row] = found.table()
    label = f"{row['label']} {100 * row['probability']:.1f} %"
    assert repr(found).startswith(f"{tmp_path / '<x>.png'}  {label}  ")
    page = found._repr_html_()
    assert "&lt;x&gt;.png" in page
    assert label in page
    many = dataclasses.replace(found, pictures=found.pictures * 30)
    assert repr(many).splitlines()[20:] == ["... and 10 more pictures"]


def test_folders_are_searched_in_order_and_hidden_files_left_out(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name in ("b/2.png", "b/10.png", "a/z.png", ".hidden/x.png", "b/.x.png", "c.png"):
        save(tmp_path / name)
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = predict([tmp_path, tmp_path / "c.png"], bundle=bundle)
    names = [str(one.path.relative_to(tmp_path)) for one in found.pictures]
    assert names == ["c.png", "a/z.png", "b/10.png", "b/2.png", "c.png"]


@pytest.mark.parametrize(
    ("name", "size", "mode", "options"),
    [
        ("one.png", (1, 1), "L", {}),
        ("wide.png", (4000, 2), "L", {}),
        ("palette.gif", (50, 50), "P", {"transparency": 0}),
        ("float.tiff", (50, 50), "F", {}),
        ("deep.png", (50, 50), "I;16", {}),
        ("no suffix", (50, 50), "L", {"format": "PNG"}),
    ],
)
def test_odd_pictures_are_classified(
    name: str, size: tuple[int, int], mode: str, options: dict, bundle: Bundle, tmp_path: Path
) -> None:
    [prediction] = predict(save(tmp_path / name, size, mode, **options), bundle=bundle).pictures
    assert prediction.image_CHW.shape == (1, 28, 28)
    assert 0 < prediction.probability <= 1


def bad_pictures(folder: Path) -> dict[str, Path]:
    whole = save(folder / "whole.png", (200, 200)).read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "header.png").write_bytes(whole[:30])
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "folder.png").mkdir()
    return {
        **{path.stem: path for path in folder.iterdir() if path.name != "whole.png"},
        "missing": folder / "missing.png",
        "nul": folder / "a\0b.png",
        "below a file": folder / "whole.png" / "x.png",
        "too long": folder / ("x" * 5000),
        "device": Path("/dev/null"),
    }


def test_bad_pictures_end_in_a_line_or_are_skipped_in_a_folder(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name, path in bad_pictures(tmp_path).items():
        with pytest.raises(DataError) as caught:
            predict(path, bundle=bundle)
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) > 30
    found = predict(tmp_path, bundle=bundle)
    assert [one.path.name for one in found.pictures] == ["whole.png"]
    assert {"truncated.png", "empty.png", "bomb.png", "pipe.png", "text.png"} <= {
        one.path.name for one in found.skipped if one.reason
    }


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/blobs/final with an untrained network, drawn/ with pictures, as current directory."""
    monkeypatch.chdir(tmp_path)
    bundle = dataclasses.replace(bundle, class_names=("a", "b", "c", "d"))
    write_bundle(bundle, Path("runs/blobs/final"))
    save(Path("drawn/a.png"))
    save(Path("drawn/b.png"), mode="RGB")
    Path("drawn/notes.txt").write_text("no picture")
    return Path("runs/blobs/final")


def test_every_way_to_name_a_network(folder: Path) -> None:
    found = predict(["drawn/a.png", Path("drawn/b.png")], bundle=folder)
    expected = found.table()
    assert predict("drawn", bundle=str(folder)).table() == expected
    assert predict(Path("drawn"), bundle=read_bundle(folder)).table() == expected
    assert predict(["drawn"], study="blobs").table() == expected
    assert predict("drawn").table() == expected
    for row in found.table(top=10):
        assert sum(one["probability"] for one in row["top"]) == pytest.approx(1, abs=1e-5)
        assert (row["label"], row["probability"]) == tuple(row["top"][0].values())
    assert len(expected[0]["top"]) == 3


def test_the_contact_sheet_is_written_only_on_request(folder: Path) -> None:
    predict("drawn")
    assert not list(folder.glob("*.png"))
    predict("drawn", sheet="seen.png")
    with Image.open("seen.png") as sheet:
        assert sheet.width > 100


def test_without_a_name_the_latest_network_is_taken(folder: Path) -> None:
    for name in ("older", "oldest"):
        shutil.copytree(folder, f"runs/{name}/final")
        os.utime(f"runs/{name}/final/config.json", (1000, 1000))
    assert bundle_folder() == folder


def mark(folder: Path, study: str = "blobs", database: str = "sqlite:///studies.db") -> None:
    """Say whose the folder is, as a study does."""
    text = json.dumps({"study": study, "identity": folder.name, "database": database})
    (folder / OWNER).write_text(text)


def test_a_studys_network_is_found_by_whose_folder_it_is(folder: Path) -> None:
    usual, other, moved = folder.parent, Path("runs/blobs-2"), Path("runs/mine")
    assert bundle_folder(study="blobs") == folder  # an earlier version wrote no mark
    shutil.copytree(usual, other)
    mark(other)
    mark(usual, "other")
    assert bundle_folder(study="blobs") == other / FINAL
    assert bundle_folder(study="other") == folder
    other.rename(moved)
    assert bundle_folder(study="blobs") == moved / FINAL
    for damage in (b"{", b"[]", b'{"study": 7}'):
        (usual / OWNER).write_bytes(damage)
        assert bundle_folder(study="blobs") == moved / FINAL


def test_of_several_networks_that_of_the_default_database_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, other = folder.parent, Path("runs/blobs-2")
    shutil.copytree(usual, other)
    mark(usual, database="sqlite:///a.db")
    mark(other, database=f"sqlite:///{tmp_path}/b.db")
    several = r"several networks of study 'blobs': runs/blobs/final, .*blobs-2/final; .*--bundle"
    for unknown in ("sqlite:///c.db", "?"):
        with pytest.raises(BundleError, match=several):
            bundle_folder(study="blobs", storage=unknown)
    mark(other, database="sqlite:///\0")
    with pytest.raises(BundleError, match=several):
        bundle_folder(study="blobs")
    mark(other, database=f"sqlite:///{tmp_path}/b.db")
    for name, found in (("a", usual), ("b", other)):
        assert bundle_folder(study="blobs", storage=f"sqlite:///{name}.db") == found / FINAL
        monkeypatch.setenv("SEARCH_STORAGE", f"sqlite:///{tmp_path}/{name}.db")
        assert bundle_folder(study="blobs") == found / FINAL
    (other / FINAL / CONFIG).unlink()  # another study's network is no substitute
    with pytest.raises(BundleError, match="no finished network of study 'blobs' under"):
        bundle_folder(study="blobs")
    mark(usual, database=f"sqlite:///{tmp_path}/b.db")  # a deleted study of this database
    write_bundle(read_bundle(folder), other / FINAL)
    with pytest.raises(BundleError, match=several):
        bundle_folder(study="blobs")


@pytest.mark.usefixtures("folder")
def test_bad_arguments() -> None:
    with pytest.raises(BundleError, match="no finished network"):
        predict("drawn", runs_dir="nowhere")
    with pytest.raises(BundleError, match="no finished network of study 'gone' under"):
        predict("drawn", study="gone")
    with pytest.raises(BundleError, match=r"name it \.png"):
        predict("drawn", sheet="sheet.jpg")
    with pytest.raises(BundleError):
        predict("drawn", bundle="nowhere")
    with pytest.raises(SpecError, match="not usable"):
        predict("drawn", study="../digits")
    with pytest.raises(SpecError, match="either a bundle or a study"):
        predict("drawn", bundle="runs/blobs/final", study="blobs")
    with pytest.raises(DataError, match="pictures are files and folders, but got <PIL"):
        predict(Image.new("L", (8, 8)))  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"bundle must be a folder .*, but got 3"):
        predict("drawn", bundle=3)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="top must be a whole number"):
        predict("drawn").table(top=0)
    with pytest.raises(DataError, match="no picture to classify"):
        predict("runs")
