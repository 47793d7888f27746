"""The ready-made study files: all can be run, and the networks are those of the reports."""

from pathlib import Path

import pytest

from models.summary import count_parameters
from search.analysis.wording import size_in_words
from search.sampling.limits import limits_of
from search.spec.config import StudySpec
from search.spec.space import check_space, make_config
from search.spec.study_file import (
    find_study_file,
    ready_made,
    write_study_file,
)
from search.study import listing
from tests.search.spec.reading import read

SHAPES = {
    "fashion_mnist": ((1, 28, 28), 10),
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100_coarse": ((3, 32, 32), 20),
}


@pytest.mark.parametrize("file", ready_made(), ids=lambda file: file.stem)
def test_a_file_can_be_run_and_written_again(file: Path, tmp_path: Path) -> None:
    spec = read(file, dataset="fashion_mnist")
    check_space(spec, *SHAPES[spec.dataset])
    assert StudySpec.from_dict(spec.to_dict()) == spec
    assert spec.title
    assert len(spec.title) <= 85
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert read(tmp_path / "again.toml", write_study_file(spec)) == spec


@pytest.mark.parametrize(
    ("name", "arm", "count"),
    [
        ("a1_architectures", "16", 335_774),
        ("a1_architectures", "16, 32", 111_934),
        ("a1_architectures", "32, 64 (baseline)", 221_950),
        ("a6_final", "final", 221_950),
        ("b_depth", "3 layers", 314_250),
        ("b_depth", "3 layers, batch norm", 315_018),
        ("d_lenet", "LeNet", 61_706),
        ("e_convnets", "three convolutions", 390_410),
    ],
)
def test_networks_have_the_size_that_their_report_gives(name: str, arm: str, count: int) -> None:
    spec = read(find_study_file(name))
    values = next(each.values for each in spec.arms if each.name == arm)
    assert count_parameters(make_config(values, spec).architecture, *SHAPES[spec.dataset]) == count


def test_the_list_has_a_line_for_each_study() -> None:
    lines = listing().splitlines()
    assert [line.split()[0] for line in lines] == [file.stem for file in ready_made()]
    assert lines[0].startswith("default ")
    (dropout,) = (line for line in lines if line.startswith("a4_dropout"))
    assert "Dropout in the linear part: 4 arms x 3 repeats of up to 100 epochs" in dropout
    least = StudySpec(dataset="digits", trials=1, epochs=1, limit=500)
    assert size_in_words(least) == "1 trial of up to 1 epoch on 500 images"


def test_enough_networks_of_the_small_study_fit_its_limit() -> None:
    limits = limits_of(read(find_study_file("small")), *SHAPES["fashion_mnist"])
    assert limits is not None
    assert int(limits.check({}).partition(" of 100 ")[0]) >= 30
