"""Comparisons in study files: arms and journals, which trial trains what, what counts."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial

from search.sampling.sampler import StudySampler
from search.spec.arms import Arm, Expectation
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.space import make_config, suggest
from search.spec.study_file import StudyFileError, write_study_file
from tests.search.spec.reading import read

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


def test_a_whole_comparison(tmp_path: Path) -> None:
    spec = read(tmp_path / "mine.toml", WHOLE)
    assert [arm.name for arm in spec.arms] == ["some", "none", "much"]  # the base comes first
    assert (spec.repeats, spec.trials) == (2, 6)
    assert (spec.sampler, spec.pruner, spec.source) == ("grid", "none", "A report")
    assert spec.arms[0].values == {"dropout": 0.2, "padding": (1, 1)}
    assert spec.arms[1].reported == {"validation_loss": 0.2383, "parameters": 221_950}
    assert spec.published == {"epochs": 3, "repeats": 2}
    assert make_config(spec.arms[1].values, spec).architecture.padding == (2, 0)  # type: ignore[union-attr]
    (entry,) = spec.journal
    assert entry.objective == "Find out."
    assert entry.expect[0] == Expectation(
        arm="some", than="none", metric="validation_loss", outcome="better"
    )
    assert entry.expect[1].margin == 1
    stored = json.loads(json.dumps(spec.to_dict()))
    assert StudySpec.from_dict(stored) == spec
    assert StudySpec.from_dict({**stored, "base": "some"}) == spec  # as an earlier version wrote it


ARMS = '[[arm]]\nname = "a"\n\n[[arm]]\nname = "b"\n'
ENTRY = f'{ARMS}\n[[journal]]\nobjective = "o"\nhypothesis = "h"\n'
EXPECT = f'{ENTRY}expect = [ {{ arm = "a", than = "b", metric = "parameters", '


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arm = 3\n", "[[arm]]"),
        ("arm = []\n", "nothing to compare"),
        ('[[arm]]\nname = "a\\u001b"\n', "line of printable text"),
        (f"{ARMS}\n[[arm]]\nname = 'a'\n", "two arms are called 'a'"),
        (f"{ARMS}dropuot = 0.1\n", "[[arm]] 2: unknown parameter 'dropuot'; did you mean 'drop"),
        (f"{ARMS}dropout = [0.1, 0.2]\n", "one value"),
        (f"{ARMS}reported = {{ accuracy = 0.9 }}\n", "'accuracy'"),
        (f"{ARMS}reported = {{ validation_accuracy = 91.5 }}\n", "91.5"),
        (f"[space]\npadding = [2, 0]\n{ARMS}", "[[1, 2]]"),
        (f"[study]\ntrials = 3\n{ARMS}", "leave trials = 3 out"),
        (f"[study]\nbase = 'c'\n{ARMS}", "there are: a, b"),
        (f"[baseline]\ndropout = 0.1\n{ARMS}", "[[arm]]"),
        ("[study]\nsampler = 'grid'\n", "needs [[arm]] tables"),
        ("[study]\nbase = 'a'\n", "base is the name of an arm"),
        (f"{ENTRY}result = 'r'\n", "'result'"),
        (f"{ARMS}\n[[journal]]\nobjective = 'o'\n", "[[journal]] 1: hypothesis is missing"),
        (f"{ARMS}\n[[journal]]\nhypothesis = 'h'\n", "[[journal]] 1: objective is missing"),
        (f"{ARMS}\n[[arm]]\ndropout = 0.1\n", "[[arm]] 3: name is missing; give a line of"),
        (f"{ENTRY}expect = 'better'\n", "a list of"),
        (f"{ENTRY}expect = [ {{ who = 'a' }} ]\n", "'who'"),
        (
            f"{ENTRY}expect = [ {{ arm = 'a', than = 'b', is = 'better' }} ]\n",
            "[[journal]] 1: an entry of expect lacks 'metric', which must be one of calibrated",
        ),
        (f"{EXPECT}is = 'no different' }} ]\n", "needs a margin above 0"),
        (f"{EXPECT}is = 'better', margin = 0.1 }} ]\n", "needs a margin above 0"),
        (
            f"{EXPECT}is = 'no different', margin = 1 }} ]".replace(
                "parameters", "validation_accuracy"
            ),
            "margin = 1 of validation_accuracy is 100 points or more; 0.01 is one point",
        ),
        (f"{EXPECT}is = 'better' }} ]\n".replace('"b", m', '"a", m'), "than must be another arm"),
        (f"{EXPECT}is = 'better' }} ]\n".replace('"b", m', '"c", m'), "'c'; there are: a, b"),
    ],
)
def test_a_mistake_is_named_with_its_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises((StudyFileError, SpecError)) as caught:
        read(tmp_path / "mine.toml", text)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert isinstance(caught.value, SpecError) or "mine.toml: " in message


def test_unknown_details_of_a_published_experiment_stay_unknown(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    spec = read(file, f"{ARMS}reported = {{ validation_loss = 0.2 }}\n")
    assert spec.published == {}
    assert read(file, write_study_file(spec)) == spec


def comparison(repeats: int = 2) -> StudySpec:
    arms = (
        Arm(name="plain"),
        Arm(name="dropout", values={"dropout": 0.5, "hidden": (8,)}),
        Arm(name="plain again"),
    )
    space = {"depth": 1, "width": 4, "hidden": (), "batch_norm": False}
    return StudySpec(dataset="digits", space=space, arms=arms, repeats=repeats)


def test_arms_take_turns_and_share_their_seeds_and_the_total_follows_the_repeats() -> None:
    spec, search = comparison(), StudySpec(dataset="digits")
    places = [spec.place_of(number) for number in range(spec.trials)]
    names = ("plain", "dropout", "plain again")
    expected = [(name, repeat) for repeat in range(2) for name in names]
    assert [(arm.name, repeat) for arm, repeat in places] == expected
    assert [spec.seed_number(number) for number in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [search.seed_number(number) for number in range(4)] == [0, 1, 2, 3]
    assert spec.with_total(15) == comparison(repeats=5)
    with pytest.raises(SpecError, match="trials"):
        spec.with_total(7)
    assert search.with_total(7).trials == 7


def test_live_stored_and_fixed_trials_give_the_arms_configuration() -> None:
    spec = comparison()
    study = optuna.create_study()
    for number in range(spec.trials):
        study.sampler = StudySampler(spec, None)  # as after a restart
        trial = study.ask()
        live = suggest(trial, spec)
        arm, repeat = spec.place_of(number)
        assert trial.params == {"arm": arm.name, "repeat": repeat}
        study.tell(trial, 1.0)
        assert suggest(study.trials[-1], comparison(repeats=9)) == live  # raised since
        assert suggest(FixedTrial(trial.params), spec) == live
    plain, dropout = (suggest(study.trials[n], spec).architecture for n in (0, 1))
    assert plain.hidden == ()
    assert dropout.hidden == (8,)
