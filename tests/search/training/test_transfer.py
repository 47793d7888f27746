"""Studies that start from trained weights: the flag, and what is checked before they run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models import ConvNetConfig, build
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import Choice, Fixed, SpecError
from search.spec.space import arm_config
from search.training.weights import check_training, with_weights

SHAPE = (1, 8, 8)
NET = {"channels": Fixed(value=(4,)), "hidden": Fixed(value=())}


def arms_of(*sources: str) -> dict[str, Any]:
    arms = tuple(
        Arm(name=f"arm {n}", values={"initial_weights": source}) for n, source in enumerate(sources)
    )
    return {
        "dataset": "digits",
        "space": NET,
        "arms": arms,
        "base": arms[0].name,
        "trials": len(arms),
        "sampler": "grid",
        "pruner": "none",
    }


@pytest.fixture
def weights(tmp_path: Path) -> str:
    network = build(ConvNetConfig(channels=(4,), batch_norm=True), SHAPE, 3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors")


def test_the_flag_stands_in_for_every_source(weights: str) -> None:
    spec = StudySpec(**with_weights(arms_of("", "imagenet"), weights))
    assert [arm_config(spec, arm).recipe.initial_weights for arm in spec.arms] == [None, weights]
    searched = with_weights(
        {"dataset": "digits", "space": {"initial_weights": Choice(values=("a", "b"))}}, weights
    )
    assert searched["space"] == {"initial_weights": Fixed(value=weights)}


def test_the_flag_needs_a_place(weights: str) -> None:
    with pytest.raises(SpecError, match=r"has no place in this study.*such as e_transfer"):
        with_weights({"dataset": "digits", "space": NET}, weights)


def test_sources_are_checked_beforehand(weights: str, tmp_path: Path) -> None:
    check_training(StudySpec(**arms_of("", weights)), SHAPE, 10)
    with pytest.raises(SpecError, match="no weights at 'nowhere'"):
        check_training(StudySpec(**arms_of("", weights, "nowhere")), SHAPE, 10)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    searched = StudySpec(
        dataset="digits",
        space={
            **NET,
            "initial_weights": Choice(values=(weights, str(tmp_path / "other.pth"))),
        },
    )
    with pytest.raises(SpecError, match=r"conv1\.weight is 1 there and 4x1x3x3 here"):
        check_training(searched, SHAPE, 10)
