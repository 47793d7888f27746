from __future__ import annotations

import re
import tarfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from optuna_dashboard import get_note

from search.pages.note import BEGIN, END, placed, study_note
from search.pages.report import make_report
from search.spec.config import Earlier
from search.spec.extensions import Extension
from search.store.views import StudyView
from search.terminal.summary import standing_in_words, status_text
from tests.search.made_up_views import big_study, comparison_view, study_view, trial_view

FIXTURE = Path(__file__).parents[2] / "fixtures" / "made_by_3bc7fe6.tar.xz"
OURS = "# Study\n\n## Best trials\n\nnone\n"
SECTION = f"{BEGIN}\n\n{OURS.rstrip()}\n\n{END}\n"
# As earlier versions marked it.
COMMENTS = "<!-- cnn-search: begin. What -->\nold\n<!-- cnn-search: end -->\n"


@pytest.fixture(autouse=True)
def _reports_without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.pages.report.FIGURES", {})


def rows(markdown: str) -> list[list[str]]:
    """The cells of the first table, without its header."""
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall("<td[^>]*>(.*?)</td>", row) for row in body.split("<tr>")[1:]]


def test_the_leaderboard_has_complete_trials_then_stopped_ones(small_study: StudyView) -> None:
    table = rows(study_note(small_study))
    assert [row[:6] for row in table] == [
        ["1", "#3", "0.2500", "91.67 %", "300 000", "2 of 3"],
        ["2", "#1", "0.3000", "90.00 %", "400 000", "3 of 3"],
        ["3", "#0", "0.4000", "86.67 %", "221 950", "3 of 3"],
        ["4", "#9", "0.4400", "85.33 %", "60 000", "2 of 2"],
        ["", "#2", "0.6000", "80.00 %", "90 000", "2 of 2, pruned"],
    ]
    assert table[2][6].startswith("baseline: ")


def test_the_note_of_a_search(small_study: StudyView) -> None:
    note = study_note(small_study)
    for said in (
        "**6 of 50 trials finished** (4 complete, 2 pruned, 2 failed, 1 running, 1 queued)",
        "Trial 4 failed: out of memory: &#60;b&#62;GPU&#60;/b&#62;",
        "Best is trial 3: loss 0.2500, accuracy 91.67 % ± 0.28 (sampling)",
        "The baseline, trial 0: loss 0.4000, accuracy 86.67 % ± 0.34 (sampling)",
        "Over the baseline: loss 0.1500 lower and accuracy 5.00 points higher",
        "made only from complete trials (4), without pruned ones (2)",
        "50 000 training and 10 000 validation images, 5 classes, 1 × 28 × 28 pixels",
        "stratified split, seed 7",
        "python -m search.study --study fashion --trials 100",
        "Not evaluated yet.",
    ):
        assert said in note


def test_only_a_study_with_a_baseline_is_compared_with_it(small_study: StudyView) -> None:
    trials = [replace(trial, is_baseline=False) for trial in small_study.trials]
    spec = replace(small_study.spec, baseline=None)
    without = study_note(replace(small_study, spec=spec, trials=tuple(trials)))
    heads = [re.findall("^## (.*)", note, re.M) for note in (without, study_note(small_study))]
    assert [found[1] for found in heads] == ["The best trial", "Against the baseline"]
    assert "The best, trial 3: " in without
    assert "baseline" not in without.split("## What mattered")[0]


def test_the_note_of_a_comparison_is_about_its_arms() -> None:
    view = comparison_view({"base": [0.5, 0.52, 0.48], "<b>low</b>": [0.40, 0.43, 0.39]})
    lost = comparison_view({"base": [0.5, 0.52], "lost": [None] * 2})
    note, report = study_note(view), make_report(view, datetime.now(UTC)).markdown
    assert "&#60;b&#62;low&#60;/b&#62;” has the lowest mean validation loss, 0.4067" in note
    assert "Against the base, “base”: better.\n" in note
    assert note.split("\n")[2] in report.split("\n")
    table = re.findall(r"^\|.*", note, re.MULTILINE)
    assert len(table) == 4
    assert "\n".join(table) in report
    assert [row[-1] for row in rows(note)] == ["the base", "better"]
    assert [row[-1] for row in rows(study_note(lost))] == [
        "the base",
        "worse: it diverged in every seed",
    ]
    assert "python -m search.report --study fashion" in note
    assert "“Hyperparameter Importance” of this dashboard says nothing about a comparison" in note
    for foreign in ("## Best trials", "baseline", "Best is trial"):
        assert foreign not in note
    assert "No arm has been trained to its end yet." in study_note(
        comparison_view({"a": []}, repeats=1)
    )


def test_the_note_says_how_far_the_study_is(small_study: StudyView) -> None:
    done = replace(small_study, spec=small_study.spec.with_total(6))
    assert "\nDone: **6 of 6 trials finished**" in study_note(done)
    assert "\nNot started: **0 of 50" in study_note(study_view())
    for state in ("failed", "interrupted"):
        begun = study_view([trial_view(0, [], state=state)])
        assert "\nNo epoch finished yet: **0 of 50" in study_note(begun)
    left = standing_in_words(small_study)  # which has its own tests
    assert re.fullmatch("about .* left, give or take .* %", left)
    assert f"\nA{left[1:]} as of 2026-03-01 09:09 UTC: " in study_note(small_study)
    assert f"Time: {left}." in " ".join(status_text(small_study).split())
    running = [trial_view(number, [0.5], state="running") for number in (0, 1)]
    assert "No estimate yet as of 2026-03-01" in study_note(study_view(running[:1]))  # the baseline
    assert " % as of 2026-03-01" in study_note(study_view(running))


