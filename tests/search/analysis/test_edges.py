"""Winners at an edge of the space, reported if chance does not explain them."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from models import ConvNetConfig
from search.analysis.edges import edges_in_words
from search.pages.note import study_note
from search.spec.config import TrialConfig
from search.spec.domains import Domain
from search.spec.parameters import read_parameter
from search.spec.recipe import Recipe
from search.store.views import StudyView
from search.terminal.summary import status_text
from tests.search.made_up_views import PLAIN, study_view, trial_view

RATE = {"learning_rate": {"low": 1e-3, "high": 2e-2, "log": True}}
WIDTH = {"width": {"low": 16, "high": 32, "step": 8}}


def smoothing(low: float, high: float) -> dict[str, Any]:
    return {"label_smoothing": {"low": low, "high": high, "log": True}}


def study_of(
    written: dict[str, Any],
    winners: list[float],
    *,
    others: int = 8,
    config: TrialConfig = PLAIN,
    **fields: Any,
) -> StudyView:
    """A study of one parameter, with its values in the best trials, best first."""
    ((name, domain),) = written.items()
    spec: dict[str, Domain] = {name: read_parameter(name, domain)}
    values = [*winners, *[winners[-1]] * others]
    trials = [
        trial_view(n, [0.2 + n / 100], params={name: value}, config=config)
        for n, value in enumerate(values)
    ]
    view = study_view(trials)
    return replace(view, spec=replace(view.spec, space=spec, **fields))


@pytest.mark.parametrize(
    ("written", "winners", "said"),
    [
        (
            WIDTH,
            [32, 32, 32],
            "The best 3 trials have width 32, the largest allowed: try width = { low = 16, high = "
            "48, step = 8 } in [space].",
        ),
        (WIDTH, [32, 32, 24], None),
        (
            WIDTH,
            [16, 16, 16],
            "The best 3 trials have width 16, the smallest allowed: try width = { low = 8, high = "
            "32, step = 8 } in [space].",
        ),
        ({"width": {"low": 16, "high": 24, "step": 8}}, [24, 24, 24], None),  # one draw in eight
        (
            RATE,
            [1.9e-2, 1.95e-2, 2e-2],
            "The best 3 trials have learning_rate close to 0.02, the largest allowed: try "
            "learning_rate = { low = 0.001, high = 0.09, log = true } in [space].",
        ),
        # Ten times, not 55, and no more even if rounding to one digit would give more.
        (smoothing(1e-5, 3e-2), [3e-2] * 3, "try label_smoothing = { low = 1e-05, high = 0.3, log"),
        (smoothing(1e-5, 2.6e-2), [2.6e-2] * 3, "{ low = 1e-05, high = 0.26, log = true }"),
        (smoothing(1.4e-4, 0.9), [1.4e-4] * 3, "{ low = 1.4e-05, high = 0.9, log = true }"),
        (RATE, [2e-2, 5e-3, 2e-2], None),  # not all
        (RATE, [1.6e-2, 1.6e-2, 1.6e-2], None),  # not close enough
        (RATE, [1.05e-3, 1.02e-3, 1e-3], "close to 0.001, the smallest allowed"),
        ({"dropout": {"low": 0.0, "high": 0.5}}, [0.0, 0.0, 0.0], None),  # nothing is lower
        ({"dropout": {"low": 0.0, "high": 0.5}}, [0.5, 0.49, 0.5], "{ low = 0.0, high = 0.75 }"),
        ({"depth": {"low": 2, "high": 5}}, [5, 5, 5], "try depth = { low = 2, high = 8 }"),
        ({"depth": {"low": 2, "high": 5}}, [2, 2, 2], "try depth = { low = 1, high = 5 }"),
        ({"depth": {"low": 1, "high": 5}}, [1, 1, 1], None),
    ],
)
def test_an_edge_is_reported_with_the_range_to_try(
    written: dict[str, Any], winners: list[float], said: str | None
) -> None:
    view = study_of(written, winners)
    found = edges_in_words(view)
    assert len(found) == (said is not None)
    if said is not None:
        assert said in found[0]
        for text in (status_text(view), study_note(view)):
            assert said.split(":")[0] in " ".join(unescape(text).split())


def test_edges_are_not_reported_too_early_or_without_an_effect() -> None:
    assert edges_in_words(study_of(RATE, [2e-2, 2e-2, 2e-2]))
    assert not edges_in_words(study_of(RATE, [2e-2, 2e-2, 2e-2], others=6))
    decay = {"weight_decay": {"low": 1e-5, "high": 1e-2, "log": True}}
    network = ConvNetConfig(channels=(32,))
    decoupled = Recipe(epochs=12, weight_decay_kind="decoupled")
    for recipe, said in ((decoupled, 1), (replace(decoupled, weight_decay_kind="none"), 0)):
        config = TrialConfig(architecture=network, recipe=recipe)
        assert len(edges_in_words(study_of(decay, [1e-2, 1e-2, 1e-2], config=config))) == said


def test_size_limits_are_respected_and_explain_small_networks() -> None:
    (wide,) = edges_in_words(study_of(WIDTH, [32, 32, 32], max_parameters=400_000))
    assert "high = 40," in wide  # 48 would exceed the limit
    assert not edges_in_words(study_of(WIDTH, [32, 32, 32], max_parameters=10**4))
    width = {"width": {"low": 32, "high": 80, "step": 16}}
    assert edges_in_words(study_of(width, [32, 32, 32]))
    assert not edges_in_words(study_of(width, [32, 32, 32], max_parameters=500_000))  # 32 or 48


def test_a_trial_from_outside_the_space_is_no_winner() -> None:
    view = study_of(RATE, [2e-2, 2e-2, 2e-2, 2e-2])
    first, *others = view.trials
    by_hand = replace(first, params={"learning_rate": 0.0})  # which has no logarithm
    assert edges_in_words(replace(view, trials=(by_hand, *others)))


@pytest.mark.parametrize(("family", "said"), [("cnn", 1), ("mlp", 0)])
def test_a_parameter_that_the_winners_networks_do_not_have_has_no_edge(
    family: str, said: int
) -> None:
    view = study_of({"depth": {"low": 2, "high": 5}}, [5, 5, 5])
    space = {**view.spec.space, "family": read_parameter("family", ["cnn", "mlp"])}
    trials = tuple(replace(one, params={**one.params, "family": family}) for one in view.trials)
    view = replace(view, spec=replace(view.spec, space=space), trials=trials)
    assert len(edges_in_words(view)) == said
