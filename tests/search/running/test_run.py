"""Starts of one study at the same time: one makes it, and the others join it as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from data.errors import DataError
from search.running.request import read_request
from search.running.run import Plan, make_plan
from search.running.study import run_study
from search.sampling.registry import PRUNERS, SAMPLERS, Pruner, Sampler
from search.spec.domains import SpecError
from search.spec.study_file import StudyFileError
from search.store.database import Database
from search.store.leases import finish
from search.store.opening import open_database
from search.store.studies import load_spec, set_total
from tests.search.running.made_up import TINY
from tests.search.workplaces import take

Make = Callable[..., Plan]
AS_IN_FILE: dict[str, Any] = {"study": "s", "space": None, "limit": None, "epochs": None}
ARMS = "[[arm]]\nname = 'a'\n\n[[arm]]\nname = 'b'\ndropout = 0.1\n"


@pytest.fixture
def plan(here: Path) -> Iterator[Make]:
    """Plans what starts of `search.study` plan, all of them with one open database.

    Given the text of a study file, it is `mine.toml`.
    """
    file = here / "mine.toml"
    with closing(open_database(f"sqlite:///{here / 'studies.db'}")) as db:

        def make(written: str | None = None, **options: Any) -> Plan:
            given = {**TINY, "seed": None, **options}
            if written is not None:
                file.write_text(written)
            config = None if written is None else str(file)
            request = read_request(config, given, space=given["space"])
            return replace(make_plan(request, torch.device("cpu")), db=db)

        yield make


def test_the_first_start_makes_the_study_and_those_that_differ_are_refused(plan: Make) -> None:
    stop = threading.Event()
    first, higher = plan(seed=1), plan(seed=1, trials=60)
    others = plan(seed=2), plan(), plan(seed=1, epochs=2)  # by default the seed is 0
    study = first.begin(stop).study
    before = study.attributes
    for other in others:
        with pytest.raises(SpecError, match=r"was made with (seed|epochs) = 1, but got"):
            other.begin(stop)
    assert study.attributes == before
    assert higher.begin(stop).spec == load_spec(study) == replace(first.spec, trials=60)


@pytest.mark.parametrize("failing", ["hold_out", "begin_run"])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.usefixtures("here")
def test_a_start_that_fails_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch, exists: bool, failing: str
) -> None:
    if exists:
        run_study(**TINY, trials=1)
    opened, closed = list[Database](), list[Database]()
    close = Database.close

    def watched(*given: Any, **options: Any) -> Database:
        opened.append(open_database(*given, **options))
        closed.clear()  # opening it may close connections, too
        return opened[-1]

    def closing(self: Database) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr("search.running.run.open_database", watched)
    monkeypatch.setattr(Database, "close", closing)
    monkeypatch.setattr(f"search.running.run.{failing}", Mock(side_effect=DataError("no images")))
    with pytest.raises(DataError):
        run_study(**TINY, trials=2)
    assert len(opened) == (exists or failing == "begin_run")
    assert all(any(it is one for it in closed) for one in opened)


def test_copies_among_training_and_validation_images_are_told(plan: Make, tmp_path: Path) -> None:
    images, labels = np.arange(80, dtype=np.uint8).repeat(64) // 2, np.arange(80) // 2 % 2
    part = {"x_train": images.reshape(80, 8, 8), "y_train": labels}
    np.savez(tmp_path / "twice.npz", **part, x_test=part["x_train"], y_test=labels)
    own = plan(dataset=f"npz:{tmp_path / 'twice.npz'}", study="s")
    (said,) = (note for note in own.notes if "validation images are training images" in note)
    assert said in own.begin(threading.Event()).task.info.notes


def test_a_refusal_names_the_study_file(plan: Make, tmp_path: Path) -> None:
    first, other = plan(study="s"), plan("[study]\nepochs = 2\n", study="s", epochs=None)
    first.begin(threading.Event())
    said = rf"{tmp_path / 'mine.toml'}: .* was made with epochs = 1, but got 2"
    with pytest.raises(StudyFileError, match=said):
        other.begin(threading.Event())


def test_how_long_finalize_trains_may_change(plan: Make) -> None:
    for written, stretch in (("", None), ("final_stretch = 2\n", 2.0), ("", 2.0)):
        study = plan(f"[study]\n{written}", study="s").begin(threading.Event()).study
        assert load_spec(study).final_stretch == stretch


def test_a_start_that_names_no_total_takes_the_current_one(plan: Make) -> None:
    stop = threading.Event()
    study = plan(trials=5).begin(stop).study
    unnamed, named = plan(), plan(trials=7)
    set_total(study, 80)
    assert unnamed.begin(stop).spec.trials == load_spec(study).trials == 80
    assert named.begin(stop).spec.trials == load_spec(study).trials == 7


def test_a_start_with_too_few_repeats_says_which_it_keeps(plan: Make) -> None:
    study = plan(ARMS, repeats=3, **AS_IN_FILE).begin(threading.Event()).study
    for _ in range(3):
        finish(study, take(study), state=TrialState.FAIL)
    lowered = plan(ARMS, repeats=1, **AS_IN_FILE)
    assert lowered.notes[-1] == (
        "repeat 2 has begun, so it is trained with every arm: 2 repeats, not 1"
    )
    assert lowered.begin(threading.Event()).spec.trials == load_spec(study).trials == 4
    assert plan(ARMS, repeats=3, **AS_IN_FILE).notes == lowered.notes[:-1]


def test_a_study_file_with_a_lower_total_says_that_it_is_not_followed(plan: Make) -> None:
    for study, total, rest in (("s", "trials", ""), ("compared", "repeats", ARMS)):
        given = {**AS_IN_FILE, "study": study}
        first = plan(f"[study]\n{total} = 4\n{rest}", **given)
        first.begin(threading.Event())
        lower = f"[study]\n{total} = 2\n{rest}"
        kept = plan(lower, **given)
        said = f"the study keeps its 4 {total}, not the 2 of mine.toml; --{total} 2 lowers them"
        assert kept.notes == (*first.notes, said)
        assert kept.spec == first.spec
        assert plan(lower, **given, **{total: 2}).notes == first.notes
        assert plan(**given).notes == first.notes


def test_a_total_below_what_has_begun_is_not_followed(plan: Make) -> None:
    first = plan(trials=4)
    handle = first.begin(threading.Event()).study
    for _ in range(3):
        handle.study.ask()
    assert plan(trials=3).notes == first.notes
    assert plan(trials=2).notes == (
        *first.notes,
        "3 trials are finished or under way, so the study has 3, not 2",
    )


WIDTH = "width = { low = 4, high = 8 }"
NOTHING = "changes nothing here: no network or setting of this study uses it; leave it out."


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (f'[space]\nfamily = "mlp"\n{WIDTH}\ndropout = [0.0, 0.1]', [f"width {NOTHING}"]),
        (f'[space]\nfamily = ["cnn", "mlp"]\n{WIDTH}', []),
        ('[space]\noptimizer = "adam"\nmomentum = [0.5, 0.9]', [f"momentum {NOTHING}"]),
        ('[space]\noptimizer = ["adam", "sgd"]\nmomentum = [0.5, 0.9]', []),
        (
            '[space]\nfamily = "mlp"\n[[arm]]\nname = "a"\nwidth = 4\n'
            '[[arm]]\nname = "b"\nhidden = [8]\n[[arm]]\nname = "c"\nwidth = 8',
            ["arms 'a' and 'c' train the same network in the same way."],
        ),
    ],
)
def test_what_changes_no_training_is_told(plan: Make, written: str, told: list[str]) -> None:
    notes = plan(written, study="s", space=None).notes
    assert [it for it in notes if "nothing here" in it or "the same way" in it] == told


def raising(*_: object) -> Any:
    raise KeyError("make")


@pytest.mark.parametrize(
    ("registry", "make", "message"),
    [
        (SAMPLERS, lambda *_: None, "'own': make must return .* sampler, but got None"),
        (SAMPLERS, lambda *_: RandomSampler, "but got <class .*RandomSampler"),
        (SAMPLERS, raising, r"'own' cannot be made \(KeyError: 'make'\); fix its make"),
        (PRUNERS, lambda _: "text", "'own': make must return .* or a function, but got 'text'"),
        (PRUNERS, lambda _: MedianPruner, "but got <class .*MedianPruner"),
    ],
)
def test_what_makes_no_sampler_or_pruner_is_refused_at_the_start(
    plan: Make,
    monkeypatch: pytest.MonkeyPatch,
    registry: dict[str, Any],
    make: Any,
    message: str,
) -> None:
    kind: Any = Sampler if registry is SAMPLERS else Pruner
    monkeypatch.setitem(registry, "own", kind(description="a test's", make=make))
    with pytest.raises(StudyFileError, match=message):
        plan(f"[study]\n{kind.__name__.lower()} = 'own'\n", study="s")
