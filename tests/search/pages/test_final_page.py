from __future__ import annotations

import math
import re
from dataclasses import replace
from html import unescape

import pytest

from search.analysis.candidates import Candidate
from search.analysis.final_result import FinalResult, metrics
from search.figures.final import final_pictures
from search.pages.final_page import final_page, final_text
from search.store.records import ResultRow
from tests.search.made_up_views import (
    comparison_view,
    final_result,
    looked_into,
    study_view,
    trial_view,
)

CONFUSION = [
    [190, 10, 0, 0, 0],
    [4, 196, 0, 0, 0],
    [0, 0, 200, 0, 0],
    [0, 0, 0, 200, 0],
    [1, 0, 0, 0, 199],
]


@pytest.fixture(autouse=True)
def _pages_without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.pages.render.get_plotlyjs", lambda: "")  # 4.5 MB of a page


def words(page: str) -> str:
    """The text that a reader sees, without scripts and styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def both(final: FinalResult) -> tuple[str, str]:
    """The page and the summary, each on one line."""
    return words(final_page(final, {})), " ".join(final_text(final).split())


def test_page_and_text_give_the_same_numbers() -> None:
    final = final_result(accuracies=(0.93, 0.94), confusion=CONFUSION)
    page, text = both(final)
    for told in (page, text):
        # training, validation of the trial, test: loss, error, accuracy, images
        assert "training (2 runs) 0.1000 ± 0.0000 4.00 ± 0.00 96.00 ± 0.00 60 000" in told
        assert "epoch 2) 0.2500 8.33 91.67 0.28 10 000" in told
        assert "test (2 runs) 0.2050 ± 0.0071 6.50 ± 0.71 93.50 ± 0.71 1.10 500" in told
        assert "± in a column is the standard deviation over 2 seeds." in told
        assert "93.50 % ± 1.10 (sampling) ± 0.71 (2 seeds)" in told
        assert "T-shirt/top / Trouser 14 10 × T-shirt/top taken for Trouser, 4" in told
        assert "Difference: loss 0.1500 lower and accuracy 5.00 points higher" in told
        assert "500 test images × 2 runs" in told
        assert "occur in the training set" not in told
    for told in both(replace(final, shared=3)):
        assert "Warning: among the test images, 3 of 500 also occur in the training set" in told
    assert "conv1 8×28×28" in page
    assert page.index("Of 500 test images it classifies 93.50 %") < page.index("Study fashion")
    assert "Hardest is T-shirt/top (F1 96.2 %), easiest Pullover, Dress (100.0 %)" in page
    assert "Trial 1 has the lowest" in page
    assert "Licence of the data: MIT (Zalando Research)." in page
    assert "T-shirt/top 100 97.44 95.00 96.20" in page  # precision, recall, F1


def test_it_says_what_always_predicting_the_largest_class_would_reach() -> None:
    told = "Always predicting the largest class, T-shirt/top, would be right for 80.00 %."
    lopsided = [[400, 0, 0, 0, 0], *([25, 0, 0, 0, 0] for _ in range(4))]
    assert told in both(final_result(accuracies=(0.8,), confusion=lopsided))[0]
    assert "Always predicting" not in both(final_result())[0]
    alike = final_result(accuracies=(0.2,), confusion=[[100, 0, 0, 0, 0]] * 5)
    page = both(alike)[0]
    assert "Always predicting one of the 5 largest classes would be right for 20.00 %." in page
    assert "Hardest are Trouser, Pullover, Dress and 1 more (F1 0.0 %), easiest T-shirt" in page
    assert "All classes have the same F1, 100.0 %." in both(final_result())[0]


def test_candidates_are_listed_winner_first_with_their_values_in_the_study() -> None:
    lucky = Candidate(trial=3, epochs=7, searched=0.1, values=(0.26, 0.28))
    steady = Candidate(trial=5, epochs=6, searched=0.2, values=(0.25, 0.26))
    gone = Candidate(trial=8, epochs=4, searched=0.3, values=(math.inf, math.inf))
    page = words(final_page(replace(final_result(), candidates=(lucky, gone, steady)), {}))
    assert "in the study fresh seeds 5 6 0.2000 0.2550 ± 0.0071 3 7 0.1000 0.2700" in page
    assert "0.2700 ± 0.0141 8 4 0.3000 diverged" in page
    view = final_result().view
    view = replace(view, spec=replace(view.spec, objective="validation_error"))
    shares = replace(final_result(view=view), candidates=(lucky, steady))
    assert "in the study (%) fresh seeds (%) 5 6 20.00 25.50 ± 0.71" in words(
        final_page(shares, {})
    )


def test_the_command_that_repeats_it_has_the_epochs_that_were_given() -> None:
    """Not the winner's, which has its own schedule if none were given."""
    found = tuple(Candidate(trial=n, epochs=3, searched=0.1, values=(n / 9,)) for n in (1, 4))
    for given, options in ((None, ""), (9, " --epochs 9")):
        final = replace(final_result(), epochs=3, candidates=found, requested_epochs=given)
        page = words(final_page(final, {}))
        assert f"--candidates 2 --candidate-seeds 1{options} The study itself" in page
        assert metrics(final)["requested_epochs"] == given


