"""Every route of the installed dashboard, times everyone who must not get through."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from bottle import Bottle

from search.dashboard.bodies import OURS
from search.dashboard.guard import Guard, Policy
from search.dashboard.origins import LOOPBACK_NAMES
from search.dashboard.routes import CHANGES, CLOSED, READS, Route
from search.dashboard.token import Token
from search.store.opening import forbid_writing

Ask = Callable[..., Any]
Sample = tuple[str, Any]  # path and body
SECRET = "correct-horse-battery-staple-0123456789"

_FILE = "data:text/plain;base64,aGVsbG8="
_CHOICE = {"mode": "ChooseWorst", "candidates": [0, 1], "clicked": 1}
# For each rule a request that does what it is for, to the template's study 1 (trial 1 complete,
# trial 2 running) or its preferential study 2. {study}, {trial}, {kept}, {gone}: see `fill`.
SAMPLES: dict[Route, Sample] = {
    ("GET", "/"): ("/", None),
    ("GET", "/dashboard<:re:(/.*)?>"): ("/dashboard/studies/1", None),
    ("GET", "/api/meta"): ("/api/meta", None),
    ("GET", "/api/studies"): ("/api/studies", None),
    ("POST", "/api/studies"): (
        "/api/studies",
        {"study_name": "new", "directions": ["minimize"]},
    ),
    ("POST", "/api/studies/<study_id:int>/rename"): (
        "/api/studies/1/rename",
        {"study_name": "other"},
    ),
    ("DELETE", "/api/studies/<study_id:int>"): (
        "/api/studies/1",
        {"remove_associated_artifacts": True},
    ),
    ("GET", "/api/studies/<study_id:int>"): ("/api/studies/1?after=0", None),
    ("GET", "/api/studies/<study_id:int>/param_importances"): (
        "/api/studies/1/param_importances",
        None,
    ),
    ("GET", "/api/studies/<study_id:int>/plot/<plot_type>"): ("/api/studies/1/plot/slice", None),
    ("PUT", "/api/studies/<study_id:int>/note"): (
        "/api/studies/1/note",
        {"version": 2, "body": "changed"},
    ),
    ("POST", "/api/studies/<study_id:int>/preference"): ("/api/studies/2/preference", _CHOICE),
    ("PUT", "/api/studies/<study_id:int>/preference_feedback_component"): (
        "/api/studies/2/preference_feedback_component",
        {"output_type": "note"},
    ),
    ("DELETE", "/api/studies/<study_id:int>/preference/<history_id>"): (
        "/api/studies/2/preference/{kept}",
        None,
    ),
    ("POST", "/api/studies/<study_id:int>/preference/<history_id>"): (
        "/api/studies/2/preference/{gone}",
        None,
    ),
    ("POST", "/api/trials/<trial_id:int>/tell"): (
        "/api/trials/2/tell",
        {"state": "Complete", "values": [0.25]},
    ),
    ("POST", "/api/trials/<trial_id:int>/user-attrs"): (
        "/api/trials/2/user-attrs",
        {"user_attrs": {"colour": "blue"}},
    ),
    ("POST", "/api/studies/<study_id:int>/<trial_id:int>/skip"): ("/api/studies/2/3/skip", None),
    ("PUT", "/api/studies/<study_id:int>/<trial_id:int>/note"): (
        "/api/studies/1/2/note",
        {"version": 1, "body": "changed"},
    ),
    ("GET", "/csv/<study_id:int>"): ("/csv/1", None),
    ("GET", "/favicon.ico"): ("/favicon.ico", None),
    ("GET", "/static/<filename:path>"): ("/static/bundle.js.LICENSE.txt", None),
    ("GET", "/incompatible-rdb-schema"): ("/incompatible-rdb-schema", None),
    ("POST", "/incompatible-rdb-schema"): ("/incompatible-rdb-schema", None),
    ("GET", "/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"): (
        "/artifacts/1/{study}",
        None,
    ),
    ("GET", "/artifacts/<study_id:int>/<trial_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"): (
        "/artifacts/1/2/{trial}",
        None,
    ),
    ("POST", "/api/artifacts/<study_id:int>/<trial_id:int>"): (
        "/api/artifacts/1/2",
        {"file": _FILE, "filename": "a.txt"},
    ),
    ("POST", "/api/artifacts/<study_id:int>"): (
        "/api/artifacts/1",
        {"file": _FILE, "filename": "a.txt"},
    ),
    ("DELETE", "/api/artifacts/<study_id:int>/<trial_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"): (
        "/api/artifacts/1/2/{trial}",
        None,
    ),
    ("DELETE", "/api/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"): (
        "/api/artifacts/1/{study}",
        None,
    ),
    ("POST", "/api/llm/trial_filter_query"): ("/api/llm/trial_filter_query", {"user_query": "x"}),
    ("POST", "/api/llm/generate_plotly_graph_query"): (
        "/api/llm/generate_plotly_graph_query",
        {"user_query": "x"},
    ),
    ("POST", "/api/llm/re_generate_plotly_graph_query"): (
        "/api/llm/re_generate_plotly_graph_query",
        {"modification_request_query": "x", "previous_function": "y"},
    ),
}
# Of the routes that are closed, those that change nothing of this database even when open.
INERT = {route for route in CLOSED if "llm" in route[1] or "schema" in route[1]}


def installed(app: Bottle) -> set[Route]:
    return {(route.method, route.rule) for route in app.routes}


def fill(place: Any, path: str) -> str:
    """The path with the template's random names."""
    artifact = "artifacts:"
    storage = place.db.optuna
    of_study = [k for k in storage.get_study_system_attrs(1) if k.startswith(artifact)]
    of_trial = [k for k in storage.get_trial_system_attrs(2) if k.startswith(artifact)]
    kept, gone = place.histories
    return path.format(
        study=of_study[0].removeprefix(artifact) if of_study else "",
        trial=of_trial[0].removeprefix(artifact) if of_trial else "",
        kept=kept,
        gone=gone,
    )


