"""Each sentence appears if it is true of made-up trials, and only then."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from rich.console import Console

from search.analysis import findings
from search.analysis.findings import (
    edges_in_words,
    front_in_words,
    overfitting_in_words,
    pareto_front,
    stop_in_words,
)
from search.figures.study import loss_against_parameters
from search.final.choose import choose_trial, stretched
from search.pages.note import study_note
from search.pages.report import make_report
from search.spec.config import TrialConfig
from search.spec.domains import Domain
from search.spec.parameters import read_parameter
from search.spec.recipe import Recipe
from search.store.views import StudyView
from search.terminal.frame import frame
from search.terminal.summary import status_text
from tests.search.made_up_views import PLAIN, comparison_view, study_view, trial_view

BEATEN = "the best is the baseline itself"


@pytest.fixture(autouse=True)
def _reports_without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.pages.report.FIGURES", {})


def report_of(view: StudyView) -> str:
    return make_report(view, datetime(2026, 3, 1, tzinfo=UTC)).markdown


def frame_of(view: StudyView) -> str:
    console = Console(file=io.StringIO(), width=100, height=24)
    console.print(frame(view, height=23, elapsed=1))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def everywhere(view: StudyView) -> dict[str, str]:
    """The texts about a study, each on one line."""
    texts = {"status": status_text(view), "note": study_note(view), "report": report_of(view)}
    return {name: " ".join(text.split()) for name, text in texts.items()}


def test_the_best_is_called_the_baseline_if_it_is() -> None:
    for loss, is_best in ((0.3, True), (0.5, False)):
        view = study_view([trial_view(0, [loss], is_baseline=True), trial_view(1, [0.4])])
        for name, text in {**everywhere(view), "live view": frame_of(view)}.items():
            assert ("trial 0, the baseline itself" in text) == is_best, name


def best_at(at: int, trials: int, total: int = 50) -> StudyView:
    """A search of `trials` trials, of which number `at` is best."""
    made = [trial_view(n, [0.3 if n == at else 0.4 + n / 1000]) for n in range(trials)]
    view = study_view(made)
    return replace(view, spec=view.spec.with_total(total))


@pytest.mark.parametrize(
    ("at", "trials", "says"),
    [
        (0, 10, False),  # nine trials are not enough
        (24, 35, False),  # ten are less than a third of 35
        (20, 33, True),  # twelve of 33 are more
        (59, 100, True),
    ],
)
def test_long_without_a_gain_is_told_without_advice(at: int, trials: int, says: bool) -> None:
    view = best_at(at, trials, 200)
    words = f"None of the last {trials - 1 - at} of {trials} trials beat the best."
    for name, text in everywhere(view).items():
        assert (words in text) == says, name
        assert ("beat the best" in text) == says, name


def test_the_time_when_trials_end_counts() -> None:
    """A slow trial that began early and ended last is a recent gain."""
    view = best_at(2, 30)
    best = view.trials[2]
    reported_at = view.trials[-1].reports[-1].reported_at + 60
    last = replace(best.curve[-1], reported_at=reported_at)
    late = replace(best, curve=(*best.curve[:-1], last))
    slow = replace(view, trials=(*view.trials[:2], late, *view.trials[3:]))
    assert stop_in_words(view) is not None
    assert stop_in_words(slow) is None
    arms = comparison_view({"a": [0.1] + [0.5] * 29, "b": [0.5] * 30})
    assert stop_in_words(arms) is None  # trained to be compared, not to win
    assert stop_in_words(replace(view, trials=())) is None


FALLING = [0.5, 0.3, 0.2, 0.1, 0.05]


@pytest.mark.parametrize(
    ("validation", "training", "says"),
    [
        ([0.5, 0.3, 0.32, 0.36, 0.41], FALLING, True),
        ([0.5, 0.4, 0.3, 0.25, 0.2], FALLING, False),  # best at the end
        ([0.5, 0.3, 0.31, 0.3, 0.31], FALLING, False),  # has not risen by a twentieth
        ([0.5, 0.0, 0.0, 0.0, 0.0], FALLING, False),  # no mistake from epoch 2 on
        ([0.5, 1e-9, 1e-8, 1e-7, 2e-6], FALLING, False),  # a rise that no text shows
        ([0.5, 0.3, 0.32, 0.36, 0.41], [0.5, 0.3, 0.31, 0.36, 0.4], False),  # training rises, too
    ],
)
def test_over_fitting_is_reported_for_curves_that_show_it(
    validation: list[float], training: list[float], says: bool
) -> None:
    trial = trial_view(0, validation)
    rows = zip(trial.curve, training, strict=True)
    curve = tuple(replace(row, train_loss=loss) for row, loss in rows)
    trial = replace(trial, curve=curve)
    view = study_view([trial])
    for name, text in everywhere(view).items():
        assert ("over-fit" in text) == says, name
    for state in ("pruned", "running", "failed"):
        assert overfitting_in_words(replace(trial, state=state), view) is None
    if says:
        assert overfitting_in_words(trial, view) == (
            "Trial 0 over-fits: its validation loss is lowest in epoch 2 of 5 (0.3000) and rises "
            "to 0.4100 by the last, while its training loss falls from 0.3000 to 0.0500."
        )
        assert trial.config is not None
        remedy = f"0.0500. With finalize --epochs {2 * view.spec.epochs} it is trained"
        # Finalize strengthens only what is weak.
        for strength, helps in ((0, False), (0.2, True), (0.9, True), (1, False), (1.5, False)):
            recipe = replace(
                trial.config.recipe, augmentation="flip-crop", augmentation_strength=strength
            )
            varied = replace(trial, config=replace(trial.config, recipe=recipe))
            said = overfitting_in_words(varied, view) or ""
            assert (remedy in said) == helps == ("augmentation" in said)
            longer = replace(view, spec=replace(view.spec, final_stretch=2.0))
            said = overfitting_in_words(varied, longer) or ""
            assert ("0.0500. finalize trains it longer, with stronger" in said) == helps
            found = stretched(choose_trial(study_view([varied])), 2 * view.spec.epochs)
            assert (found.config.recipe.augmentation_strength > strength) == helps


@pytest.fixture
def pareto(small_study: StudyView) -> StudyView:
    """Trial 0 has the most multiply-adds: it is on the front only by parameters."""
    trials = [
        replace(it, multiply_adds=10 * (it.parameters or 0) + 10**7 * (it.number == 0))
        for it in small_study.trials
    ]
    spec = replace(small_study.spec, minimize_also="multiply_adds", pruner="promotion")
    return replace(small_study, spec=spec, trials=tuple(trials))


def test_the_front_is_of_the_minimised_values(small_study: StudyView, pareto: StudyView) -> None:
    assert [trial.number for trial in pareto_front(small_study)] == [9, 0, 3]
    assert [trial.number for trial in pareto_front(pareto)] == [9, 3]
    told = front_in_words(pareto)
    assert told.endswith(
        "#9 (600 000 multiply-adds, loss 0.4400), #3 (3 000 000 multiply-adds, loss 0.2500)."
    )
    figure = loss_against_parameters(pareto)
    line = next(trace for trace in figure.data if trace.name == "Pareto front")
    assert line.x == (600_000, 3_000_000)
    assert figure.layout.meta["caption"] == told
    assert figure.layout.xaxis.title.text == "multiply-adds for one image"


def test_summary_note_and_report_show_the_front(small_study: StudyView, pareto: StudyView) -> None:
    fewest = "the network with the fewest multiply-adds"
    said = f"finalize takes the lowest loss, and with --trial 9 {fewest}."
    text = " ".join(status_text(pareto).split())
    assert front_in_words(pareto) in text
    assert said in text
    pages = [study_note(pareto), report_of(pareto)]
    for page in pages:
        table = page.partition("## Pareto front")[2].partition("\n## ")[0].replace("&#35;", "#")
        assert said in " ".join(table.replace("&#45;", "-").split())
        assert table.index("| #9 |") < table.index("600 000") < table.index("| #3 |")
        assert "#1 " not in table
    assert "Pareto" not in status_text(small_study) + study_note(small_study)


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
        # As many digits as it takes to lie beyond the edge.
        (smoothing(8e-3, 1.2e-2), [1.2e-2] * 3, "{ low = 0.008, high = 0.015, log = true }"),
        (smoothing(1.8e-3, 2.3e-3), [1.8e-3] * 3, "{ low = 0.0016, high = 0.0023, log = true }"),
        (smoothing(0.019, 0.02), [0.02] * 3, "{ low = 0.019, high = 0.021, log = true }"),
        ({"dropout": {"low": 0.12343, "high": 0.12344}}, [0.12344] * 3, "high = 0.12345 }"),
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
        new = "A changed space needs a new study: --study NAME --warm-start fashion."
        assert found[0].endswith(f"}} in [space]. {new}")
        for text in (status_text(view), study_note(view)):
            assert said.split(":")[0] in " ".join(unescape(text).split())


def test_edges_are_not_reported_too_early_or_without_an_effect() -> None:
    assert edges_in_words(study_of(RATE, [2e-2, 2e-2, 2e-2]))
    assert not edges_in_words(study_of(RATE, [2e-2, 2e-2, 2e-2], others=6))
    decay = {"weight_decay": {"low": 1e-5, "high": 1e-2, "log": True}}
    decoupled = Recipe(epochs=12, weight_decay_kind="decoupled")
    for recipe, said in ((decoupled, 1), (replace(decoupled, weight_decay_kind="none"), 0)):
        config = replace(PLAIN, recipe=recipe)
        view = study_of(decay, [1e-2, 1e-2, 1e-2], config=config)
        assert len(edges_in_words(view)) == said
        space: dict[str, Domain] = {**view.spec.space, "weight_decay_kind": "none"}
        assert not edges_in_words(replace(view, spec=replace(view.spec, space=space)))


@pytest.mark.parametrize(
    ("training", "edge", "said"),  # training loss as a share of the validation loss
    [(0.9, 0.2, 1), (0.7, 0.2, 0), (0.7, 1.0, 1)],
)
def test_weaker_augmentation_is_not_advised_if_the_best_trial_memorised(
    training: float, edge: float, said: int
) -> None:
    recipe = Recipe(epochs=12, augmentation="flip-crop", augmentation_strength=0.2)
    space = {"augmentation_strength": {"low": 0.2, "high": 1.0}}
    view = study_of(space, [edge] * 3, config=replace(PLAIN, recipe=recipe))
    best, *others = view.trials
    rows = tuple(replace(it, train_loss=training * it.validation_loss) for it in best.curve)
    spec = replace(view.spec, space={**view.spec.space, "augmentation": "flip-crop"})
    view = replace(view, spec=spec, trials=(replace(best, curve=rows), *others))
    assert len(edges_in_words(view)) == said


def test_size_limits_are_respected_and_explain_small_networks() -> None:
    (wide,) = edges_in_words(study_of(WIDTH, [32, 32, 32], max_parameters=400_000))
    assert "high = 40," in wide  # 48 would exceed the limit
    assert not edges_in_words(study_of(WIDTH, [32, 32, 32], max_parameters=10**4))
    width = {"width": {"low": 32, "high": 80, "step": 16}}
    assert edges_in_words(study_of(width, [32, 32, 32]))
    assert not edges_in_words(study_of(width, [32, 32, 32], max_parameters=500_000))  # 32 or 48


def test_a_network_that_warns_is_tried_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "anatomy", lambda *_: warnings.warn("no channels", stacklevel=1))
    assert edges_in_words(study_of(WIDTH, [32, 32, 32]))


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
