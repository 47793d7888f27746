from __future__ import annotations

import json
import math

import pytest

from search.analysis.candidates import (
    Candidate,
    candidates_to_dict,
    decision_in_words,
    mean_over_seeds,
    ranked,
)

LOSS = "calibrated_validation_loss"


def candidate(trial: int, *values: float, searched: float = 0.2) -> Candidate:
    return Candidate(trial=trial, epochs=7, searched=searched, values=values)


def test_the_studys_own_value_does_not_count() -> None:
    lucky, steady = candidate(3, 0.26, 0.28, searched=0.1), candidate(5, 0.25, 0.26, searched=0.2)
    assert [one.trial for one in ranked([lucky, steady])] == [5, 3]
    said = decision_in_words([lucky, steady], LOSS)
    assert said.startswith(
        "Trial 5 has the lowest mean calibrated validation loss of the 2 most promising trials, "
        "each trained again with 2 fresh seeds on the study's own split: 0.2550 ± 0.0071. The "
    )
    assert (
        "“trial 5” is lower than that of “trial 3”, a difference of −0.0150 (mean of 2 seeds; "
        "95 % interval after Holm −0.0785 to +0.0485, "
    ) in said
    assert said.endswith("no evidence that “trial 5” is better than the second.")
    assert mean_over_seeds(steady, LOSS) == "0.2550 ± 0.0071"


def test_a_difference_that_all_seeds_show_is_reported() -> None:
    better, worse = candidate(1, 0.20, 0.21, 0.22), candidate(2, 0.30, 0.311, 0.32)
    third = candidate(4, 0.5, 0.5, 0.5)
    assert decision_in_words([third, worse, better], LOSS).endswith(
        ": “trial 1” is better than the second."
    )
    found = candidates_to_dict([third, worse, better], LOSS)
    assert [one["trial"] for one in found["trials"]] == [1, 2, 4]
    difference = found["winner_minus_second"]
    assert difference["mean"] == pytest.approx(-0.10033, abs=1e-5)
    assert difference["std"] == pytest.approx(0.000577, abs=1e-5)
    assert difference["interval_holm"][1] < 0


def test_one_seed_and_divergence_are_reported() -> None:
    gone = candidate(2, math.inf, 0.1)
    one, other = candidate(1, 0.3), candidate(3, 0.4)
    assert "(1 seed, no spread to test with): no evidence" in decision_in_words([one, other], LOSS)
    unlucky = decision_in_words([one, candidate(2, math.inf)], LOSS)  # one seed decides nothing
    assert unlucky.endswith(
        "diverged and cannot be compared: no evidence that “trial 1” is better than the second."
    )
    two = candidate(1, 0.3, 0.31)
    assert ranked([gone, two])[0] == two
    assert json.dumps(candidates_to_dict([gone, two], LOSS), allow_nan=False)
    assert mean_over_seeds(gone, LOSS) == "diverged"
    lost = decision_in_words([candidate(2, math.inf, math.inf), two], LOSS)
    assert "“trial 2” diverged in every seed" in lost
    assert lost.endswith("“trial 1” is better than the second.")
    assert "1 of 2 seeds of “trial 2” diverged and cannot be" in decision_in_words(
        [gone, two], LOSS
    )


def test_a_share_has_its_unit() -> None:
    said = decision_in_words(
        [candidate(1, 0.07, 0.08), candidate(2, 0.1, 0.12)], "validation_error"
    )
    assert ": 7.50 % ± 0.71. The validation error of “trial 1” is lower" in said
