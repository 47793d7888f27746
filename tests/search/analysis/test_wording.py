from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from search.analysis.wording import (
    MOST_NAME,
    data_in_words,
    duration,
    fitted,
    grouped,
    mean_and_spread,
    percent,
    printable,
    spread,
)
from search.store.views import StudyView


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (720, "12 min"),
        (3900, "65 min"),
        (7500, "2 h 05 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers() -> None:
    assert grouped(221_950) == "221 950"
    assert percent(0.93456) == "93.46 %"
    assert percent(0.07, 0) == "7 %"


def test_several_runs_have_their_sample_deviation() -> None:
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert mean_and_spread([0.93, 0.95], 2, 100) == "94.00 ± 1.41"


def test_a_single_value_has_no_spread() -> None:
    assert spread([1.0]) is None
    assert mean_and_spread([0.2512], 4) == "0.2512"


def test_text_loses_control_characters_and_keeps_its_script() -> None:
    assert printable("naïve 靴 T-shirt") == "naïve 靴 T-shirt"
    assert printable("a\nb\x1b[2Jc\u202ed") == "a�b�[2Jc�d"


def test_the_split_is_told_as_it_was_used(make_view: Callable[..., StudyView]) -> None:
    view = make_view()
    assert data_in_words(view) == "Fashion-MNIST, 50 000 training and 10 000 validation images"
    limited = replace(view, spec=replace(view.spec, limit=2000))
    assert data_in_words(limited) == "Fashion-MNIST, 2 000 training and 10 000 validation images"


def test_long_class_names_fit_an_axis() -> None:
    assert fitted("short") == "short"
    assert len(fitted("x" * 500)) == MOST_NAME
    assert fitted("a\x1b[31m") == "a�[31m"
