"""Searches replayed on made-up records."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler

from benchmarks import replay
from benchmarks.curves import data_set, draw
from benchmarks.prior import elsewhere, learn, load
from benchmarks.replay_results import compare
from benchmarks.replay_simulation import (
    CALIBRATED,
    HeldOutScore,
    Incumbent,
    SearchState,
    Strategy,
    on_cpu,
    simulate,
)
from benchmarks.replay_strategies import STRATEGIES, asha, find_strategy
from benchmarks.replay_surrogate import Surrogate, make_world
from benchmarks.replay_worlds import Pool, read_runs
from search.sampling.priors import prior_for
from search.spec.config import StudySpec

pytestmark = pytest.mark.usefixtures("few_draws")
CONFIGS, EPOCHS = 12, 4
BEST = 7  # configuration


def losses(number: int) -> list[float]:
    """By epoch; the further from the best configuration, the higher."""
    return [1.0 + abs(number - BEST) / 10 - epoch / 100 for epoch in range(EPOCHS + 1)]


def record(
    file: Path,
    holdout: Callable[[int], float] = lambda number: losses(number)[-1] / 10,
    seed: int = 0,
    mode: str = "wt",
) -> None:
    """Configuration n takes n + 1 seconds an epoch."""
    with gzip.open(file, mode) as lines:
        for number in range(CONFIGS):
            reports = [
                {
                    "epoch": epoch,
                    "cpu_seconds": 0.0 if epoch == 0 else number + 1.0,
                    "validation_loss": loss,
                    "calibrated_validation_loss": loss,
                    "validation_error": loss / 10,
                    "holdout_error": holdout(number),
                    "calibrated_holdout_loss": holdout(number),
                }
                for epoch, loss in enumerate(losses(number))
            ]
            one = {
                "number": number,
                "seed": seed,
                "epochs": EPOCHS,
                "params": draw(number, EPOCHS)[0],
                "made_on": {"device": "cpu"},
                "multiply_adds": 1_000_000 * (number + 1),
                "reports": reports,
            }
            lines.write(json.dumps(one) + "\n")


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    record(tmp_path / "made_up.jsonl.gz")
    return Pool(read_runs(tmp_path / "made_up.jsonl.gz"))


class Oracle(RandomSampler):
    """Always proposes the best configuration first."""

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return dict(draw(BEST, EPOCHS)[0])


ORACLE = Strategy(description="", sampler=lambda progress: Oracle(seed=progress.spec.seed))


def watched(strategy: Strategy, seen: list[Any]) -> Strategy:
    """The same strategy, which also records in `seen` what it is shown."""

    def after(progress: SearchState, entry: Any) -> Any:
        seen.append((entry.trial.number, dict(entry.trial.params), dict(entry.curve)))
        return strategy.after(progress, entry)

    return Strategy(description="", sampler=strategy.sampler, objective=CALIBRATED, after=after)


def test_an_oracle_wins_at_once_and_random_search_finds_it_in_the_end(pool: Pool) -> None:
    found = simulate(ORACLE, pool, 0, 1)
    assert found[-1][1:] == pytest.approx(pool.target)
    assert found[-1].compute == pytest.approx(EPOCHS * (BEST + 1) / pool.whole_seconds)
    for seed in range(3):
        points = simulate(STRATEGIES["random"], pool, seed, 1)
        assert points[-1][1:] == pytest.approx(pool.target)
        assert points[-1].compute >= found[-1].compute


@pytest.mark.parametrize("workers", [1, 3])
def test_simulated_time_is_that_of_the_trainings(pool: Pool, workers: int) -> None:
    seen: list[Any] = []
    points = simulate(watched(STRATEGIES["random"], seen), pool, 5, workers)
    numbers = {json.dumps(draw(n, EPOCHS)[0], sort_keys=True): n for n in range(CONFIGS)}
    order = [
        numbers[json.dumps(params, sort_keys=True)] for _, params, curve in seen if len(curve) == 1
    ]
    assert sorted(order) == list(range(CONFIGS))  # each once; the first report of each, in order
    if workers == 1:
        before = order[: order.index(BEST)]
        seconds = sum(EPOCHS * (number + 1) for number in (*before, BEST))
        assert points[-1].compute == pytest.approx(seconds / pool.whole_seconds)
    assert points[-1].compute <= CONFIGS * workers


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_no_strategy_sees_what_it_is_scored_by(name: str, tmp_path: Path) -> None:
    runs = []
    for place, holdout in enumerate((lambda _number: 0.5, lambda number: number / 100)):
        file = tmp_path / f"{place}.jsonl.gz"
        record(file, holdout)
        points = simulate(find_strategy(name, "tpe"), Pool(read_runs(file)), 1, 2)
        runs.append([point.compute for point in points])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("factor", [2, 4])
def test_asha_decides_as_ray_does(factor: int) -> None:
    schedulers = pytest.importorskip("ray.tune.schedulers")
    rays = schedulers.ASHAScheduler(
        metric="loss", mode="min", max_t=20, grace_period=1, reduction_factor=factor
    )
    ours = asha(factor)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    progress = SearchState(StudySpec(dataset="", trials=40), budget=1.0)
    for _ in range(40):
        entry = progress.begin(study.ask(), work=1)
        rays.on_trial_add(None, stand_in := type("Trial", (), {"trial_id": entry.trial.number})())
        for epoch in range(1, 20):
            loss = entry.trial.suggest_float(str(epoch), 0, 1)
            entry.curve[epoch] = loss
            result = {"training_iteration": epoch, "loss": loss}
            decided = rays.on_trial_result(None, stand_in, result)
            assert ours(progress, entry) == {"CONTINUE": "go", "STOP": "stop"}[decided]
            if decided == "STOP":
                break


def test_the_command_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, results, figure = (tmp_path / name for name in ("a.jsonl.gz", "r.json", "f.html"))
    record(file)
    words = [str(file), "--cache", str(tmp_path / "kept"), "--workers", "1", "2", "--horizon", "20"]
    words += ["--json", str(results), "--figure", str(figure), "--strategies", "asha", "ours@raw"]
    words += ["--sampler", "tpe"]
    assert replay.main([*words, "--repeats", "2"]) == 0
    assert replay.main([*words, "--repeats", "3"]) == 0
    output = capsys.readouterr()
    assert "12 replays on record, 6 to go" in output.err
    assert "| ours@raw |" in output.out
    found = json.loads(results.read_text())
    strategies = found["worlds"]["a, pool"]["workers"]["2"]
    assert set(strategies) == {"random", "asha", "ours@raw"}
    assert strategies["random"]["compute_to_within"]["0.1"]["reached"] == 1
    assert strategies["random"]["regret_after"]["20"]["mean"] == 0
    assert strategies["random"]["compute_to_within"]["0.3"]["ratio"] == [1, 1, 1]
    assert "plotly" in figure.read_text()
    with pytest.raises(SystemExit):
        replay.main([str(file), "--strategies", "guesswork"])
    assert "no strategy 'guesswork'; known: random, " in capsys.readouterr().err


def test_a_prior_is_learned_only_from_the_other_records(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jsonl.gz" for name in "ab"]
    for file in files:
        record(file)
    words = [*map(str, files), "--cache", str(tmp_path), "--repeats", "1", "--workers", "1"]
    words += ["--horizon", "5", "--sampler", "random"]
    names = ["ours", "ours-inverted", "ours-no-prior"]
    assert replay.main([*words, "--strategies", *names]) == 0
    true, opposite = (
        json.loads(file.read_text())["promised"]
        for file in sorted(tmp_path.glob("prior-*"), key=lambda file: file.stat().st_mtime_ns)
    )
    assert true == [[-value for value in row] for row in opposite] != opposite


def test_a_world_of_a_record(tmp_path: Path) -> None:
    record(tmp_path / "a.jsonl.gz")
    world = make_world(tmp_path / "a.jsonl.gz", "pool", tmp_path)
    assert world.describe()["configurations"] == CONFIGS
    assert world.target == pytest.approx((losses(BEST)[-1] / 10,) * 2)


def test_on_a_cpu_an_epoch_takes_as_long_as_the_network_has_work(pool: Pool) -> None:
    best, usual = 4e6 + 1e6 * (BEST + 1), 4e6 + 1e6 * (CONFIGS + 1) / 2
    assert simulate(ORACLE, pool, 0, 1, clock=on_cpu)[-1].compute == pytest.approx(best / usual)


def test_a_second_seed_is_used_for_scoring(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    record(file)
    record(file, lambda number: number / 100, seed=1, mode="at")
    runs = read_runs(file)
    assert len(runs) == CONFIGS
    assert runs[3].hidden[-1] == (0.03, 0.03)
    assert runs[3].seen[CALIBRATED][-1] == losses(3)[-1]


def test_a_surrogate_reports_its_error_and_is_reproducible(tmp_path: Path) -> None:
    record(tmp_path / "a.jsonl.gz")
    worlds = [Surrogate(read_runs(tmp_path / "a.jsonl.gz"), tmp_path / "kept") for _ in range(2)]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert worlds[0].describe() == worlds[1].describe()
    errors = worlds[0].describe()["cross_validated"]
    assert -1 <= errors["holdout_error"]["rank_correlation"] <= 1
    lowest, highest = losses(BEST)[-1] / 10, max(losses(number)[1] / 10 for number in (0, 11))
    assert lowest - 0.1 < worlds[0].target.error < highest
    first, again, other = (
        simulate(STRATEGIES["random"], worlds[seed % 2], seed // 2, 2, horizon=5)
        for seed in (0, 1, 2)
    )
    assert first == again != other
    assert all(0 <= point.error <= 1 for point in (*first, *other))


def test_a_prior_is_learned_only_from_other_data_sets() -> None:
    names = ("mnist-8000", "fashion_mnist-8000", "fashion_mnist-50000", "digits", "digits")
    files = [Path(f"{name}.jsonl.gz") for name in names]
    found = elsewhere(Path("other/fashion_mnist-8000.jsonl.gz"), files)
    assert found == [Path("mnist-8000.jsonl.gz"), Path("digits.jsonl.gz")]


def test_priors_for_recorded_data_sets_are_learned_without_their_own_curves() -> None:
    found = sorted(Path(replay.__file__).parent.glob("results/curves/*.jsonl.gz"))
    records = {file: load(file) for file in found}
    for file in found:
        others = learn([records[other] for other in elsewhere(file, found)])
        assert json.loads(prior_for(data_set(file)).read_text()) == others
    everything = json.loads(prior_for("folder:/pets").read_text())
    assert everything == learn(list(records.values()))


@pytest.mark.parametrize(
    ("mine", "its", "expected"),
    [
        ([1, 1, None, None], [2, 2, None, None], 0.5),  # the medians beside it are 1 and 2
        ([None] * 4, [None] * 4, None),  # neither is known to be faster
        ([4] * 4, [None] * 4, 0.1),  # at most: 4 of the horizon's 40
    ],
)
def test_a_ratio_is_that_of_the_medians_beside_it(
    mine: list[float | None], its: list[float | None], expected: float | None
) -> None:
    best = HeldOutScore(0.1, 0.3)

    def runs(computes: list[float | None]) -> list[list[Incumbent]]:
        return [[] if one is None else [Incumbent(one, *best)] for one in computes]

    found = compare({"a": runs(mine), "b": runs(its)}, best, "b", 40)["a"]
    within = found["compute_to_within"]["0.1"]
    assert within["ratio"][0] == expected
    assert within["ratio_is_at_most"] == (its[1] is None)
