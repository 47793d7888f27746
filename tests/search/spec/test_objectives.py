"""What a trial's value is: chosen in a study file, kept with the study."""

from pathlib import Path

import pytest

from search.spec.config import StudySpec
from search.spec.objectives import OBJECTIVES
from search.spec.study_file import read_study_file
from search.training.epoch import Epoch

EPOCH = Epoch(
    epoch=1,
    train_loss=0.5,
    train_error=0.2,
    validation_loss=0.4,
    validation_error=0.1,
    learning_rate=1e-3,
    seconds=1.0,
    images=100,
    metrics={"calibrated_loss": 0.3, "temperature": 1.5},
)


def test_each_is_read_from_an_epoch_and_described() -> None:
    values = {name: objective.of(EPOCH) for name, objective in OBJECTIVES.items()}
    assert values == {
        "calibrated_validation_loss": 0.3,
        "validation_loss": 0.4,
        "validation_error": 0.1,
    }
    assert all(it.description and it.label for it in OBJECTIVES.values())


def test_a_study_file_chooses_it(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('[study]\ndataset = "digits"\nobjective = "validation_error"\n')
    spec = StudySpec(**read_study_file(file))
    assert spec.value.label == "validation error"
    file.write_text('[study]\nobjective = "accuracy"\n')
    with pytest.raises(ValueError, match="objective must be one of calibrated_validation_loss, "):
        read_study_file(file)


def test_new_studies_are_calibrated_and_older_ones_keep_the_raw_loss() -> None:
    stored = StudySpec(dataset="digits").to_dict()
    assert stored.pop("objective") == "calibrated_validation_loss"
    assert StudySpec.from_dict(stored).objective == "validation_loss"
