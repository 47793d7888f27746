"""What may be stored, so that everyone can read the study afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.dashboard.bodies import LONGEST_NOTE, OURS
from search.store import views as view

Ask = Callable[..., Any]
Send = Callable[..., Any]
RUNNING = 2  # the template's trial
HARMFUL_ATTRIBUTES = (
    {}, None, [], "a", {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"a": "x" * 3000}, {"a": "\0"},
    {"a": "\ud800"}, {"": 1}, {"x" * 300: 1}, {"a\nb": 1}, {"a": 10**30},
    {str(number): 1 for number in range(200)}, *({name: 0.99} for name in sorted(OURS)),
)  # fmt: skip
NO_NOTES = (
    (None, "a"), (2.0, "a"), (True, "a"), ("2", "a"), (0, "a"), (2**31, "a"), (2, None), (2, 1),
    (2, ["a"]), (2, "x" * (LONGEST_NOTE + 1)), (2, "\0"), (2, "\udfff"),
)  # fmt: skip
# (method, path, body): each must be refused.
REFUSED: list[tuple[str, str, Any]] = [
    *(
        ("POST", f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": found})
        for found in HARMFUL_ATTRIBUTES
    ),
    *(
        ("PUT", "/api/studies/1/note", {"version": version, "body": body})
        for version, body in NO_NOTES
    ),
]


@pytest.fixture
def post(place: Any, ask: Ask) -> Send:
    guard = place.guard()

    def send(path: str, body: Any = None, *, raw: bytes | None = None, method: str = "POST") -> Any:
        own = {"Origin": "http://localhost:8080"}
        return ask(guard, method, path, body, raw=raw, headers=own)

    return send


def test_nobody_tells_a_value_and_an_unguarded_nan_breaks_the_study(
    place: Any, ask: Ask, post: Send
) -> None:
    path, told = f"/api/trials/{RUNNING}/tell", {"state": "Complete", "values": ["nan"]}
    assert post(path, told).status_code == 403
    assert ask(place.app, "GET", "/api/studies/1").status_code == 200
    ask(place.app, "POST", path, told)
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
