"""The study's note in optuna-dashboard: Markdown whose raw HTML reaches the browser unsanitised."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from search.analysis.comparison_words import lowest_arm
from search.analysis.findings import stopped_trials
from search.analysis.wording import capitalized
from search.pages.render import in_utc, markdown
from search.store.views import StudyView
from search.terminal.summary import standing_in_words

TOP = 10
# Marks that no page displays, as those of earlier versions, comments, were. Each on its own line,
# where no text from a study file or a class name can put them.
BEGIN = (
    "[//]: # (cnn-search: begin. Text up to the end mark is rewritten; write above or below it.)"
)
END = "[//]: # (cnn-search: end)"
_MARK = r"^(?:<!-- |\[//\]: # \()cnn-search: {}(?: -->|\))[ \t]*"
_BEGIN = re.compile(_MARK.format(r"begin\b[^\n]*?") + r"\r?\n", re.MULTILINE)
_END = re.compile(_MARK.format("end") + r"(?:\r?\n|\Z)", re.MULTILINE)
# Its beginning and its end as written by earlier versions, which had no marks.
_FIRST = re.compile(r"^# [^\n]*\n\n[^\n]*\btrials finished\*\*", re.MULTILINE)
_LAST = re.compile(r"^(`{3,})toml\n.*?^\1(?:\n|\Z)", re.MULTILINE | re.DOTALL)


def study_note(view: StudyView) -> str:
    """Markdown of about 4 kB, however long the study."""
    spec, ranked = view.spec, view.leaderboard[:TOP]
    lowest, verdict = lowest_arm(view)
    flag, total = ("--repeats", spec.repeats) if spec.is_comparison else ("--trials", spec.trials)
    return markdown(
        "note.md",
        view=view,
        standing=_standing(view),
        best=view.best,
        lowest=lowest,
        verdict=verdict,
        ranked=ranked,
        top=TOP,
        stopped=stopped_trials(view, TOP - len(ranked)) if ranked else [],
        more=(flag, str(2 * total)),
    )


def _standing(view: StudyView) -> str:
    """`Done`, or `About 14 min left` as of the latest report, because the note may get old."""
    latest = max((t.reports[-1].reported_at for t in view.trials if t.reports), default=None)
    if latest is None:
        has_begun = any(trial.state != "waiting" for trial in view.trials)
        return "No epoch finished yet" if has_begun else "Not started"
    if view.finished >= view.spec.trials:
        return "Done"
    when = in_utc(datetime.fromtimestamp(latest, UTC))
    return f"{capitalized(standing_in_words(view))} as of {when}"


def placed(ours: str, note: str) -> str:
    """A study's note with our part replaced or, if it had none, appended.

    What users wrote around our part is kept verbatim, but for an empty line before it: our marks
    would be displayed as the rest of a paragraph.
    """
    section = f"{BEGIN}\n\n{ours.rstrip()}\n\n{END}\n"
    found = _ours_in(note)
    if found is not None:
        above = note[: found[0]]
        gap = "\n" if above[:-1].rpartition("\n")[2].strip(" \t\r") else ""
        return above + gap + section + note[found[1] :]
    return f"{note.rstrip()}\n\n{section}" if note.strip() else section


def _ours_in(note: str) -> tuple[int, int] | None:
    for begin, end in ((_BEGIN, _END), (_FIRST, _LAST)):
        first = begin.search(note)
        last = first and end.search(note, first.end())
        if last:
            *_, nearest = begin.finditer(note, 0, last.start())
            return nearest.start(), last.end()
    return None
