"""The experiments of five student reports: run in full, kept as files, written up.

    python -m benchmarks.experiments --run                  # all that have not ended; resumable
    python -m benchmarks.experiments --run a6_final d_lenet # these
    python -m benchmarks.experiments                        # docs/experiments.md from the files

Each is a ready-made study (`python -m search.study --list`). If a report gives test metrics, each
arm is finalised: its best repeat is trained again on all training images with several seeds and
scored on the test set once. The results are kept in benchmarks/results/experiments/NAME.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.record import ROOT, BenchmarkParser, commit, write_json
from search import load_study
from search.analysis.comparison import ArmRuns, against_base, evaluate_journal, runs_by_arm
from search.analysis.comparison_words import (
    conclusion,
    differing_setup,
    trained_in_words,
    verdict_in_words,
)
from search.analysis.measures import busy_seconds, measure_of
from search.analysis.wording import duration, spread
from search.spec.study_file import read_study_file, ready_made
from search.store.views import StudyView
from search.terminal.commands import run

RESULTS = ROOT / "benchmarks/results/experiments"
PAGE = ROOT / "docs/experiments.md"
REMARKS = RESULTS / "remarks.json"  # by study, what a reader should know besides the metrics
METRICS = ("validation_loss", "validation_accuracy", "train_loss")


def experiments() -> list[str]:
    """The ready-made studies that reproduce a report's experiment, by name."""
    return sorted(path.stem for path in ready_made() if read_study_file(path).get("source"))


def run_whole(name: str, storage: str, seeds: int) -> None:
    """Run or resume the study and the test evaluations that its report calls for."""
    _command("study", "--config", name, "--storage", storage)
    view = load_study(name, storage=storage)
    evaluated = {one.trial_number for one in view.results if one.figures}
    for arm in runs_by_arm(view).values() if view.spec.is_comparison else ():
        numbers = {trial.number for trial in arm.complete}
        wanted = any(key.startswith("test") for key in arm.arm.reported)
        if wanted and numbers and not numbers & evaluated:
            flags = ["--study", name, "--storage", storage, "--arm", arm.arm.name]
            _command("finalize", *flags, "--seeds", str(seeds))
    if not view.spec.is_comparison and not evaluated:
        _command("finalize", "--study", name, "--storage", storage, "--seeds", str(seeds))


