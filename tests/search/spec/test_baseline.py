from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, create_trial

from models import FAMILIES, ConvNetConfig, family_from_function
from models.summary import count_parameters
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import choice_label, plain
from search.spec.parameters import read_tables
from search.spec.space import (
    OVERRIDES,
    distributions,
    lies_in_space,
    queued_baseline,
    queued_trial,
    searched,
    suggest,
    true_params,
    values_of,
)
from search.spec.study_file import find_study_file, ready_made
from search.store.opening import open_database
from search.store.studies import create_study
from search.store.views import view_study
from tests.search.long_studies import INFO
from tests.search.spec.reading import read

FASHION = ((1, 28, 28), 10)
DEFAULT = read(find_study_file("default"))


def spec_of(baseline: dict[str, object], **space: object) -> StudySpec:
    space = read_tables({"space": space})["space"]
    return StudySpec(dataset="digits", space=space, baseline=baseline)


def first_trial(spec: StudySpec) -> tuple[FrozenTrial, TrialConfig]:
    """Trial 0, sampled as the loop samples it, and completed."""
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(sampler=StudySampler(spec, None), storage=storage)
    if spec.baseline is not None:
        study_id = storage.get_study_id_from_name(study.study_name)
        storage.create_new_trial(study_id, queued_baseline(spec))
    trial = study.ask()
    config = suggest(trial, spec)
    study.tell(trial, 0.5)
    assert suggest(study.trials[0], spec) == config
    return study.trials[0], config


def test_trial_0_is_the_reports_baseline() -> None:
    trial, config = first_trial(DEFAULT)
    assert count_parameters(config.architecture, *FASHION) == 221_950
    assert (config.recipe.learning_rate, config.recipe.batch_size) == (3e-4, 64)
    assert (config.recipe.schedule, config.recipe.augmentation) == ("constant", "none")
    assert trial.params["learning_rate"] == 3e-4  # below the range, but kept
    assert trial.params["weight_decay_kind"] == "none"
    # Optuna has no value for no augmentation, which has no strength, either.
    left = {"augmentation", "augmentation_strength"}
    assert left == distributions(DEFAULT).keys() - trial.params.keys()
    # Optuna's importances use the parameters that all trials have with the same distribution.
    assert trial.distributions.items() <= distributions(DEFAULT).items()


def test_values_without_a_place_on_a_logarithmic_axis_are_left_out() -> None:
    spec = spec_of(
        {"weight_decay": 0.0, "hidden": (7,)},
        weight_decay={"low": 1e-5, "high": 1e-2, "log": True},
        hidden=[[64], [128]],
        dropout={"low": 0.1, "high": 0.5},
        augmentation=["flip-crop"],  # and Optuna cannot store "none", which is not a choice
    )
    assert queued_baseline(spec).params == {"dropout": 0.0}  # the default, which it trains with
    assert suggest(queued_baseline(spec), spec).recipe.weight_decay == 0.0


@pytest.mark.parametrize(
    ("baseline", "stored"),
    [
        ({"depth": 5}, {"depth": 5, "width": 32}),
        ({"depth": 2, "optimizer": "sgd"}, {"depth": 2, "width": 32, "momentum": 0.9}),
        ({"channels": (8, 8)}, {}),
        ({"family": "mlp"}, {}),
        ({"family": "resnet18"}, {}),
        (
            {"channels": (8,), "weight_decay": 3e-3},
            {"weight_decay": 3e-3, "weight_decay_kind": "decoupled"},
        ),
        ({"channels": (8,), "gradient_clip": 0.5}, {}),
        ({"channels": (8,), "gradient_clip": 3.0}, {"gradient_clip": 3}),
        ({"channels": (8,), "augmentation_strength": 0.5}, {}),
        (
            {"channels": (8,), "augmentation": "flip-crop"},
            {"augmentation": "flip-crop", "augmentation_strength": 0.0},
        ),
    ],
)
def test_parameters_that_the_baseline_lacks_are_left_out(
    baseline: dict[str, object], stored: dict[str, object]
) -> None:
    """A depth for another family, the kind of a decay of 0; and a fraction for an integer."""
    none = {"weight_decay": 0.0, "augmentation_strength": 0.0, "gradient_clip": 7.5}
    spec = spec_of(
        {"optimizer": "adam"} | none | baseline,
        optimizer="sgd",
        depth={"low": 1, "high": 3},
        width={"low": 4, "high": 12},
        momentum={"low": 0.2, "high": 0.9},
        gradient_clip={"low": 1, "high": 5},
        weight_decay={"low": 1e-5, "high": 1e-2, "log": True},
        weight_decay_kind=["coupled", "decoupled"],
        augmentation=["flip-crop", "flip-rotate-crop"],
        augmentation_strength={"low": 0.2, "high": 1.0},
    )
    assert queued_baseline(spec).params == stored


