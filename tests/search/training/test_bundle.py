"""A finished network on disk is read back as it was written, or one line says why not."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from data.folders.preparation import FIRST
from models import FAMILIES, MLPConfig, build, family_from_function, from_dict
from search.spec.extensions import restore_family
from search.training.bundle import CONFIG, FORMAT, Bundle, read_bundle, write_bundle
from search.training.epoch import BundleError, WeightsError
from search.training.files import WEIGHTS
from search.training.task import logits
from search.training.weights import fitting_weights


def test_it_is_read_back_and_predicts_the_same(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "new" / "folder")
    again = read_bundle(tmp_path / "new" / "folder")
    for field in dataclasses.fields(Bundle):
        mine, other = getattr(bundle, field.name), getattr(again, field.name)
        if field.name == "weights":
            assert mine.keys() == other.keys()
            assert all(torch.equal(mine[name], other[name]) for name in mine)
        else:
            assert torch.equal(mine, other) if field.name.endswith("_C") else mine == other
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    shares = again.probabilities(images)
    found_NK = logits(bundle.network(), images, bundle.mean_C, bundle.std_C)
    assert torch.equal(shares, (found_NK / 1.5).softmax(1))
    assert shares.sum(1) == pytest.approx(torch.ones(5))


def masked(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))
    network.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
    return network


def test_only_a_buffer_may_hold_infinity_and_nothing_nan(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "masked", family_from_function("masked", masked))
    network = FAMILIES["masked"].configured({})
    weights = build(network, bundle.image_shape, len(bundle.class_names)).state_dict()
    own = dataclasses.replace(bundle, architecture=network, weights=weights)
    write_bundle(own, tmp_path)
    images = torch.randint(0, 256, (5, *bundle.image_shape), dtype=torch.uint8)
    assert torch.equal(read_bundle(tmp_path).probabilities(images), own.probabilities(images))
    assert fitting_weights(own.network(), network, str(tmp_path)).keys() == weights.keys()
    for name, value, said in (
        ("mask", math.nan, "mask is not finite"),
        ("1.weight", math.inf, r"1\.weight is not finite"),
    ):
        found = weights[name].clone()
        found[0, 0] = value
        write_bundle(dataclasses.replace(own, weights={**weights, name: found}), tmp_path)
        with pytest.raises(BundleError, match=said):
            read_bundle(tmp_path)
    with pytest.raises(WeightsError, match=r"not plain finite numbers in 1\.weight"):
        fitting_weights(own.network(), network, str(tmp_path))


def edit(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        change(content)
        (folder / CONFIG).write_text(json.dumps(content))

    return damage


def flip(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def endless(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "No such file"),
        (lambda folder: (folder / WEIGHTS).unlink(), "No such file"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "cannot be used (TypeError: "),
        (flip, "does not match the SHA-256 in config.json"),
        (endless, "it is not a regular file"),
        (edit(lambda content: content.update(format=1)), "format 1"),
        (edit(lambda content: content.pop("mean")), "KeyError: 'mean'"),
        (edit(lambda content: content.update(mean=[0.1, 0.2])), "a number for each channel"),
        (edit(lambda content: content.update(image_shape="888")), "a number for each channel"),
        (edit(lambda content: content.update(class_names=3)), "TypeError"),
        (lambda folder: (folder / CONFIG).write_bytes(b"[" * 100_000), "nested too deeply"),
        (edit(lambda content: content.update(architecture={"family": "x"})), "family"),
        (edit(lambda content: content.update(preparation={"levels": 3})), "cannot be used"),
        (edit(lambda content: content["preparation"].update(fit="crop")), "fit must be one of"),
        (edit(lambda content: content["preparation"].update(levels=[3, 1])), "two rising"),
    ],
)
def test_damaged_networks_are_refused_in_one_line(
    damage: Callable[[Path], object], said: str, bundle: Bundle, tmp_path: Path
) -> None:
    write_bundle(bundle, tmp_path)
    damage(tmp_path)
    with pytest.raises(BundleError, match=re.escape(said)) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "finalize" in str(caught.value)


def test_a_network_of_a_later_version_asks_for_an_update(bundle: Bundle, tmp_path: Path) -> None:
    """Who was handed it cannot finalise it again."""
    write_bundle(bundle, tmp_path)
    edit(lambda content: content.update(format=FORMAT + 1))(tmp_path)
    with pytest.raises(
        BundleError, match=f"format {FORMAT + 1}.*; a later version made it: update"
    ):
        read_bundle(tmp_path)


def test_an_older_network_is_used_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    """Pictures are prepared as they were then, and probabilities are the network's own."""
    write_bundle(bundle, tmp_path)
    for name in ("preparation", "temperature"):
        edit(lambda content, name=name: content.pop(name))(tmp_path)  # type: ignore[misc]
    assert read_bundle(tmp_path).preparation == FIRST
    assert read_bundle(tmp_path).temperature == 1


def test_weights_of_another_network_are_refused(bundle: Bundle) -> None:
    other = dataclasses.replace(bundle, architecture=MLPConfig(hidden=(3,)))
    with pytest.raises(BundleError, match="do not fit"):
        other.network()


OF_FUNCTION = """\
from models import FAMILIES, family_from_function
from torch import nn

def build(image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, classes))

FAMILIES["mine"] = family_from_function("mine", build)
"""
OF_CLASS = """\
from dataclasses import dataclass
from models import FAMILIES, Architecture, Family
from torch import nn

@dataclass(frozen=True)
class Config(Architecture):
    pass

def build(config, image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, classes))

FAMILIES["mine"] = Family(description="own", config=Config, build=build, parameters={})
"""


def test_code_runs_only_if_all_else_is_in_order(bundle: Bundle, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"from pathlib import Path; Path({str(mark)!r}).touch()"
    for change in ({"class_names": 3}, {"preparation": {"levels": 3}}):
        write_bundle(bundle, tmp_path)
        edit(lambda content, change=change: content.update(change, code=code))(tmp_path)  # type: ignore[misc]
        with pytest.raises(BundleError, match="cannot be used"):
            read_bundle(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("code", [OF_FUNCTION, OF_CLASS])
def test_it_keeps_the_code_that_it_was_trained_with(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Also if weights fit the code of a later version."""
    monkeypatch.setitem(FAMILIES, "mine", FAMILIES["mlp"])  # to be removed again
    restore_family("mine", code)
    network = from_dict({"family": "mine"})
    weights = build(network, bundle.image_shape, len(bundle.class_names)).state_dict()
    own = dataclasses.replace(bundle, architecture=network, weights=weights)
    images = torch.randint(0, 256, (5, *bundle.image_shape), dtype=torch.uint8)
    expected = own.probabilities(images)
    later = code.replace("ReLU", "Sigmoid")
    restore_family("mine", later)
    assert torch.equal(own.probabilities(images), expected)
    restore_family("mine", later)
    write_bundle(own, tmp_path)
    restore_family("mine", later)
    assert torch.equal(read_bundle(tmp_path).probabilities(images), expected)
