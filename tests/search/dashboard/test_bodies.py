"""What may be stored, so that everyone can read the study afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.dashboard.bodies import LONGEST_NOTE, OURS, decode
from search.dashboard.refusal import RefusedError
from search.spec.config import check_study_name
from search.spec.domains import SpecError

Ask = Callable[..., Any]
RUNNING = 2  # the template's trial
FILE = "data:text/plain;base64,aGVsbG8="


@pytest.fixture
def post(place: Any, ask: Ask, own: dict[str, str]) -> Callable[..., Any]:
    guard = place.guard()

    def send(path: str, body: Any = None, *, raw: bytes | None = None, method: str = "POST") -> Any:
        return ask(guard, method, path, body, raw=raw, headers=own)

    return send


VALUES = {
    "NaN": b"[NaN]",
    "nan in quotes": b'["nan"]',
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "inf in quotes": b'["inf"]',
    "too large": b"[1e999]",
    "a number in quotes": b'["0.5"]',
    "null": b"[null]",
    "true": b"[true]",
    "a list": b"[[1]]",
    "an object": b"[{}]",
    "none": b"[]",
    "two": b"[1, 2]",
    "no list": b"0.5",
    "null for the list": b"null",
    "digits without end": b"[" + b"9" * 400 + b"]",
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_a_value_that_is_none_never_reaches_the_study(
    values: bytes, place: Any, ask: Ask, post: Callable[..., Any]
) -> None:
    before = place.content
    raw = b'{"state": "Complete", "values": ' + values + b"}"
    answer = post(f"/api/trials/{RUNNING}/tell", raw=raw)
    assert answer.status == 400
    assert answer.json["reason"]
    assert place.content == before
    assert ask(place.app, "GET", "/api/studies/1").status == 200


def test_unguarded_such_a_value_breaks_the_study(place: Any, ask: Ask) -> None:
    """Otherwise the test above would show nothing."""
    body = {"state": "Complete", "values": ["nan"]}
    assert ask(place.app, "POST", f"/api/trials/{RUNNING}/tell", body).status == 204
    assert ask(place.app, "GET", "/api/studies/1").status == 500


@pytest.mark.parametrize("state", ["Pruned", "Running", "", None, 1, ["Complete"], {"a": 1}])
def test_states_are_two(state: object, place: Any, post: Callable[..., Any]) -> None:
    before = place.content
    answer = post(f"/api/trials/{RUNNING}/tell", {"state": state, "values": [1.0]})
    assert answer.status == 400
    assert place.content == before


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        None,
        [],
        "a",
        {"a": None},
        {"a": [1]},
        {"a": {"b": 1}},
        {"a": "x" * 3000},
        {"a": "\0"},
        {"a": "\ud800"},
        {"": 1},
        {"x" * 300: 1},
        {"a\nb": 1},
        {"a": 10**30},
        {str(number): 1 for number in range(200)},
        *({name: 0.99} for name in sorted(OURS)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_attributes_that_would_do_harm(
    attributes: object, place: Any, post: Callable[..., Any]
) -> None:
    before = place.content
    answer = post(f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": attributes})
    assert answer.status == 400
    assert place.content == before


def test_attributes_that_are_fine(place: Any, ask: Ask, post: Callable[..., Any]) -> None:
    fine = {"a": 1, "b": 0.5, "c": True, "d": "naïve 靴 <b>", "e f": ""}
    assert post(f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": fine}).status == 204
    found = place.db.optuna.get_trial(RUNNING).user_attrs
    assert {key: found[key] for key in fine} == fine
    assert ask(place.app, "GET", "/api/studies/1").status == 200


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (None, "a"),
        (2.0, "a"),
        (True, "a"),
        ("2", "a"),
        (0, "a"),
        (2**31, "a"),
        (2, None),
        (2, 1),
        (2, ["a"]),
        (2, "x" * (LONGEST_NOTE + 1)),
        (2, "\0"),
        (2, "\udfff"),
    ],
)
def test_notes_that_are_none(
    version: object, body: object, place: Any, post: Callable[..., Any]
) -> None:
    before = place.content
    answer = post("/api/studies/1/note", {"version": version, "body": body}, method="PUT")
    assert answer.status == 400
    assert place.content == before


def test_a_note_is_stored_as_it_was_typed(
    place: Any, ask: Ask, post: Callable[..., Any], hostile_names: tuple[str, ...]
) -> None:
    for name in hostile_names:
        version = ask(place.app, "GET", "/api/studies/1").json["note"]["version"] + 1
        answer = post("/api/studies/1/note", {"version": version, "body": name}, method="PUT")
        refused = "\0" in name or "\ud800" in name
        assert answer.status == (400 if refused else 204), name[:50]
        if not refused:
            detail = ask(place.guard(edit=False), "GET", "/api/studies/1")
            assert detail.json["note"]["body"] == name
            assert detail.headers["content-type"] == "application/json"


def test_study_names_from_the_dashboard_are_held_to_the_same_rule(
    place: Any, post: Callable[..., Any], hostile_names: tuple[str, ...]
) -> None:
    before = place.content
    for name in (*hostile_names, None, 1, ["a"], True):
        answer = post("/api/studies", {"study_name": name, "directions": ["minimize"]})
        assert answer.status == 400, name
        assert len(answer.json["reason"]) < 1000
    assert place.content == before


def test_study_names_are_refused_wherever_they_are_typed(hostile_names: tuple[str, ...]) -> None:
    for name in hostile_names:
        with pytest.raises(SpecError):
            check_study_name(name)


@pytest.mark.parametrize(
    "directions", [None, [], ["maximize"], ["minimize", "minimize"], "minimize", [1], [None]]
)
def test_studies_minimise_one_thing(
    directions: object, place: Any, post: Callable[..., Any]
) -> None:
    before = place.content
    assert post("/api/studies", {"study_name": "n", "directions": directions}).status == 400
    assert place.content == before


def test_artifact_names_are_refused_or_stored_as_text(
    place: Any, ask: Ask, post: Callable[..., Any], hostile_names: tuple[str, ...]
) -> None:
    before = {path.name for path in (place.folder / "artifacts").iterdir()}
    stored = []
    for name in (*hostile_names, None, 1):
        answer = post("/api/artifacts/1", {"filename": name, "file": FILE})
        assert answer.status in (201, 400), name
        if answer.status == 201:
            stored.append(name)
    # plain words in the end: no path, nothing that a shell, a page or a spreadsheet would run
    assert set(stored) <= {"' onfocus='alert(1)' autofocus='", "[bold red]x[/bold red]", "-rf"} | {
        name for name in stored if name.isprintable() and not set(name) & set('<>/\\&=|%:"`$;?*')
    }
    new = {path.name for path in (place.folder / "artifacts").iterdir()} - before
    assert len(new) == len(stored)
    assert all(len(name) == 36 for name in new), "a file's name is never the uploader's"
    shown = {
        artifact["filename"]
        for artifact in ask(place.app, "GET", "/api/studies/1").json["artifacts"]
    }
    assert set(stored) <= shown


@pytest.mark.parametrize(
    "file",
    [
        None,
        1,
        "",
        "hello",
        "data:text/plain,hello",
        "data:;base64,a",
        "data:;base64,a*==",
        "http://x",
    ],
)
def test_artifacts_are_data_in_base64(file: object, place: Any, post: Callable[..., Any]) -> None:
    before = place.content
    assert post("/api/artifacts/1", {"filename": "a.txt", "file": file}).status == 400
    assert place.content == before


def test_an_artifact_comes_back_byte_for_byte(
    place: Any, ask: Ask, post: Callable[..., Any]
) -> None:
    made = post(f"/api/artifacts/1/{RUNNING}", {"filename": "page.html", "file": FILE}).json
    answer = ask(place.guard(), "GET", f"/artifacts/1/{RUNNING}/{made['artifact_id']}")
    assert answer.body == b"hello"
    assert answer.headers["content-disposition"] == "attachment"


def test_what_is_passed_on_is_what_was_checked() -> None:
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}
    assert decode(b"") == {}
    for raw in (b"\xff", b"{", b"[1]", b'{"a": NaN}', b'{"a": 1e400}', b"\xef\xbb\xbf{}"):
        with pytest.raises(RefusedError):
            decode(raw)
