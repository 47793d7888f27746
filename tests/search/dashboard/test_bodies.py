"""What may be stored, so that everyone can read the study afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.dashboard.bodies import LONGEST_NOTE, OURS
from search.spec.config import check_study_name
from search.spec.domains import SpecError
from search.store import views as view

Ask = Callable[..., Any]
Send = Callable[..., Any]
RUNNING = 2  # the template's trial
FILE = "data:text/plain;base64,aGVsbG8="
HARMFUL_ATTRIBUTES = (
    {}, None, [], "a", {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"a": "x" * 3000}, {"a": "\0"},
    {"a": "\ud800"}, {"": 1}, {"x" * 300: 1}, {"a\nb": 1}, {"a": 10**30},
    {str(number): 1 for number in range(200)}, *({name: 0.99} for name in sorted(OURS)),
)  # fmt: skip
NO_NOTES = (
    (None, "a"), (2.0, "a"), (True, "a"), ("2", "a"), (0, "a"), (2**31, "a"), (2, None), (2, 1),
    (2, ["a"]), (2, "x" * (LONGEST_NOTE + 1)), (2, "\0"), (2, "\udfff"),
)  # fmt: skip
NO_DIRECTIONS = (None, [], ["maximize"], ["minimize"] * 2, "minimize", [1], [None])
NO_FILES = (None, 1, "", "hello", "data:text/plain,a", "data:;base64,a", "data:;base64,a*==")
# (method, path, body): each must be refused.
REFUSED: list[tuple[str, str, Any]] = [
    *(
        ("POST", f"/api/trials/{RUNNING}/tell", {"state": state, "values": [1.0]})
        for state in ("Pruned", "Running", "", None, 1, ["Complete"], {"a": 1})
    ),
    *(
        ("POST", f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": found})
        for found in HARMFUL_ATTRIBUTES
    ),
    *(
        ("PUT", "/api/studies/1/note", {"version": version, "body": body})
        for version, body in NO_NOTES
    ),
    *(
        ("POST", "/api/studies", {"study_name": "n", "directions": directions})
        for directions in NO_DIRECTIONS
    ),
    *(("POST", "/api/artifacts/1", {"filename": "a.txt", "file": file}) for file in NO_FILES),
]
VALUES = (
    b"[NaN]", b'["nan"]', b"[Infinity]", b"[-Infinity]", b'["inf"]', b"[1e999]", b'["0.5"]',
    b"[null]", b"[true]", b"[[1]]", b"[{}]", b"[]", b"[1, 2]", b"0.5", b"null",
    b"[" + b"9" * 400 + b"]",
)  # fmt: skip


@pytest.fixture
def post(place: Any, ask: Ask) -> Send:
    guard = place.guard()

    def send(path: str, body: Any = None, *, raw: bytes | None = None, method: str = "POST") -> Any:
        own = {"Origin": "http://localhost:8080"}
        return ask(guard, method, path, body, raw=raw, headers=own)

    return send


def test_a_value_that_is_none_never_reaches_the_study(place: Any, ask: Ask, post: Send) -> None:
    before, path = place.content, f"/api/trials/{RUNNING}/tell"
    for values in VALUES:
        answer = post(path, raw=b'{"state": "Complete", "values": ' + values + b"}")
        assert answer.status_code == 400, values
        assert answer.json["reason"]
    assert place.content == before
    assert ask(place.app, "GET", "/api/studies/1").status_code == 200
    # Unguarded, such a value breaks the study; otherwise this would show nothing.
    ask(place.app, "POST", path, {"state": "Complete", "values": ["nan"]})
    assert ask(place.app, "GET", "/api/studies/1").status_code == 500


def test_what_would_do_harm_is_refused_with_a_reason(place: Any, post: Send) -> None:
    before = place.content
    for method, path, body in REFUSED:
        answer = post(path, body, method=method)
        assert answer.status_code == 400, (path, str(body)[:100])
        assert 0 < len(answer.json["reason"]) < 1000
    assert place.content == before
    named = {view.PARAMETERS, view.ACCURACY, view.ERROR, view.SECONDS, view.EPOCHS, view.REASON}
    assert named <= OURS


def test_attributes_that_are_fine(place: Any, ask: Ask, post: Send) -> None:
    fine = {"a": 1, "b": 0.5, "c": True, "d": "naïve 靴 <b>", "e f": ""}
    assert post(f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": fine}).status_code == 204
    found = place.db.optuna.get_trial(RUNNING).user_attrs
    assert {key: found[key] for key in fine} == fine
    assert post(f"/api/trials/{RUNNING}/tell", {"state": "fail"}).status_code == 204
    assert ask(place.app, "GET", "/api/studies/1").status_code == 200


def test_a_note_is_stored_as_it_was_typed(
    place: Any, ask: Ask, post: Send, hostile_names: tuple[str, ...]
) -> None:
    for name in hostile_names:
        version = ask(place.app, "GET", "/api/studies/1").json["note"]["version"] + 1
        answer = post("/api/studies/1/note", {"version": version, "body": name}, method="PUT")
        refused = "\0" in name or "\ud800" in name
        assert answer.status_code == (400 if refused else 204), name[:50]
        if not refused:
            detail = ask(place.guard(edit=False), "GET", "/api/studies/1")
            assert detail.json["note"]["body"] == name


def test_study_names_are_held_to_the_same_rule_wherever_they_are_typed(
    place: Any, post: Send, hostile_names: tuple[str, ...]
) -> None:
    before = place.content
    for name in (*hostile_names, None, 1, ["a"], True):
        answer = post("/api/studies", {"study_name": name, "directions": ["minimize"]})
        assert answer.status_code == 400, name
        assert len(answer.json["reason"]) < 1000
    assert place.content == before
    for name in hostile_names:
        with pytest.raises(SpecError):
            check_study_name(name)


def test_artifacts_keep_their_bytes_under_names_of_our_own(
    place: Any, ask: Ask, post: Send, hostile_names: tuple[str, ...]
) -> None:
    before = {path.name for path in (place.folder / "artifacts").iterdir()}
    stored = []
    for name in (*hostile_names, None, 1):
        answer = post("/api/artifacts/1", {"filename": name, "file": FILE})
        assert answer.status_code in (201, 400), name
        if answer.status_code == 201:
            stored.append(name)
            # Plain words: no path, nothing that a shell, a page or a spreadsheet would run.
            assert name.isprintable()
            assert not set(name) & set('<>/\\&=|%:"`$;?*')
    new = {path.name for path in (place.folder / "artifacts").iterdir()} - before
    assert len(new) == len(stored)
    assert all(len(name) == 36 for name in new), "a file's name is never the uploader's"
    made = post(f"/api/artifacts/1/{RUNNING}", {"filename": "page.html", "file": FILE}).json
    answer = ask(place.guard(), "GET", f"/artifacts/1/{RUNNING}/{made['artifact_id']}")
    assert answer.data == b"hello"
    assert answer.headers["content-disposition"] == "attachment"
