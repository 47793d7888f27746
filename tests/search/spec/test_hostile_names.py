"""Names in a study's making: refused, or one printable line."""

from __future__ import annotations

from search.spec.arms import Arm
from search.spec.config import check_study_name, study_name_for
from search.spec.domains import SpecError


def test_a_study_that_nobody_named_has_a_name_that_can_be_a_folder(
    hostile_names: tuple[str, ...],
) -> None:
    for name in hostile_names:
        check_study_name(study_name_for(f"folder:{name}"))
        check_study_name(study_name_for(f"folder:photos/{name}/"))


def test_arms_are_named_on_one_printable_line(hostile_names: tuple[str, ...]) -> None:
    named, refusals = [], []
    for name in hostile_names:
        try:
            named.append(Arm(name=name).name)
        except SpecError as error:
            refusals.append(str(error))
    assert named
    assert not any("\n" in refusal for refusal in refusals)
    assert all(name.isprintable() and 0 < len(name) <= 200 for name in named)
