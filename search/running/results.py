"""A study's results as tables and figures, read from its database, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields
from datetime import UTC
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Self

import plotly.graph_objects as go
from rich.table import Table
from rich.text import Text

from models.checks import shown
from search.analysis.comparison import against_base, arm_of, ranked_arms
from search.analysis.comparison_words import SPREAD, verdict_in_words
from search.analysis.findings import size_name
from search.analysis.measures import MEASURES, busy_seconds, legend, measured, sampling_error
from search.analysis.wording import data_in_words, printable, short_config, spread
from search.figures import FIGURES, draw_all
from search.spec.domains import SpecError
from search.spec.study_name import check_study_name
from search.store import default_storage
from search.store.extensions import read_spec
from search.store.opening import open_database
from search.store.studies import require_study
from search.store.views import StudyView, TrialView, view_study
from search.terminal.frame import frame
from search.terminal.progress import to_html
from search.training.epoch import Epoch

if TYPE_CHECKING:
    import pandas

MEASURED = tuple(name for name in MEASURES if not name.startswith("test"))
TESTED = ("requested_epochs", "images", "accuracy", "error", "loss", "std", "loss_std")
TOP, LINES = 10, 14  # trials that a notebook shows, below so many lines of status
WORDS = ("state", "arm", "verdict", "configuration")  # left-aligned columns
EPOCH = tuple(field.name for field in fields(Epoch) if field.name != "metrics")
WHOSE = ("trial", "state", "arm", "repeat")
OF_TRAINING = ("best_epoch", "value", "epochs", "learning_rate", "seconds", "started", "finished")
TRIALS = (*WHOSE, "baseline", *MEASURED, *OF_TRAINING, "reason")
COLUMNS = {  # of a table without rows; parameters and metrics add theirs
    "trials": TRIALS,
    "epochs": (*WHOSE, "value", *EPOCH),
    "results": ("trial", "arm", "opened_at", "seeds", *TESTED),
    "leaderboard": ("rank", *TRIALS, "configuration"),
}


class Study(StudyView):
    """A study as it was when it was read: its specification, trials and every test evaluation.

    At the end of a notebook cell it shows its status, and its best trials or its arms.
    """

    @classmethod
    def of(cls, view: StudyView) -> Self:
        return cls(**{field.name: getattr(view, field.name) for field in fields(view)})

    def to_pandas(self, table: str = "trials") -> pandas.DataFrame:
        """One of its tables, with columns also if it has no rows; missing values are None or NaN.

        Example:
            >>> study.to_pandas("epochs").query("trial == 0").validation_loss
            >>> rows = study.to_pandas().to_dict("records")  # plain dicts

        Args:
            table: `trials`, by number (`trial`), finished or not. `state`: running, paused (at a
                rung), interrupted (begun, but held by no worker), complete, pruned, failed or
                waiting (not begun); `baseline`: made by hand; `arm`, `repeat` (from 0): of a
                comparison. `train_*` and `validation_*`: at `best_epoch`, that of the lowest
                `value` (of the study's objective), losses in nats, errors and accuracies in [0, 1];
                `calibrated_validation_loss`: after the logits are divided by the best temperature.
                Then the study's own metrics, at that epoch, too.
                `parameters`: of the network; `multiply_adds`: for one image; `epochs`: trained;
                `learning_rate`: its peak; `seconds`: spent on training and validation; `started`,
                `finished`: in UTC; `reason`: why it failed; `params_<name>`: each searched
                parameter.
                `epochs`: the finished ones of each trial, with the fields of
                `search.training.epoch.Epoch` and a column for each of its metrics. `results`: test
                evaluations, with means over the seeds and standard deviations (`std` of `accuracy`
                and `error`, `loss_std`). `opened_at`: when the test set was read, in UTC;
                `seeds`: of the networks, in one text; `requested_epochs`: those given to
                `finalize` or by the study, else None; `images`: in the test set; `loss`: in nats.
                `leaderboard`: trials, best first, with their `rank`, None if not complete, and
                `configuration` in words. For a comparison it lists arms: number of `seeds` that
                trained to the end, `failed` ones, means over the seeds with standard deviations
                (`_std`), and for the study's objective the mean `difference` from the base, `p`
                after Holm, and `verdict`.
        """
        if table not in TABLES:
            raise SpecError("table", f"table must be one of {', '.join(TABLES)}, but got {table!r}")
        import pandas  # half a second

        rows = TABLES[table](self)
        return pandas.DataFrame(rows, columns=None if rows else COLUMNS[table])

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.finished} of {self.spec.trials} trials finished)"

    def _repr_html_(self) -> str:
        stands = frame(self, height=LINES, elapsed=busy_seconds(self))
        return to_html(stands, self.standings(TOP))

    def standings(self, top: int | None = None) -> Table:
        """Trials or arms by rank, for rich to print; at most `top` of them (None: all)."""
        objective, error = self.spec.objective, "validation_error"
        images = self.dataset.validation_count
        if self.spec.is_comparison:
            columns = ["rank", "arm", "seeds", "failed", objective, error, "verdict"]
            base = printable(self.spec.arms[0].name)
            meaning = f"{SPREAD}; verdict against “{base}”: paired t test, corrected after Holm."
        else:
            columns = ["rank", "trial", "state", objective, error, "epochs", size_name(self)]
            columns.append("configuration")  # cut to the width that the others leave
            meaning = (
                f"At each trial's epoch with the lowest {self.spec.value.label}; only complete "
                f"trials have a rank. {legend(images)}"
            )
        columns = list(dict.fromkeys(columns))  # the error may be the objective
        table = Table(title=Text(printable(self.name)), box=None, pad_edge=False)
        table.expand = not self.spec.is_comparison
        table.caption = Text(f"{meaning} {data_in_words(self)}.", "dim", justify="left")
        heads = {objective: self.spec.value.word.split()[-1], error: "error (%)"}
        for name in columns:
            table.add_column(
                heads.get(name, name),
                justify="left" if name in WORDS else "right",
                ratio=1 if name == "configuration" else None,
                no_wrap=name not in ("arm", "verdict"),
                overflow="fold" if name in ("arm", "verdict") else "ellipsis",
            )
        for row in _leaderboard(self)[:top]:
            if "trial" in row and row[error] is not None:
                row[f"{error}_std"] = sampling_error(row[error], images)
            table.add_row(*(_cell(row, name) for name in columns))
        return table


def load_study(
    study: str | None = None, *, storage: str | None = None, runs_dir: str | Path | None = None
) -> Study:
    """A study as it is now; only reads the database, also while the study runs.

    Example:
        >>> study = load_study("digits")
        >>> study.finished, study.best.number, study.best.best.value
        >>> study.to_pandas().sort_values("value").head()

    Args:
        study: its name; None for the one that was worked on last.
        storage: URL of the database; None: $SEARCH_STORAGE, or studies.db in the current folder.
        runs_dir: where its files are, among them copies of your own Python files.

    Returns:
        Specification, data set, trials with their epochs, and every test evaluation.

    Raises:
        SpecError: an invalid study name.
        StorageError: no such database or study.
    """
    if study is not None:
        check_study_name(study)
    storage = storage or default_storage()
    with closing(open_database(storage, must_exist=True, runs_dir=runs_dir)) as db:
        return Study.of(view_study(require_study(db, study, read_spec)))


def _trials_table(view: StudyView) -> list[dict[str, Any]]:
    """A row for each trial, by number; all have the same keys."""
    searched = list(dict.fromkeys(name for trial in view.trials for name in trial.values))
    return [
        {
            **_whose(trial),
            "baseline": trial.is_baseline,
            **{name: measured(trial, name) for name in (*MEASURED, *view.spec.metrics)},
            "best_epoch": None if trial.best is None else trial.best.epoch,
            "value": None if trial.best is None else trial.best.value,
            "epochs": len(trial.curve),
            "learning_rate": None if trial.config is None else trial.config.recipe.learning_rate,
            "seconds": trial.seconds,
            "started": trial.started and trial.started.astimezone(UTC),
            "finished": trial.finished and trial.finished.astimezone(UTC),
            "reason": trial.reason,
            **{f"params_{name}": trial.values.get(name) for name in searched},
        }
        for trial in view.trials
    ]


def _epochs_table(view: StudyView) -> list[dict[str, Any]]:
    """A row for each finished epoch of each trial, by trial and epoch; all have the same keys."""
    rows = [(trial, row) for trial in view.trials for row in trial.curve]
    metrics = dict.fromkeys(name for _, row in rows for name in row.metrics)
    return [
        {
            **_whose(trial),
            "value": row.value,
            **{name: getattr(row, name) for name in EPOCH},
            **{name: row.metrics.get(name) for name in metrics},
        }
        for trial, row in rows
    ]


def _results_table(view: StudyView) -> list[dict[str, Any]]:
    """A row for each test evaluation; None if it did not end, or the trial no longer exists."""
    return [
        {
            "trial": result.trial_number if result.is_ours else None,
            "arm": arm_of(view, result),
            "opened_at": result.opened_at,
            "seeds": ", ".join(map(str, result.seeds)),
            **{name: (result.figures or {}).get(name) for name in TESTED},
        }
        for result in view.results
    ]


def _leaderboard(view: StudyView) -> list[dict[str, Any]]:
    """A row for each trial of a search, or each arm of a comparison, best first."""
    if view.spec.is_comparison:
        return _arms(view)
    rows = {row["trial"]: row for row in _trials_table(view)}
    found = list[dict[str, Any]]()
    for place, trial in enumerate(view.ranking, start=1):
        rank = place if trial.state == "complete" else None
        words = trial.reason if trial.config is None else short_config(trial.config)
        what = f"{'baseline: ' * trial.is_baseline}{words or ''}"
        found.append({"rank": rank, **rows[trial.number], "configuration": what})
    return found


def _cell(row: Mapping[str, Any], name: str) -> Text:
    value, around = row[name], row.get(f"{name}_std")
    if value is None:
        return Text()
    if name not in MEASURES:
        return Text(printable(str(value)))
    bare = MEASURES[name].bare
    return Text(bare(value) + (f" ± {bare(around)}" if around else ""))


def _arms(view: StudyView) -> list[dict[str, Any]]:
    objective, rows = view.spec.objective, list[dict[str, Any]]()
    found = {one.arm: one for one in against_base(view, objective)}
    for rank, runs in enumerate(ranked_arms(view), start=1):
        row: dict[str, Any] = {"rank": rank if runs.complete else None, "arm": runs.arm.name}
        row |= {"seeds": len(runs.complete), "failed": len(runs.failed)}
        named = (objective, "validation_error", "parameters", *view.spec.metrics)
        for name in dict.fromkeys(named):
            values = runs.values(name)
            row |= {name: mean(values) if values else None, f"{name}_std": spread(values)}
        one = found.get(runs.arm.name)
        row |= {"difference": one and one.mean, "p": one and one.p_holm}
        rows.append({**row, "verdict": "the base" if one is None else verdict_in_words(one)})
    return rows


def _whose(trial: TrialView) -> dict[str, Any]:
    return {"trial": trial.number, **{name: getattr(trial, name) for name in WHOSE[1:]}}


def study_figures(view: StudyView) -> dict[str, go.Figure]:
    """The figures of the study's report by file name, in the report's order.

    Example:
        >>> shown = study_figures(load_study("digits"))
        >>> shown["history"].show()

    Args:
        view: from `load_study` or `run_study`.

    Returns:
        Plotly figures, which the caller may change: those of `search.figures.FIGURES` that apply to
        such a study. One that has nothing to show yet says so.
    """
    if not isinstance(view, StudyView):
        raise SpecError("view", f"give a study, as load_study returns it, but got {shown(view)}")
    return draw_all(FIGURES, view)


TABLES: Mapping[str, Callable[[StudyView], list[dict[str, Any]]]] = {
    "trials": _trials_table,
    "epochs": _epochs_table,
    "results": _results_table,
    "leaderboard": _leaderboard,
}
