"""Arms and journals as people write them; mistakes with key and line."""

from pathlib import Path

import pytest

from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.journal import Expectation
from search.spec.space import arm_config
from search.spec.study_file import StudyFileError, read_study_file

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


ARMS = '[[arm]]\nname = "a"\n\n[[arm]]\nname = "b"\n'
ENTRY = '\n[[journal]]\nobjective = "o"\nhypothesis = "h"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arm = 3\n", "[[arm]]"),
        ("arm = []\n", "nothing to compare"),
        ("[[arm]]\ndropout = 0.1\n", '[[arm]] 1: [[arm]] needs name = "..."'),
        ('[[arm]]\nname = "a\\u001b"\n', "line of printable text"),
        (f"{ARMS}\n[[arm]]\nname = 'a'\n", "two arms are called 'a'"),
        (f"{ARMS}dropuot = 0.1\n", "[[arm]] 2: unknown parameter 'dropuot'"),
        (f"{ARMS}dropout = [0.1, 0.2]\n", "one value"),
        (f"{ARMS}reported = 0.9\n", "table of metrics"),
        (f"{ARMS}reported = {{ accuracy = 0.9 }}\n", "'accuracy'"),
        (f"{ARMS}reported = {{ validation_accuracy = 91.5 }}\n", "91.5"),
        (f"[space]\npadding = [2, 0]\n{ARMS}", "[[1, 2]]"),
        (f"[study]\ntrials = 3\n{ARMS}", "repeats"),
        (f"[study]\nbase = 'c'\n{ARMS}", "there are: a, b"),
        (f"[study]\nrepeats = 0\n{ARMS}", "1 to 1000"),
        (f"[study]\nsampler = 'tpe'\n{ARMS}", "no sampler"),
        (f"[baseline]\ndropout = 0.1\n{ARMS}", "[[arm]]"),
        ("[study]\nsampler = 'grid'\n", "needs [[arm]] tables"),
        ("[journal]\nobjective = 'o'\n", "[[journal]]"),
        (f"{ARMS}{ENTRY}result = 'r'\n", "'result'"),
        (f"{ARMS}\n[[journal]]\nobjective = 'o'\n", "[[journal]] 1: [[journal]] needs hypothesis"),
        (f"{ARMS}{ENTRY}methodology = 3\n", "printable text"),
        (f"{ARMS}{ENTRY}expect = 'better'\n", "a list of"),
        (f"{ARMS}{ENTRY}expect = [ {{ arm = 'a', than = 'b' }} ]\n", "metric must be"),
        (f"{ARMS}{ENTRY}expect = [ {{ who = 'a' }} ]\n", "'who'"),
    ],
)
def test_a_mistake_is_named_with_its_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises((StudyFileError, SpecError)) as caught:
        spec_of(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert isinstance(caught.value, SpecError) or "mine.toml: " in message