def test_parameters_without_effect_on_any_trial_with_such_values_are_stored() -> None:
    """So that Optuna can compute importances, which it does for parameters that all trials have."""
    spec = spec_of(
        {"family": "mlp", "weight_decay_kind": "none"},
        family=["cnn", "mlp"],
        depth={"low": 1, "high": 3},
        weight_decay_kind=["none", "coupled"],
        weight_decay={"low": 1e-5, "high": 1e-2, "log": True},
    )
    assert queued_baseline(spec).params.keys() == searched(spec).keys()


def test_an_older_studys_baseline_is_read_without_what_it_lacked(tmp_path: Path) -> None:
    """It was stored with the nearest ends of the space, and with randomly drawn choices."""
    assert DEFAULT.baseline is not None
    stored = {
        "depth": 2,
        "width": 32,
        "learning_rate": 1e-3,
        "weight_decay_kind": "none",
        "weight_decay": 3e-3,
        "dropout": 0.0,
        "augmentation": "flip-crop",
        "augmentation_strength": 0.5,
    }
    trial = create_trial(
        value=0.5,
        params=stored,
        distributions=distributions(DEFAULT),
        user_attrs={OVERRIDES: plain(DEFAULT.baseline)},
    )
    assert suggest(trial, DEFAULT).recipe.learning_rate == 3e-4
    true = true_params(trial, DEFAULT)
    assert stored.keys() - true.keys() == {"learning_rate", "augmentation"}
    assert not lies_in_space(trial, DEFAULT)
    with closing(open_database(f"sqlite:///{tmp_path / 'studies.db'}")) as db:
        study = create_study(db, "s", DEFAULT, INFO, validation_count=287)
        study.study.add_trial(trial)
        made, older = view_study(study).trials
    assert older.params == true
    assert older.values == {**true, "learning_rate": 3e-4, "augmentation": "none"}
    assert made.values.keys() == distributions(DEFAULT).keys() - {"augmentation_strength"}


def test_a_baseline_in_the_space_is_learned_from() -> None:
    inside = spec_of(
        {"depth": 2, "dropout": 0.25}, depth={"low": 1, "high": 3}, dropout=[0.25, 0.5]
    )
    assert lies_in_space(first_trial(inside)[0], inside)


def test_what_a_trial_trains_with_is_told_from_its_own_familys_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shallow(image_shape: object, classes: int, *, depth: int = 2) -> Any: ...

    def deep(image_shape: object, classes: int, *, depth: int = 5) -> Any: ...

    for function in (shallow, deep):
        name = function.__name__
        monkeypatch.setitem(FAMILIES, name, family_from_function(name, function))
    spec = spec_of({}, family=["shallow", "deep"])

    def queued(family: str, depth: int) -> FrozenTrial:
        return queued_trial(spec, {"family": family}, {OVERRIDES: {"depth": depth}})

    usual, other = queued("deep", 5), queued("deep", 2)
    assert values_of(usual, spec) == {"family": "deep"}
    assert values_of(other, spec) == {"family": "deep", "depth": 2}
    assert [lies_in_space(it, spec) for it in (usual, other)] == [True, False]


@pytest.mark.parametrize("path", ready_made(), ids=lambda path: path.stem)
def test_the_stored_parameters_of_trial_0_are_what_was_trained(path: Path) -> None:
    """For each ready-made study: no parameter that Optuna knows differs from the configuration."""
    spec = read(path)
    trial, config = first_trial(spec)
    if spec.is_comparison:
        assert trial.params == {"arm": spec.arms[0].name, "repeat": 0}
        return
    network = config.architecture
    assert isinstance(network, ConvNetConfig)
    trained = {
        **asdict(network),
        **config.recipe.to_dict(),
        "depth": len(network.channels),
        "width": network.channels[0],
        "hidden": choice_label(network.hidden),
        "dropout": network.dropout_linear,
        "head": network.head,
    }
    assert trial.params
    assert trial.params == {name: trained[name] for name in trial.params}