@pytest.fixture(scope="module")
def untouched(template: Path, place_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One place for all who must leave it as it is."""
    folder = tmp_path_factory.mktemp("untouched") / "place"
    shutil.copytree(template, folder)
    with place_at(folder) as found:
        yield found


def test_every_installed_route_was_judged_and_no_other(untouched: Any) -> None:
    judged = [*READS, *CHANGES, *CLOSED]
    assert len(judged) == len(set(judged)), "judged twice"
    assert installed(untouched.app) == set(judged)
    assert set(SAMPLES) == set(judged), "a route without a sample here"
    assert all(method == "GET" for method, _ in READS)
    assert all(method != "GET" for method, _ in [*CHANGES, *CLOSED])


@pytest.mark.parametrize("route", sorted({*CHANGES, *CLOSED} - INERT), ids=" ".join)
def test_the_samples_do_change_what_is_not_guarded(route: Route, place: Any, ask: Ask) -> None:
    path, body = SAMPLES[route]
    before = place.content
    answer = ask(place.app, route[0], fill(place, path), body)
    assert answer.status in (200, 201, 204), answer.body
    assert place.content != before


@pytest.mark.parametrize("route", sorted(CHANGES), ids=" ".join)
def test_with_edit_our_own_page_changes_the_same(
    route: Route, place: Any, ask: Ask, own: dict[str, str]
) -> None:
    path, body = SAMPLES[route]
    before = place.content
    answer = ask(place.guard(), route[0], fill(place, path), body, headers=own)
    assert answer.status in (200, 201, 204), answer.body
    assert place.content != before


@pytest.mark.parametrize("route", sorted(READS), ids=" ".join)
def test_reading_reads_and_changes_nothing(route: Route, untouched: Any, ask: Ask) -> None:
    path = fill(untouched, SAMPLES[route][0])
    before = untouched.content
    bare = ask(untouched.app, "GET", path, headers={"Accept-Encoding": ""})
    guarded = ask(untouched.guard(edit=False), "GET", path)
    assert bare.status == guarded.status
    assert bare.status in (200, 302)
    if bare.status == 200:
        # The dashboard's own script bears a nonce, of its own each time.
        assert bare.body == re.sub(rb' nonce="[\w-]{22}"', b"", guarded.body, count=1)
    assert untouched.content == before


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.",
    "localhost@evil.example",
    "localhost:8080, evil.example",
    "",
    None,
]
FOREIGN_PAGES = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://evil.example", "Referer": "http://localhost:8080/dashboard"},
    {"Origin": "http://localhost:9999"},  # another program of this host
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:8080.evil.example"},
    {"Origin": "http://localhost:8080@evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8080", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Referer": "http://evil.example/localhost:8080"},
    {"Referer": "http://["},
    {},
]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Who asks, of which guard. `reads`: may see, but not change."""

    name: str
    headers: dict[str, str]
    policy: dict[str, Any] = field(default_factory=dict)
    host: str | None = "localhost:8080"
    reads: bool = True


def attacks() -> list[Attack]:
    own = {"Origin": "http://localhost:8080"}
    bearer = {"Authorization": f"Bearer {SECRET}"}
    token = {"token": Token(SECRET)}
    found = [
        Attack(
            name=f"host {host}",
            host=host,
            headers=own if host is None else {"Origin": f"http://{host}"},
            reads=False,
        )
        for host in FOREIGN_HOSTS
    ]
    for page in FOREIGN_PAGES:
        embedded = page.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        found.append(Attack(name=f"page {page}", headers=page, reads=not embedded))
    for name, headers in {
        "no token": {},
        "wrong token": {"Authorization": "Bearer x"},
        "token without scheme": {"Authorization": SECRET},
        "token as cookie": {"Cookie": f"cnn-search={SECRET}"},
        "cookie of another token": {"Cookie": Token(f"{SECRET}1").cookie()},
        "malformed cookie": {"Cookie": 'a="; ;;=,cnn-search'},
    }.items():
        found.append(Attack(name=name, headers={**own, **headers}, policy=token, reads=False))
    return [
        *found,
        Attack(name="read-only", headers=own, policy={"edit": False}),
        Attack(
            name="token, but read-only", headers={**own, **bearer}, policy={**token, "edit": False}
        ),
        Attack(
            name="token, but foreign page",
            headers={"Origin": "http://evil.example", **bearer},
            policy=token,
        ),
    ]


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_nothing_that_changes_gets_through(attack: Attack, untouched: Any, ask: Ask) -> None:
    guard = untouched.guard(**attack.policy)
    before = untouched.content
    for route, (path, body) in SAMPLES.items():
        path = fill(untouched, path)
        answer = ask(guard, route[0], path, body, host=attack.host, headers=attack.headers)
        refused = answer.status in (400, 401, 403)
        assert refused == (route not in READS or not attack.reads), route
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert untouched.content == before


@pytest.mark.parametrize("route", sorted(CLOSED), ids=" ".join)
def test_some_are_closed_to_everyone(
    route: Route, untouched: Any, ask: Ask, own: dict[str, str]
) -> None:
    path, body = SAMPLES[route]
    before = untouched.content
    answer = ask(untouched.guard(), route[0], fill(untouched, path), body, headers=own)
    assert answer.status == 403
    assert CLOSED[route].encode() in answer.body
    assert untouched.content == before


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "ANY", "PROXY"]
)
def test_a_route_of_a_later_version_is_refused(method: str, ask: Ask, own: dict[str, str]) -> None:
    called = []
    app = Bottle()
    app.route(
        "/api/later", ["GET", "POST", "PUT", "DELETE", "PATCH", "ANY"], lambda: called.append(1)
    )
    for edit in (False, True):
        guard = Guard(app, Policy(hosts=LOOPBACK_NAMES, edit=edit))
        assert ask(guard, method, "/api/later", headers=own).status in (403, 404)
    assert not called


