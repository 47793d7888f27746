"""Trials that the user continues, and configurations that the user queues."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import delete, update

from search.running import by_hand
from search.running.by_hand import read_queue
from search.running.request import read_request
from search.running.run import Run
from search.running.study import run_study
from search.running.worker import train_trials
from search.spec.arms import Arm
from search.spec.domains import SpecError
from search.spec.space import check_space
from search.spec.study_file import StudyFileError, read_configurations
from search.store import StudyGoneError
from search.store.database import Database, transaction
from search.store.leases import Lease, LostLeaseError, finish, release
from search.store.opening import open_database
from search.store.records import record_epoch
from search.store.schema import REASON, leases
from search.store.studies import StudyHandle, create_study, load_spec, require_study
from search.store.views import view_study
from search.training.task import load_study_task
from tests.search.long_studies import INFO, SPEC
from tests.search.running.made_up import (
    TINY,
    FedTraining,
    MadeUpTraining,
    check_curves,
    fed,
    stopping_after,
)
from tests.search.workplaces import take

Make = Callable[..., Run]
pytestmark = pytest.mark.usefixtures("unseen")
FED = FedTraining([])
FIELDS = {"pruner": "promotion", "sampler": "random", "trials": 8, "epochs": 8, "budget": 0.4}


def small(make_run: Make, **fields: Any) -> Run:
    return make_run(train=MadeUpTraining, **{**FIELDS, **fields})


def go_on(run: Run, *numbers: int) -> list[str]:
    return by_hand.continue_trials(run.study, run.spec, numbers)


def stop_one(study: StudyHandle, state: TrialState = TrialState.PRUNED) -> Lease:
    """A trial that begins, reports once, and is pruned or (RUNNING) paused."""
    lease = take(study, choose=lambda _: "new")
    record_epoch(study.db, lease, FED.report(0, 0.5), 0.5)
    finish(study, lease, state=state)
    return lease


@pytest.mark.parametrize("pruner", ["promotion", "halving"])
def test_a_stopped_trial_continues_to_its_end_and_counts_once(make_run: Make, pruner: str) -> None:
    run = small(make_run, pruner=pruner)
    train_trials(run)
    before = view_study(run.study)
    first, *_, last = (trial.number for trial in before.in_state("pruned"))
    told = go_on(run, last, first, last)
    assert [line.split()[1] for line in told] == [str(first), str(last)]
    assert ("continues after epoch" in told[1]) == bool(before.trials[last].curve)
    during = view_study(run.study)
    assert (during.finished, during.count()) == (6, 8)
    assert go_on(run, first) == [f"trial {first} is interrupted and will now train to its end"]
    train_trials(run)
    after = view_study(run.study)
    assert after.finished == after.count() == 8
    assert {after.trials[n].state for n in (first, last)} == {"complete"}
    check_curves(after)
    others = [trial.number for trial in before.trials if trial.number not in (first, last)]
    assert [after.trials[n] for n in others] == [before.trials[n] for n in others]
    assert go_on(run, first) == [f"trial {first} is already complete"]
    assert view_study(run.study) == after


@pytest.mark.parametrize(
    ("reports", "excused"),
    [
        ([(1, 2), (3, 4), (5, 6), (7, 8)], True),  # each worker gets further: from a checkpoint
        ([(1, 2), (1, 2), (1, 2), (1, 2), ()], False),  # none does
        ([(0,), (0,), (0,), ()], False),  # nor here, and this report has no checkpoint
    ],
)
def test_a_continued_trial_without_checkpoint_fails_only_if_its_workers_get_nowhere(
    db: Database, reports: list[tuple[int, ...]], excused: bool
) -> None:
    study = create_study(db, "s", SPEC, INFO, validation_count=287)
    whole = take(study)
    for epoch in range(9):
        record_epoch(db, whole, FED.report(epoch, 0.5), 0.5)
    finish(study, whole, state=TrialState.PRUNED)
    by_hand.continue_trials(study, SPEC, [0])
    for epochs in reports:
        lease = take(study, worker="far:1:1:scope")
        for epoch in epochs:
            record_epoch(db, lease, FED.report(epoch, 0.4), 0.4)
        assert not lease.exhausted or epochs == ()
        with transaction(db) as connection:
            connection.execute(update(leases).values(expires_at=0.0))
    assert take(study).exhausted != excused


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.RUNNING])
def test_a_stopped_trial_is_resumed_first_and_by_only_one_worker(
    db: Database, state: TrialState
) -> None:
    spec = replace(SPEC, trials=8)
    study = create_study(db, "s", spec, INFO, validation_count=287)
    stop_one(study)
    late = stop_one(study, state)
    view_study(study)  # Optuna caches trials that it has seen end
    assert by_hand.enqueue(study, spec, [{"depth": 4}]) == ["trial 2 is queued: depth = 4"]
    for said in ("starts over because it has no whole epoch yet", "is interrupted and will now"):
        (told,) = by_hand.continue_trials(study, spec, [1])
        assert said in told
    (told,) = by_hand.continue_trials(study, spec, [2])
    assert told == "trial 2 is queued and will now train to its end"
    assert view_study(study).trials[1].state == "interrupted"
    with pytest.raises(LostLeaseError):
        record_epoch(db, late, FED.report(1, 0.1), 0.1)
    leases = [take(study, total=8, choose=lambda _: "new") for _ in range(3)]
    assert [it.trial_number for it in leases] == [1, 2, 3]
    record_epoch(db, leases[0], FED.report(1, 0.4), 0.4)
    finish(study, leases[0], state=TrialState.COMPLETE, value=0.4)
    assert view_study(study).trials[1].state == "complete"


def test_a_trial_continues_though_more_have_begun_than_a_lowered_total(make_run: Make) -> None:
    run = small(make_run)
    train_trials(stopping_after(run, 10))
    begun = view_study(run.study)
    (number, *_) = (trial.number for trial in begun.in_state("paused"))
    assert begun.count() > 4
    lowered = small(make_run, trials=4)
    go_on(lowered, number)
    train_trials(lowered)
    view = view_study(run.study)
    assert view.trials[number].state == "complete"
    assert view.finished == view.count()
    check_curves(view)


def test_what_runs_or_is_interrupted_leaves_no_room_for_a_continued_trial(db: Database) -> None:
    spec = replace(SPEC, trials=3)
    study = create_study(db, "s", spec, INFO, validation_count=287)
    stop_one(study)
    stop_one(study, TrialState.RUNNING)
    interrupted, whole = (take(study, choose=lambda _: "new") for _ in range(2))
    finish(study, whole, state=TrialState.COMPLETE, value=1.0)
    release(db, interrupted)
    with pytest.raises(SpecError, match=r"would then count 4 trials.* give --trials 4, too"):
        by_hand.continue_trials(study, spec, [1])
    by_hand.continue_trials(study, replace(spec, trials=4), [1])
    numbers = [take(study, total=4, choose=lambda _: "new").trial_number for _ in range(2)]
    assert numbers == [1, 2]


def test_a_trial_of_a_copied_study_has_no_lease(make_run: Make) -> None:
    run = small(make_run)
    stop_one(run.study)
    with transaction(run.db) as connection:
        connection.execute(delete(leases))
    assert view_study(run.study).trials[0].state == "pruned"
    assert go_on(run, 0) == ["trial 0 starts over because it has no whole epoch yet"]
    assert view_study(run.study).trials[0].state == "interrupted"
    assert take(run.study, total=8).trial_number == 0


def test_what_cannot_be_continued(make_run: Make) -> None:
    run = small(make_run)
    stop_one(run.study)
    stop_one(run.study)
    finish(run.study, take(run.study, choose=lambda _: "new"), state=TrialState.FAIL)
    before = view_study(run.study)
    lowered = replace(run, spec=replace(run.spec, trials=1))
    for it, number, said in (
        (run, 7, "no trial 7; its trials are 0 to 2"),
        (run, 2, "failed, and only"),
        (lowered, 1, "give --trials 2, too"),
    ):
        with pytest.raises(SpecError, match=said):
            go_on(it, 1, number)
    assert view_study(run.study) == before


@pytest.mark.parametrize("compares", [False, True])
def test_the_same_request_again_leaves_out_what_has_failed_since(
    make_run: Make, compares: bool
) -> None:
    run = compared(make_run, 3) if compares else small(make_run, trials=2)
    stop_one(run.study)
    stop_one(run.study)
    go_on(run, 0, 1)
    reason = "diverged: loss became nan" if compares else "out of memory"
    lease = take(run.study)
    finish(run.study, lease, state=TrialState.FAIL, attributes={REASON: reason})
    before = view_study(run.study)
    assert check(run, 0, 1) == {}
    assert go_on(run, 0, 1) == [
        "trial 0 failed and is left out",
        "trial 1 is interrupted and will now train to its end",
    ]
    assert view_study(run.study) == before
    request = read_request(None, {"study": "study", "continue_trials": [0, 1]})
    _, trials, _ = by_hand.foreseen(run.study, run.spec, request, [])
    assert [trial.state for trial in trials[:2]] == ["failed", "interrupted"]


def check(run: Run, *numbers: int) -> Any:
    return by_hand.check_requests(run.study, run.spec, numbers, [], first=1)


def compared(make_run: Make, arms: int, repeats: int = 1, train: Any = MadeUpTraining) -> Run:
    made = tuple(Arm(name=str(arm)) for arm in range(arms))
    return make_run(space={"depth": 1}, arms=made, repeats=repeats, train=train)


def test_a_comparisons_trial_that_failed_is_trained_again_unless_it_diverged(
    make_run: Make,
) -> None:
    busy = RuntimeError("CUDA driver busy")
    train_trials(run := compared(make_run, 2, train=fed([0.5, 0.4, busy], [math.nan])))
    before = view_study(run.study)
    assert [trial.state for trial in before.trials] == ["failed"] * 2
    with pytest.raises(SpecError, match="trial 1 diverged, which is a result of its arm"):
        go_on(run, 0, 1)
    assert view_study(run.study) == before
    assert go_on(run, 0) == ["trial 0 failed and starts over"]
    assert go_on(run, 0) == ["trial 0 is interrupted and will now train to its end"]
    during = view_study(run.study)
    assert (during.trials[0].state, during.finished) == ("interrupted", 1)
    train_trials(compared(make_run, 2, train=fed([0.5, 0.4, 0.3, 0.2])))
    again, diverged = view_study(run.study).trials
    assert (again.state, again.reason, len(again.curve)) == ("complete", None, 3)
    assert again.params == before.trials[0].params  # its arm and repeat
    assert diverged == before.trials[1]


def test_an_arm_cannot_be_enqueued(make_run: Make) -> None:
    with pytest.raises(SpecError, match=r"add an \[\[arm\]\] to its file and give another --study"):
        by_hand.read_queue([{"depth": 2}], compared(make_run, 2).spec)


def test_a_repeat_that_has_begun_is_trained_with_every_arm(make_run: Make) -> None:
    train_trials(stopping_after(compared(make_run, 2, repeats=3), 10))  # in the third trial
    lowered = compared(make_run, 2, repeats=1)
    assert view_study(lowered.study).spec.repeats == load_spec(lowered.study).repeats == 2
    train_trials(lowered)
    view = view_study(lowered.study)
    assert [trial.state for trial in view.trials] == ["complete"] * 4
    assert view.finished == view.spec.trials == 4


def test_queued_configurations_come_first_and_count(make_run: Make) -> None:
    run = small(make_run, trials=5, pruner="none", baseline={"depth": 1})
    written = ["depth=2, learning_rate=2e-3", {"depth": 4, "dropout": 0.1, "batch_size": 32}]
    queue = read_queue(read_configurations(written), run.spec)
    check_space(run.spec, run.task.image_shape, run.task.classes, queue)
    told = by_hand.enqueue(run.study, run.spec, queue)
    assert told[0] == "trial 1 is queued: depth = 2, learning_rate = 0.002"
    assert by_hand.enqueue(run.study, run.spec, queue[::-1])[0].startswith("trial 2 already has")
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == view.count() == 5
    assert [trial.is_baseline for trial in view.trials] == [True, *[False] * 4]
    inside, outside = view.trials[1:3]
    assert (inside.params["depth"], inside.params["learning_rate"]) == (2, 0.002)
    assert inside.params.keys() == view.trials[3].params.keys()  # the rest was sampled
    assert outside.config is not None
    assert outside.config.recipe.batch_size == 32
    assert len(outside.config.to_dict()["architecture"]["channels"]) == 4
    assert outside.params["dropout"] == 0.1
    assert "depth" not in outside.params
    assert by_hand.enqueue(run.study, run.spec, queue)[0].startswith("trial 1 already has")
    with pytest.raises(SpecError, match="give --trials 6, too"):
        by_hand.enqueue(run.study, run.spec, [{"depth": 3}])
    assert view_study(run.study).count() == 5


def test_a_configuration_that_failed_is_queued_again(make_run: Make) -> None:
    run = small(make_run)
    queue = [{"depth": 2}]
    for number in range(2):
        told = by_hand.enqueue(run.study, run.spec, queue)
        assert told == [f"trial {number} is queued: depth = 2"]
        finish(run.study, take(run.study), state=TrialState.FAIL)
    by_hand.enqueue(run.study, run.spec, queue)
    (told,) = by_hand.enqueue(run.study, run.spec, queue)
    assert told == "trial 2 already has this configuration (waiting): depth = 2"


@pytest.mark.parametrize(
    ("state", "word"), [(TrialState.PRUNED, "pruned"), (TrialState.RUNNING, "paused")]
)
def test_a_configuration_whose_trial_stopped_can_be_continued(
    db: Database, state: TrialState, word: str
) -> None:
    study = create_study(db, "s", SPEC, INFO, validation_count=287)
    queue = [{"depth": 2}]
    by_hand.enqueue(study, SPEC, queue)
    stop_one(study, state)
    (told,) = by_hand.enqueue(study, SPEC, queue)
    assert f"({word}; --continue 0 trains it to its end): depth = 2" in told


def test_a_file_with_several_configurations(tmp_path: Path, make_run: Make) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[trial]]\ndepth = 1\n\n[[trial]]\noptimizer = "sgd"\nhidden = [8, 8]\n')
    found = read_queue(read_configurations([str(file), "optimizer=sgd"]), make_run().spec)
    assert found == [{"depth": 1}, {"optimizer": "sgd", "hidden": (8, 8)}, {"optimizer": "sgd"}]
    with pytest.raises(StudyFileError, match="cannot be read"):
        read_configurations([str(tmp_path / "other.toml")])
    for text, told in (
        ("[[trial]]\ndepth = 1\n[[trail]]\nwidth = 4", "'trail'; did you mean 'trial'?"),
        ("[space]\ndepth = 1\n", "unknown section 'space' (known: trial)"),
        ("[trial]\ndepth = 1\n", "'trial' must be a table, headed [[trial]]"),
        ("[[trial]]\n", "is not usable"),
    ):
        file.write_text(text)
        with pytest.raises(SpecError, match=re.escape(told)) as raised:
            read_configurations([str(file)])
        assert "mine.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("depht=4", "enqueue 1: unknown parameter 'depht'; did you mean 'depth'?"),
        ("depth=[1, 2]", "must have one value here"),
        ("depth=high", "must be"),
        ("depth", "is not usable: 'depth'; write 'learning_rate=3e-3, depth=4'"),
        ("", "is not usable"),
        ("a=1}, {b=2", "unknown parameter 'a'"),
        ({}, "names no parameter"),
    ],
)
def test_what_cannot_be_queued(make_run: Make, written: Any, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        read_queue(read_configurations([written]), make_run().spec)


def test_from_python(here: Path) -> None:
    options = {**TINY, "epochs": 2, "space": {"depth": [1, 2], "width": 4}}
    with pytest.raises(SpecError, match="no such study yet"):
        run_study(**options, trials=2, continue_trials=1)
    with pytest.raises(SpecError, match="give --trials 2, too"):
        run_study(**options, trials=1, enqueue=["depth=1", {"depth": 4}])
    assert not list(here.iterdir())
    view = run_study(**options, trials=2, enqueue={"depth": 4})
    assert (view.count(), view.finished) == (2, 2)
    assert "depth" not in view.trials[0].params
    assert view.to_pandas().params_depth[0] == 4
    stopped = view.in_state("pruned")
    again = run_study(**options, trials=2, continue_trials=[trial.number for trial in view.trials])
    assert (again.count("complete"), again.finished) == (2, 2)
    assert all(len(again.trials[trial.number].curve) == 2 for trial in stopped)


@pytest.mark.parametrize(
    ("database_url", "made_anew"),
    [("sqlite", True), ("sqlite", False), ("postgresql", False)],  # SQLite reuses the ids
    indirect=["database_url"],
)
def test_a_study_deleted_while_its_images_are_loaded_is_left_alone(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_anew: bool
) -> None:
    small = {**TINY, "trials": 1, "study": "s", "storage": database_url, "runs_dir": tmp_path}
    run_study(**small)

    def load(*given: Any, **options: Any) -> Any:
        with closing(open_database(database_url)) as db:
            optuna.delete_study(study_name="s", storage=db.optuna)
            monkeypatch.undo()
            if made_anew:
                run_study(**small)
        return load_study_task(*given, **options)

    monkeypatch.setattr("search.running.run.load_study_task", load)
    with pytest.raises(StudyGoneError, match="study 's' was deleted while this ran"):
        run_study(**{**small, "trials": 4, "enqueue": "dropout=0.5", "continue_trials": 0})
    with closing(open_database(database_url)) as db:
        assert optuna.get_all_study_names(db.optuna) == ["s"] * made_anew
        if made_anew:
            view = view_study(require_study(db, "s"))
            assert (view.spec.trials, view.finished, view.count()) == (1, 1, 1)
