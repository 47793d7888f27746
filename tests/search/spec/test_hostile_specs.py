"""Arbitrary study files and stored specifications are read, or refused in one line.

Hypothesis makes up a few examples per run; `pytest --hypothesis-profile=long` on this file searches
for some minutes. Whatever it has found is kept as an explicit example.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from search.pages.note import study_note
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.objectives import SIZES
from search.spec.space import OVERRIDES, base_values, check_space, make_config
from search.spec.study_file import StudyFileError, find_study_file, write_study_file
from search.store import StorageError
from search.store.opening import open_database
from search.store.schema import DATASET, HARDWARE, REASON, SPEC, VERSIONS
from search.store.studies import StudyHandle, load_spec
from search.store.views import view_study
from tests.hostile import damaged, edited, refused_in_a_line
from tests.search.spec.reading import read

SHAPE, CLASSES = (1, 28, 28), 10

# Study files

STUDY = find_study_file("default").read_text()
ARMS = find_study_file("d_lenet").read_text()


def use_study_file(path: Path) -> None:
    """As a command uses it, up to the first trial, and once more after it was written back."""
    with refused_in_a_line(StudyFileError, SpecError):
        spec = read(path)
        check_space(spec, SHAPE, CLASSES)
        make_config(base_values(spec), spec)
        stored = json.loads(json.dumps(spec.to_dict(), allow_nan=False))
        assert StudySpec.from_dict(stored) == spec
        assert read(path, write_study_file(spec)) == spec


@given(edited((STUDY + ARMS[:400]).encode()))
@example(b"[space]\nwidth = " + b"[" * 900 + b"]" * 900)
@example(b"[study]\ntrials = " + b"9" * 5000)
@example(b"[space]\nlearning_rate = " + b"9" * 400)
@example(b"[space]\nwidth = { low = 1, high = 1000000000 }")
@example(b"[space]\ndepth = 1000000000")
@example(b"[space]\nchannels = [" + b"1, " * 100_000 + b"]")
@example(b"[space]\nwidth = [" + b", ".join(b"%d" % n for n in range(1, 100_001)) + b"]")
@example(b"[study]\ntitle = '\xe4'")
@example(b"[study]\ntitle = 2024-13-45")
def test_study_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    use_study_file(path)


# Specifications in a database that others may write to

STORED = [
    json.loads(json.dumps(read(find_study_file(name)).to_dict())) for name in ("default", "d_lenet")
]
FACTS = {"name": "digits", "title": "Digits", "class_names": ["0", "1"], "image_shape": [1, 8, 8],
         "training_count": 9, "validation_count": 3}  # fmt: skip


@given(st.one_of(*map(damaged, STORED)))
@example({**STORED[0], "title": "\ud800"})
@example({**STORED[0], "metrics": ["\ud800"]})
@example({**STORED[0], "published": None})
@example({**STORED[0], "published": "x"})
def test_stored_specifications(stored: Any) -> None:
    study: Any = SimpleNamespace(name="s", attributes={SPEC: stored})
    with refused_in_a_line(StorageError, SpecError):
        spec = load_spec(study)
        check_space(spec, SHAPE, CLASSES)
        write_study_file(spec).encode()  # reports show it; UnicodeEncodeError is a ValueError


WRITTEN = [None, True, -1, 10**30, 0.5, math.inf, "", "a\nb", "x" * 1500, [], [[1]], {}, {"x": 1},
           {"width": "x"}, {"depth": 10**9}, {"hidden": [0]}, {"dropout": {"low": 0}}]  # fmt: skip


def test_attributes_that_others_have_written(tmp_path: Path) -> None:
    db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    study = optuna.create_study(storage=db.optuna, study_name="s")
    study.set_user_attr(SPEC, STORED[0])
    study.set_user_attr(DATASET, FACTS)
    for key in (OVERRIDES, REASON, *SIZES):
        for value in WRITTEN:
            study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={key: value}))
    for value in WRITTEN[::3]:
        study.set_user_attr(HARDWARE, value)
        study.set_user_attr(VERSIONS, value)
        again = optuna.load_study(storage=db.optuna, study_name="s")
        assert "0 of " in study_note(view_study(StudyHandle.of(db, again)))
    assert "0 of " in study_note(view_study(StudyHandle.of(db, study)))
    db.close()
