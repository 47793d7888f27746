from collections.abc import Callable
from typing import Any

import optuna
import pytest

from data.examples import DatasetInfo
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter
from search.spec.space import OVERRIDES
from search.store.catalog import (
    carry_on_spec,
    create_study,
    find_study,
    latest_study,
    require_study,
    set_total,
)
from search.store.storage import Database, StorageError
from search.store.view import load_facts, load_spec

INFO = DatasetInfo(
    name="digits",
    title="digits",
    class_names=tuple("0123456789"),
    image_shape=(1, 8, 8),
    mirror_changes_class=True,
    validation_count=287,
    training_count=1437,
)


def make_spec(**fields: Any) -> StudySpec:
    space = {"depth": read_parameter("depth", {"low": 1, "high": 3})}
    return StudySpec(**{"dataset": "digits", "space": space, "baseline": {"depth": 2}, **fields})


@pytest.fixture
def make(db: Database) -> Callable[..., optuna.Study]:
    def make(name: str = "s", **fields: Any) -> optuna.Study:
        return create_study(db, name, make_spec(**fields), INFO, validation_count=287)

    return make


def test_a_study_is_found_as_it_was_made(db: Database, make: Callable[..., optuna.Study]) -> None:
    make()
    found = find_study(db, "s")
    assert found is not None
    assert load_spec(found) == make_spec()
    assert load_facts(found).class_names == INFO.class_names
    assert load_facts(found).training_count == 1437
    queued = found.get_trials(deepcopy=False)
    assert [trial.user_attrs for trial in queued] == [{OVERRIDES: {"depth": 2}}]


def test_made_twice_it_is_one_study_with_one_baseline(
    db: Database, make: Callable[..., optuna.Study]
) -> None:
    make()
    make()
    assert len(optuna.get_all_study_names(db.optuna)) == 1
    assert len(make().get_trials(deepcopy=False)) == 1


def test_a_start_that_was_killed_half_way_is_made_whole(
    db: Database, make: Callable[..., optuna.Study]
) -> None:
    optuna.create_study(storage=db.optuna, study_name="s")
    assert find_study(db, "s") is None
    make()
    assert find_study(db, "s") is not None


def test_a_study_of_something_else_is_refused(db: Database) -> None:
    other = optuna.create_study(storage=db.optuna, study_name="s")
    other.tell(other.ask(), 1.0)
    with pytest.raises(StorageError, match="not made by cnn-search"):
        find_study(db, "s")


def test_fields_that_nobody_named_follow_the_study(make: Callable[..., optuna.Study]) -> None:
    study = make(epochs=7, trials=9)
    wanted = make_spec(epochs=99, trials=12)
    assert carry_on_spec(study, wanted, {"dataset"}) == make_spec(epochs=7, trials=9)
    assert carry_on_spec(study, wanted, {"trials"}) == make_spec(epochs=7, trials=12)
    with pytest.raises(SpecError, match="epochs = 7, but got 99"):
        carry_on_spec(study, wanted, {"epochs"})


def test_the_total_may_change(db: Database, make: Callable[..., optuna.Study]) -> None:
    set_total(make(), 80)
    found = find_study(db, "s")
    assert found is not None
    assert load_spec(found).trials == 80


def test_the_latest_study_is_the_one_last_begun(
    db: Database, make: Callable[..., optuna.Study]
) -> None:
    with pytest.raises(StorageError, match="no studies"):
        latest_study(db)
    for name in ("b", "a"):
        make(name).ask()
    make("never begun")
    assert require_study(db, None).study_name == "a"
    with pytest.raises(StorageError, match="there are: a, b, never begun"):
        require_study(db, "c")