def _command(module: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", f"search.{module}", *flags], check=True)


def collect(view: StudyView) -> dict[str, Any]:
    """The results, as they are kept."""
    spec = view.spec
    arms: list[dict[str, Any]] = []
    if spec.is_comparison:
        verdicts = {one.arm: verdict_in_words(one) for one in against_base(view, spec.objective)}
        arms = [
            _arm(view, arm) | {"verdict": verdicts.get(arm.arm.name)}
            for arm in runs_by_arm(view).values()
        ]
    elif view.best is not None and (row := view.best.best) is not None:
        params = (f"{name.replace('_', ' ')} {it}" for name, it in view.best.params.items())
        losses, accuracies = [row.validation_loss], [1 - row.validation_error]
        arms = [
            {
                "name": f"best of {view.finished}: {', '.join(params)}",
                "reported": {},
                "trained": "1",
                "values": {"validation_loss": losses, "validation_accuracy": accuracies},
                "parameters": view.best.parameters,
                "test": _test(view, {view.best.number}),
                "verdict": None,
            }
        ]
    return {
        "study": view.name,
        "title": spec.title,
        "source": spec.source,
        "differs": differing_setup(view),
        "finished": f"{view.finished} of {spec.trials}",
        "arms": arms,
        "journal": [
            {
                "hypothesis": one.entry.hypothesis,
                "outcome": one.outcome,
                "conclusion": conclusion(one),
            }
            for one in evaluate_journal(view)
        ],
        "seconds": busy_seconds(view),
        "hardware": view.hardware,
        "versions": dict(view.versions),
    }


def _arm(view: StudyView, runs: ArmRuns) -> dict[str, Any]:
    return {
        "name": runs.arm.name,
        "reported": dict(runs.arm.reported),
        "trained": trained_in_words(runs),
        "values": {metric: runs.values(metric) for metric in METRICS},
        "best_epochs": [one.best.epoch for one in runs.complete if one.best is not None],
        "parameters": next((one.parameters for one in runs.complete), None),
        "test": _test(view, {one.number for one in runs.complete}),
    }


def _test(view: StudyView, numbers: set[int]) -> dict[str, Any] | None:
    """The first test evaluation of one of these trials."""
    for one in view.results:
        if one.trial_number in numbers and one.figures is not None:
            kept = ("accuracy", "std", "loss", "loss_std", "seeds")
            return {key: one.figures.get(key) for key in kept}
    return None


def page(found: Sequence[Mapping[str, Any]], remarks: Mapping[str, str]) -> str:
    """docs/experiments.md."""
    missing = sorted(set(experiments()) - {one["study"] for one in found})
    lines = [
        "# The reports' experiments",
        "",
        "Five student reports tuned small networks by hand. Each of their experiments is a study "
        "file here, and `python -m benchmarks.experiments` generates this page from the results; "
        "`--run NAME` runs one, resumes it if it was interrupted, and evaluates on the test set "
        "if the report did. The reports' metrics are single runs. Ours are means ± sample "
        "standard deviations over seeds; accuracies in percent; the difference is ours minus "
        "theirs. Verdicts come from paired t tests over the seeds against the first arm, with Holm "
        "correction over the arms of a study; hypotheses are corrected within their entry, not "
        "over the page. All seeds are judged on the same validation images: what another choice "
        "of images would change is in no interval.",
    ]
    for one in found:
        lines += ["", f"## {one['source']}: {one['title']}", "", *_section(one, remarks)]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        short = "[shorter runs of most](../benchmarks/results/experiments_2_cores.md)"
        lines += ["", "## Not run whole yet", "", f"{names}. There are {short}."]
    return "\n".join(lines) + "\n"


def _section(one: Mapping[str, Any], remarks: Mapping[str, str]) -> Iterator[str]:
    differs = f"; {', '.join(one['differs'])}" if one["differs"] else ""
    time = duration(one["seconds"])
    trained = f"{one['finished']} trials, trained for {time} on {one['hardware']}"
    yield f"`python -m benchmarks.experiments --run {one['study']}`:"
    yield f"{trained}, torch {one['versions'].get('torch')}{differs}."
    yield ""
    columns = [
        metric
        for metric in (*METRICS, "test_accuracy", "test_loss")
        if any(_ours(arm, metric) or metric in arm["reported"] for arm in one["arms"])
    ]
    heads = [measure_of(metric).words for metric in columns]
    yield (
        "| arm | seeds | " + " | ".join(f"{head}: report, ours" for head in heads) + " | verdict |"
    )
    yield "|---" * (len(columns) + 3) + "|"
    for arm in one["arms"]:
        cells = [_cell(arm, metric) for metric in columns]
        verdict = "" if arm["verdict"] is None else arm["verdict"]
        yield f"| {arm['name']} | {arm['trained']} | " + " | ".join(cells) + f" | {verdict} |"
    for entry in one["journal"]:
        yield ""
        yield f"**Hypothesis.** {entry['hypothesis']} **Result.** {entry['conclusion']}"
    if one["study"] in remarks:
        yield ""
        yield remarks[one["study"]]


def _ours(arm: Mapping[str, Any], metric: str) -> tuple[float, str] | None:
    """The mean, as a number and as text."""
    measure = measure_of(metric)
    if not metric.startswith("test"):
        values = arm["values"].get(metric) or []
        if not values:
            return None
        middle, around, seeds = mean(values), spread(values), len(values)
    elif arm["test"] is None:
        return None
    else:
        key, deviation = ("loss", "loss_std") if metric == "test_loss" else ("accuracy", "std")
        middle, around, seeds = arm["test"][key], arm["test"][deviation], arm["test"]["seeds"]
    text = measure.bare(middle) + ("" if around is None else f" ± {measure.bare(around)}")
    return middle, text + (f" ({seeds} seeds)" if metric.startswith("test") else "")


def _cell(arm: Mapping[str, Any], metric: str) -> str:
    """`0.2383, **0.2301 ± 0.0012** (−0.0082)`."""
    measure, ours = measure_of(metric), _ours(arm, metric)
    theirs = arm["reported"].get(metric)
    report = "–" if theirs is None else measure.bare(theirs)
    if ours is None:
        return report if theirs is not None else ""
    difference = "" if theirs is None else f" ({measure.signed(ours[0] - theirs)})"
    return f"{report}, **{ours[1]}**{difference}"


def kept() -> list[dict[str, Any]]:
    """The contents of the files, in the order of the reports."""
    files = sorted(path for path in RESULTS.glob("*.json") if path != REMARKS)
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def written() -> str:
    """The page, from the files."""
    return page(kept(), json.loads(REMARKS.read_text(encoding="utf-8")))


def main(argv: list[str] | None = None) -> int:
    parser = BenchmarkParser(__doc__)
    known = experiments()
    parser.add_argument(
        "--run", nargs="*", choices=known, metavar="NAME", help="first run these (or all)"
    )
    parser.add_argument("--keep", nargs="*", metavar="NAME", default=[], help="only collect these")
    parser.add("storage")
    parser.add_counts(("seeds", 3, "of each test evaluation"))
    args = parser.parse_args(argv)
    names = known if args.run == [] else args.run or []
    for name in [*names, *args.keep]:
        if name in names:
            run_whole(name, args.storage, args.seeds)
        result = collect(load_study(name, storage=args.storage))
        write_json(RESULTS / f"{name}.json", {**result, "commit": commit()})
    PAGE.write_text(written(), encoding="utf-8")
    print(f"Written: {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    run(main)