@pytest.mark.parametrize(
    "method", ["OPTIONS", "PATCH", "TRACE", "CONNECT", "MKCOL", "PROXY", "ANY"]
)
def test_no_other_method_reaches_a_known_path(
    method: str, untouched: Any, ask: Ask, own: dict[str, str]
) -> None:
    before = untouched.content
    for path, body in SAMPLES.values():
        answer = ask(untouched.guard(), method, fill(untouched, path), body, headers=own)
        assert answer.status == 404
    assert untouched.content == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/studies/1/",
        "/api/studies//1",
        "//api/studies/1",
        "/api/./studies/1",
        "/api/x/../studies/1",
        "/api/studies/1\x00",
        "/api/studies/١",
        "/api/studies/-1",
        "/api/studies/99999999999999999999",
        f"/api/studies/{'9' * 5000}",
    ],
)
def test_a_change_under_another_spelling_is_refused(path: str, untouched: Any, ask: Ask) -> None:
    before = untouched.content
    answer = ask(untouched.guard(edit=False), "DELETE", path, {})
    assert answer.status in (400, 403, 404)
    assert untouched.content == before


def test_bytes_that_bottle_would_drop_do_not_hide_a_route(untouched: Any, ask: Ask) -> None:
    def drop(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = "/api/\xff\xfestudies/1"
        return untouched.guard()(environ, start_response)

    assert ask(drop, "GET", "/api/studies/1").status == 400


def test_the_database_itself_refuses_when_read_only(place: Any, ask: Ask) -> None:
    """Should a route that reads change something one day."""
    forbid_writing(place.db)
    before = place.content
    for route in CHANGES:
        path, body = SAMPLES[route]
        answer = ask(place.app, route[0], fill(place, path), body)
        if "artifacts" not in route[1]:  # files are beyond the database
            assert answer.status == 500, route
    lines = [line for line in place.content.splitlines() if line.startswith("INSERT")]
    assert lines == [line for line in before.splitlines() if line.startswith("INSERT")]
    assert ask(place.app, "GET", "/api/studies/1").status == 200


def test_reading_does_not_wait_for_a_writer(place: Any, ask: Ask) -> None:
    forbid_writing(place.db)
    other = optuna.storages.RDBStorage(f"sqlite:///{place.folder / 'studies.db'}")
    with other.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE studies SET study_name = 'busy' WHERE study_id = 1")
        assert ask(place.guard(edit=False), "GET", "/api/studies/1").json["name"] == "one"
    other.remove_session()
    other.engine.dispose()


def test_no_attribute_of_a_real_trial_can_be_forged() -> None:
    from search.store import views as view

    named = {view.PARAMETERS, view.ACCURACY, view.ERROR, view.SECONDS, view.EPOCHS, view.REASON}
    assert named <= OURS
