"""Arms, grids and journals as people write them; mistakes with key and line."""

from pathlib import Path

import pytest

from search.spec.config import StudySpec
from search.spec.domains import Choice, Fixed, SpecError
from search.spec.journal import Expectation
from search.spec.space import arm_config, check_space
from search.spec.study_file import StudyFileError, located, read_study_file

WHOLE = """\
[study]
title = "Dropout"
source = "A report"
epochs = 3
repeats = 2
base = "some"

[space]
channels = [32, 64]
padding = [[2, 0]]

[[arm]]
name = "none"
reported = { validation_loss = 0.2383, parameters = 221_950 }

[[arm]]
name = "some"
dropout = 0.2
padding = [1, 1]
[arm.reported]
validation_accuracy = 0.924

[[arm]]
name = "much"
dropout = 0.5

[[journal]]
objective = \"""
Find
  out.\"""
hypothesis = "Some is better."
expect = [ { arm = "some", than = "none", metric = "validation_loss", is = "better" },
           { arm = "much", than = "none", metric = "parameters", is = "no different", margin = 1 } ]
"""


def spec_of(folder: Path, text: str) -> StudySpec:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return StudySpec(**{"dataset": "digits", **read_study_file(file)})


def test_a_whole_comparison(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, WHOLE)
    assert [arm.name for arm in spec.arms] == ["some", "none", "much"]  # the base comes first
    assert (spec.base, spec.repeats, spec.trials) == ("some", 2, 6)
    assert (spec.sampler, spec.pruner, spec.source) == ("grid", "none", "A report")
    assert spec.arms[0].values == {"dropout": 0.2, "padding": (1, 1)}
    assert spec.arms[0].reported == {"validation_accuracy": 0.924}
    assert spec.arms[1].reported == {"validation_loss": 0.2383, "parameters": 221_950}
    assert arm_config(spec, spec.arms[1]).architecture.padding == (2, 0)  # type: ignore[union-attr]
    (entry,) = spec.journal
    assert entry.objective == "Find out."
    assert entry.expect[0] == Expectation(
        arm="some", than="none", metric="validation_loss", outcome="better"
    )
    assert entry.expect[1].margin == 1


def test_a_grid_has_an_arm_for_each_combination(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        """\
        [study]
        sampler = "grid"
        repeats = 2
        [space]
        learning_rate = [0.01, 1e-3]
        hidden = [[], [120, 84]]
        batch_norm = [true, false]
        padding = [[2, 2, 2]]
        depth = 3
        """,
    )
    assert [arm.name for arm in spec.arms][:3] == [
        "learning_rate 0.01, hidden none, batch_norm true",
        "learning_rate 0.01, hidden none, batch_norm false",
        "learning_rate 0.01, hidden 120-84, batch_norm true",
    ]
    assert (len(spec.arms), spec.trials) == (8, 16)
    assert spec.space == {"padding": Choice(values=((2, 2, 2),)), "depth": Fixed(value=3)}
    assert spec.arms[-1].values == {
        "learning_rate": 1e-3,
        "hidden": (120, 84),
        "batch_norm": False,
    }
    check_space(spec, (1, 8, 8), 10)


ARMS = '[[arm]]\nname = "a"\n\n[[arm]]\nname = "b"\n'  # 5 lines
ENTRY = '\n[[journal]]\nobjective = "o"\nhypothesis = "h"\n'  # lines 6 to 9


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("arm = 3\n", 1, "[[arm]]"),
        ("arm = []\n", 1, "nothing to compare"),
        ("[[arm]]\ndropout = 0.1\n", 1, 'needs name = "..."'),
        ('[[arm]]\nname = "a\\u001b"\n', 2, "line of printable text"),
        (f"{ARMS}\n[[arm]]\nname = 'a'\n", 8, "two arms are called 'a'"),
        (f"{ARMS}dropuot = 0.1\n", 6, "'dropuot'"),
        (f"[space]\ndropout = 0.1\n{ARMS}dropout = 'much'\n", 8, "a number"),
        (f"{ARMS}dropout = [0.1, 0.2]\n", 6, "one value"),
        (f"{ARMS}dropout = {{ low = 0.1, high = 0.2 }}\n", 6, "one value"),
        (f"{ARMS}reported = 0.9\n", 6, "table of metrics"),
        (f"{ARMS}reported = {{ accuracy = 0.9 }}\n", 6, "'accuracy'"),
        (f"{ARMS}[arm.reported]\nvalidation_accuracy = 91.5\n", 6, "[0, 1]"),
        (f"[space]\ndropout = [0.1, 0.2]\n{ARMS}", 2, "base configuration"),
        (f"[space]\npadding = [2, 0]\n{ARMS}", 2, "[[1, 2]]"),
        (f"[study]\ntrials = 3\n{ARMS}", 2, "repeats"),
        (f"[study]\nbase = 'c'\n{ARMS}", 2, "there are: a, b"),
        (f"[study]\nrepeats = 0\n{ARMS}", 2, "1 to 1000"),
        (f"[study]\nrepeats = 'two'\n{ARMS}", 2, "whole number"),
        (f"[study]\nsampler = 'tpe'\n{ARMS}", 2, "no sampler"),
        (f"[baseline]\ndropout = 0.1\n{ARMS}", 1, "[[arm]]"),
        ("[study]\nsampler = 'grid'\n", 2, "lists in [space]"),
        ("[study]\nsampler = 'grid'\n[space]\nwidth = { low = 1, high = 3 }\n", 4, "no ranges"),
        (f"[study]\nsampler = 'grid'\n[space]\nwidth = {list(range(1, 300))}\n", 2, "299"),
        ("[study]\nsource = 'a\\nb'\n".replace("'", '"'), 2, "one line"),
        ("[journal]\nobjective = 'o'\n", 1, "[[journal]]"),
        (f"{ARMS}{ENTRY}result = 'r'\n", 10, "'result'"),
        (f"{ARMS}\n[[journal]]\nobjective = 'o'\n", 7, "needs hypothesis"),
        (f"{ARMS}{ENTRY}methodology = 3\n", 10, "printable text"),
        (f"{ARMS}{ENTRY}expect = 'better'\n", 10, "a list of"),
        (f"{ARMS}{ENTRY}expect = [ {{ arm = 'a', than = 'b' }} ]\n", 10, "metric must be"),
        (f"{ARMS}{ENTRY}expect = [ {{ who = 'a' }} ]\n", 10, "'who'"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises((StudyFileError, SpecError)) as caught:
        spec_of(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    if isinstance(caught.value, SpecError):  # of fields that do not go together
        assert located(tmp_path / "mine.toml", caught.value).endswith(f"mine.toml:{line}")
    else:
        assert f"mine.toml:{line}: " in message


def test_the_line_of_an_arm_that_does_not_fit(tmp_path: Path) -> None:
    text = f"[space]\nchannels = [8, 8]\n{ARMS}dropout = 0.5\nkernel_sizes = [3, 5, 3]\n"
    with pytest.raises(SpecError) as caught:
        check_space(spec_of(tmp_path, text), (1, 8, 8), 10)
    assert located(tmp_path / "mine.toml", caught.value).endswith("mine.toml:9")