def test_paused_and_interrupted_trials_are_explained() -> None:
    held = [trial_view(0, [0.5], state="paused"), trial_view(1, [0.5], state="interrupted")]
    note = study_note(study_view(held))
    assert "\nPaused: on hold; it resumes if it is worth its next epochs. This dash" in note
    assert "\nInterrupted: its worker is gone or was stopped" in note


def test_any_study_has_a_short_note() -> None:
    for trials in (0, 1000):
        assert 500 < len(study_note(big_study(trials, 12))) < 6_000
    losses = {f"arm {number}": [1 - number / 500, 0.9] for number in range(200)}
    note = study_note(comparison_view(losses))
    assert 500 < len(note) < 6_000
    assert [row[0] for row in rows(note)] == [f"arm {number}" for number in range(190, 200)]
    assert "The best 10 of 200 arms; the report has all of them" in note
    assert "python -m search.report --study" in note
    assert "again.toml" not in note


@pytest.mark.parametrize(
    ("there", "becomes"),
    [
        ("", SECTION),
        ("mine", f"mine\n\n{SECTION}"),
        ("# mine\n\n## Best trials\n", f"# mine\n\n## Best trials\n\n{SECTION}"),
        (f"above\n{BEGIN}\nold\n{END}\nbelow\n", f"above\n\n{SECTION}below\n"),
        (f"above\n\n{BEGIN}\nold\n{END}\nbelow\n", f"above\n\n{SECTION}below\n"),
        (f"above\r\n \r\n{BEGIN}\nold\n{END}\n", f"above\r\n \r\n{SECTION}"),
        (f"above\n{COMMENTS}below\n", f"above\n\n{SECTION}below\n"),
        (f"{BEGIN}\r\nold\r\n{END}\r\nbelow", f"{SECTION}below"),
        ("<!-- cnn-search: begin -->\nold\n<!-- cnn-search: end --> \nbelow", f"{SECTION}below"),
        # Half a section is the user's: nothing is removed from it.
        (f"above\n{BEGIN}\nmine", f"above\n{BEGIN}\nmine\n\n{SECTION}"),
        (f"{BEGIN}\nmine\n{BEGIN}\nold\n{END}\n", f"{BEGIN}\nmine\n\n{SECTION}"),
        (f"I like `{BEGIN}` and {END}", f"I like `{BEGIN}` and {END}\n\n{SECTION}"),
    ],
)
def test_our_section_replaces_only_itself(there: str, becomes: str) -> None:
    assert placed(OURS, there) == becomes


def test_the_marks_are_not_displayed() -> None:
    for there in ("mine", f"mine\n{SECTION}below"):
        html = MarkdownIt("commonmark").render(placed(OURS, there))
        assert "cnn-search" not in html
        assert html.startswith("<p>mine</p>")


@given(above=st.text(), below=st.text(), first=st.text(), second=st.text())
def test_text_around_our_section_stays_unchanged(
    above: str, below: str, first: str, second: str
) -> None:
    once = placed(first, "")
    whole = f"{above}\n\n{once}{below}"
    assert placed(second, whole) == f"{above}\n\n{placed(second, '')}{below}"


def test_the_same_values_are_promised_only_if_the_file_says_all(small_study: StudyView) -> None:
    earlier = Earlier(
        source="a", data="b", objective="validation_loss", best=None, configurations=()
    )
    continued = replace(small_study.trials[1], continued=True)
    for view, promised in (
        (small_study, True),
        (replace(small_study, stop_when_flat=0.01), True),  # but it is not flat
        (replace(small_study, stopped="flat"), False),
        (replace(small_study, earlier=(earlier,)), False),
        (replace(small_study, trials=(continued,)), False),
    ):
        for text in (study_note(view), make_report(view, datetime.now(UTC)).markdown):
            condition = "bit-identical if this study began with its present total and budget"
            assert (condition in text) == promised
            assert ("same settings but other trials" in text) != promised


def test_files_that_a_repeated_study_needs_are_named(small_study: StudyView) -> None:
    told = "Save it where these paths lead to the files: stripes.py, own/data.py. "
    files = [Extension(name=name, sha256="", path="") for name in ("stripes.py", "own/data.py")]
    spec = replace(small_study.spec, extensions=tuple(files))
    view = replace(small_study, spec=spec)
    for text in (study_note(view), make_report(view, datetime.now(UTC)).markdown):
        assert told in text
    assert "Save it where" not in study_note(small_study)


@pytest.mark.parametrize(
    "line", [f"{BEGIN}\n", f"{END}\n", "# a\n\n1 trials finished**\n", "# a\n\n"]
)
def test_a_long_note_takes_little_time(line: str) -> None:
    whole = line * (200_000 // len(line))
    began = time.process_time()
    placed(OURS, whole)
    assert time.process_time() - began < 5


def test_markers_in_a_title_have_no_effect() -> None:
    note = study_note(study_view(title=f"a {BEGIN} {END} b"))
    whole = f"above\n\n{placed(note, '')}below\n"
    assert placed(note, placed(note, whole)) == whole


def test_notes_of_the_version_without_markers_are_recognised(tmp_path: Path) -> None:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    [database] = tmp_path.rglob("studies.db")
    names = optuna.get_all_study_names(f"sqlite:///{database}")
    assert len(names) == 4
    for name in names:
        note = get_note(optuna.load_study(study_name=name, storage=f"sqlite:///{database}"))
        assert "trials finished" in note
        assert placed(OURS, note) == SECTION
        assert placed(OURS, f"above\n\n{note}\nbelow") == f"above\n\n{SECTION}\nbelow"