def test_a_trial_that_was_the_best_when_it_was_evaluated_is_called_so() -> None:
    """Its evaluation is repeated by its number after the study has gone on."""
    best = final_result()
    assert "has the lowest" in words(final_page(best, {}))
    assert "--trial" not in words(final_page(best, {}))
    beaten = replace(best, trial=best.view.trials[0])
    page = words(final_page(beaten, {}))
    assert "Trial 0 was the study's best when it was evaluated." in unescape(page)
    assert "has the lowest" not in page
    assert "--seeds 2 --trial 0" in page
    assert metrics(beaten)["chosen"] == "the study's best"


def test_calibration_is_reported_before_and_after() -> None:
    final = final_result()
    for told in both(final):
        assert "error on the test set (15 bins) is 3.00 % ± 0.00 (2 seeds); " in told
        assert "Probabilities are the network's own." in told
    for told in both(replace(final, temperature=1.25)):
        assert "divided by 1.250, the temperature that fitted the trial's validation" in told
        assert "bins) from 3.00 % ± 0.00 (2 seeds) to 1.00 % ± 0.00 (2 seeds), and" in told
        assert "from 0.2050 ± 0.0071 to 0.1950 ± 0.0071 (2 seeds); Fashion-MNIST" in told


def test_an_earlier_evaluation_is_noted_and_one_run_has_no_spread(result_row: ResultRow) -> None:
    first = final_result()
    assert "had been evaluated" not in final_page(first, {}) + final_text(first)
    view = study_view([trial_view(0, [0.4])], results=[result_row])
    for told in both(final_result(accuracies=(0.93,), view=view)):
        assert "had been evaluated once before, first on 2026-03-02 10:30 UTC" in told
        assert "seeds 0, 1, 2: accuracy 93.12 % ± 0.25 (sampling) ± 0.12 (3 seeds)" in told
        assert "Test accuracy 93.00 % ± 1.14 (sampling). ± (sampling) is one binomial" in told
        assert "from one seed, so the spread over seeds is not included" in told
        assert "no baseline to compare with" in told
    itself = study_view([trial_view(0, [0.4], is_baseline=True)])
    assert "the study's baseline itself" in final_text(final_result(view=itself))


def test_an_arms_first_evaluation_is_its_own(result_row: ResultRow) -> None:
    compared = comparison_view({"wide": [0.2, 0.3], "base": [0.4, 0.5]})
    of_base = replace(result_row, trial_number=1)
    for told in both(final_result(view=replace(compared, results=(of_base,)))):
        assert "trust the first" not in told
        assert "evaluated before, but not for arm wide. Choosing between arms by" in told
        assert "trial 1, arm base, seeds" in told
    again = replace(result_row, trial_number=2)  # arms take turns
    for told in both(final_result(view=replace(compared, results=(of_base, again)))):
        assert "had been evaluated once before for arm wide, first on 2026-03-02" in told
        assert "trust the first" in told


def test_a_trial_other_than_the_best_and_pictures_of_the_network() -> None:
    why = "Trial 1 was named by hand, <not> the study's best."
    trials = [trial_view(n, [loss], is_baseline=n == 0) for n, loss in enumerate((0.4, 0.55, 0.25))]
    final = final_result(view=study_view(trials))
    final = replace(looked_into(final), trial=trials[1], why=why)
    for told in both(final):
        assert "Difference: loss 0.1500 higher and accuracy 5.00 points lower" in told
    assert why in re.sub(r"\s+", " ", final_text(final))
    page = final_page(final, final_pictures(final))
    assert "Trial 1 was named by hand, &lt;not&gt; the study" in page
    assert "--trial 1" in page
    assert "most confident mistakes" in page
    assert page.count('<img alt="') == 3
    without = final_result(kernels=None)
    assert '<img alt="' not in final_page(without, final_pictures(without))
    assert metrics(final)["chosen"] == why
    assert metrics(final_result())["chosen"] == "the study's best"
