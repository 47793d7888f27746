"""Every route of the installed optuna-dashboard, under every attack: nothing changes unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from bottle import Bottle

from search.dashboard.addresses import LOOPBACK_NAMES
from search.dashboard.guard import Guard, Policy
from search.dashboard.routes import CHANGES, READS, Route
from search.dashboard.token import Token
from search.store.opening import forbid_writing

Ask = Callable[..., Any]
SECRET = "correct-horse-battery-staple-0123456789"
OWN = {"Origin": "http://localhost:8080"}
_S, _T, _A = "<study_id:int>", "<trial_id:int>", "<artifact_id:re:[0-9a-fA-F-]+>"
_FILE = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}
# For each rule a request that does what it is for, to the template's study 1 (trial 1 complete,
# trial 2 running) or its preferential study 2. {study}, {trial}: ids of artifacts.
SAMPLES: dict[Route, tuple[str, Any]] = {
    ("GET", "/"): ("/", None),
    ("GET", "/dashboard<:re:(/.*)?>"): ("/dashboard/studies/1", None),
    ("GET", "/api/meta"): ("/api/meta", None),
    ("GET", "/api/studies"): ("/api/studies", None),
    ("GET", f"/api/studies/{_S}"): ("/api/studies/1?after=0", None),
    ("GET", f"/api/studies/{_S}/param_importances"): ("/api/studies/1/param_importances", None),
    ("GET", f"/api/studies/{_S}/plot/<plot_type>"): ("/api/studies/1/plot/slice", None),
    ("GET", f"/csv/{_S}"): ("/csv/1", None),
    ("GET", "/favicon.ico"): ("/favicon.ico", None),
    ("GET", "/static/<filename:path>"): ("/static/bundle.js.LICENSE.txt", None),
    ("GET", "/incompatible-rdb-schema"): ("/incompatible-rdb-schema", None),
    ("GET", f"/artifacts/{_S}/{_A}"): ("/artifacts/1/{study}", None),
    ("GET", f"/artifacts/{_S}/{_T}/{_A}"): ("/artifacts/1/2/{trial}", None),
    ("DELETE", f"/api/studies/{_S}"): ("/api/studies/1", {"remove_associated_artifacts": True}),
    ("PUT", f"/api/studies/{_S}/note"): ("/api/studies/1/note", {"version": 2, "body": "new"}),
    ("PUT", f"/api/studies/{_S}/{_T}/note"): (
        "/api/studies/1/2/note",
        {"version": 1, "body": "new"},
    ),
    ("POST", f"/api/trials/{_T}/user-attrs"): (
        "/api/trials/2/user-attrs",
        {"user_attrs": {"colour": "blue"}},
    ),
}
# What optuna-dashboard has beside them, and nobody may: renaming loses the learning curves, trials
# are told by their workers alone, and a value "nan" makes a study unreadable.
CLOSED: dict[Route, tuple[str, Any]] = {
    ("POST", "/api/studies"): ("/api/studies", {"study_name": "n", "directions": ["minimize"]}),
    ("POST", f"/api/trials/{_T}/tell"): (
        "/api/trials/2/tell",
        {"state": "Complete", "values": [0.25]},
    ),
    ("POST", f"/api/artifacts/{_S}"): ("/api/artifacts/1", _FILE),
    ("POST", f"/api/artifacts/{_S}/{_T}"): ("/api/artifacts/1/2", _FILE),
    ("DELETE", f"/api/artifacts/{_S}/{_A}"): ("/api/artifacts/1/{study}", None),
    ("DELETE", f"/api/artifacts/{_S}/{_T}/{_A}"): ("/api/artifacts/1/2/{trial}", None),
    ("POST", f"/api/studies/{_S}/rename"): ("/api/studies/1/rename", {"study_name": "other"}),
    ("POST", "/incompatible-rdb-schema"): ("/incompatible-rdb-schema", None),
    ("PUT", f"/api/studies/{_S}/preference_feedback_component"): (
        "/api/studies/2/preference_feedback_component",
        {"output_type": "note"},
    ),
    ("POST", f"/api/studies/{_S}/preference"): (
        "/api/studies/2/preference",
        {"mode": "ChooseWorst", "candidates": [0], "clicked": 0},
    ),
    ("POST", f"/api/studies/{_S}/preference/<history_id>"): ("/api/studies/2/preference/a", None),
    ("DELETE", f"/api/studies/{_S}/preference/<history_id>"): ("/api/studies/2/preference/a", None),
    ("POST", f"/api/studies/{_S}/{_T}/skip"): ("/api/studies/2/3/skip", None),
    ("POST", "/api/llm/trial_filter_query"): ("/api/llm/trial_filter_query", {}),
    ("POST", "/api/llm/generate_plotly_graph_query"): ("/api/llm/generate_plotly_graph_query", {}),
    ("POST", "/api/llm/re_generate_plotly_graph_query"): (
        "/api/llm/re_generate_plotly_graph_query",
        {},
    ),
}


def fill(place: Any, path: str) -> str:
    """The path with the template's random names."""
    return path.format(study=place.artifact(), trial=place.artifact(1))


def test_every_installed_route_was_judged_and_no_other(untouched: Any) -> None:
    installed = {(route.method, route.rule) for route in untouched.app.routes}
    assert installed == READS | set(CHANGES) | set(CLOSED)
    assert set(SAMPLES) == READS | set(CHANGES), "a route without a sample here"
    assert all(method == "GET" for method, _ in READS)
    assert all(method != "GET" for method, _ in [*CHANGES, *CLOSED])


@pytest.mark.parametrize("route", sorted(CHANGES), ids=" ".join)
def test_our_own_page_changes_with_edit_what_an_unguarded_one_does(
    route: Route, place: Any, ask: Ask
) -> None:
    path, body = SAMPLES[route]
    path, before = fill(place, path), place.content
    refused = ask(place.guard(edit=False), route[0], path, body, headers=OWN)
    assert (refused.status_code, place.content) == (403, before)
    answer = ask(place.guard(), route[0], path, body, headers=OWN)
    assert answer.status_code in (200, 201, 204), answer.data
    assert place.content != before


@pytest.mark.parametrize("route", sorted(READS), ids=" ".join)
def test_reading_reads_and_changes_nothing(route: Route, untouched: Any, ask: Ask) -> None:
    path, before = fill(untouched, SAMPLES[route][0]), untouched.content
    bare = ask(untouched.app, "GET", path, headers={"Accept-Encoding": ""})
    guarded = ask(untouched.guard(edit=False), "GET", path)
    assert bare.status_code == guarded.status_code in (200, 302)
    if "dashboard" not in path:  # whose own script has a nonce
        assert bare.data == guarded.data
    assert untouched.content == before


FOREIGN_HOSTS = ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.",
                 "localhost@evil.example", "localhost:8080, evil.example", "", None)  # fmt: skip
FOREIGN_PAGES: tuple[dict[str, str], ...] = (
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
)
WITHOUT_TOKEN = (
    {},
    {"Authorization": "Bearer x"},
    {"Authorization": SECRET},
    {"Cookie": f"cnn-search={SECRET}"},
    {"Cookie": f"cnn-search={Token(f'{SECRET}1').session()}"},
    {"Cookie": 'a="; ;;=,cnn-search'},
)
BEARER, TOKEN = {"Authorization": f"Bearer {SECRET}"}, {"token": Token(SECRET)}
# (headers, policy, Host, whether it may read though not change)
ATTACKS: list[tuple[dict[str, str], dict[str, Any], str | None, bool]] = [
    *(({"Origin": f"http://{host}"}, {}, host, False) for host in FOREIGN_HOSTS),
    *(
        (page, {}, "localhost:8080", page.get("Sec-Fetch-Site") not in ("cross-site", "same-site"))
        for page in FOREIGN_PAGES
    ),
    *(({**OWN, **headers}, TOKEN, "localhost:8080", False) for headers in WITHOUT_TOKEN),
    (OWN, {"edit": False}, "localhost:8080", True),
    ({**OWN, **BEARER}, {**TOKEN, "edit": False}, "localhost:8080", True),
    ({"Origin": "http://evil.example", **BEARER}, TOKEN, "localhost:8080", True),
]


@pytest.mark.parametrize(("headers", "policy", "host", "reads"), ATTACKS)
def test_nothing_that_changes_gets_through(
    headers: dict[str, str],
    policy: dict[str, Any],
    host: str | None,
    reads: bool,
    untouched: Any,
    ask: Ask,
) -> None:
    guard, before = untouched.guard(**policy), untouched.content
    for route, (path, body) in {**SAMPLES, **CLOSED}.items():
        answer = ask(guard, route[0], fill(untouched, path), body, host=host, headers=headers)
        refused = answer.status_code in (400, 401, 403)
        assert refused == (route not in READS or not reads), route
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert untouched.content == before


def test_some_are_closed_to_everyone_and_so_is_what_a_later_version_adds(
    untouched: Any, ask: Ask
) -> None:
    before = untouched.content
    for route, (path, body) in CLOSED.items():
        answer = ask(untouched.guard(), route[0], fill(untouched, path), body, headers=OWN)
        assert (answer.status_code, "not offered" in answer.text) == (403, True), route
    for method in ("OPTIONS", "PATCH", "TRACE", "CONNECT", "PROXY", "ANY"):
        for path, body in SAMPLES.values():
            answer = ask(untouched.guard(), method, fill(untouched, path), body, headers=OWN)
            assert answer.status_code == 404, (method, path)
    assert untouched.content == before
    called: list[int] = []
    app = Bottle()
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "ANY"]
    app.route("/api/later", methods, lambda: called.append(1))
    for method in (*methods, "HEAD", "PROXY"):
        guard = Guard(app, Policy(hosts=LOOPBACK_NAMES, edit=True))
        assert ask(guard, method, "/api/later", headers=OWN).status_code in (403, 404)
    assert not called


@pytest.mark.parametrize(
    "path",
    ["/api/studies/1/", "/api/studies//1", "//api/studies/1", "/api/./studies/1",
     "/api/x/../studies/1", "/api/studies/1\x00", "/api/studies/١", "/api/studies/-1",
     "/api/studies/99999999999999999999", f"/api/studies/{'9' * 5000}"],
)  # fmt: skip
def test_a_change_under_another_spelling_is_refused(path: str, untouched: Any, ask: Ask) -> None:
    before = untouched.content
    assert ask(untouched.guard(edit=False), "DELETE", path, {}).status_code in (400, 403, 404)
    assert untouched.content == before


def test_bytes_that_bottle_would_drop_do_not_hide_a_route(untouched: Any, ask: Ask) -> None:
    def drop(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = "/api/\xff\xfestudies/1"
        return untouched.guard()(environ, start_response)

    assert ask(drop, "GET", "/api/studies/1").status_code == 400


def test_the_database_itself_refuses_when_read_only(place: Any, ask: Ask) -> None:
    """Should a route that reads change something one day; and it waits for no writer."""
    forbid_writing(place.db)
    before = place.content
    for route in CHANGES:
        path, body = SAMPLES[route]
        answer = ask(place.app, route[0], fill(place, path), body)
        assert answer.status_code == 500, route
    lines = [line for line in place.content.splitlines() if line.startswith("INSERT")]
    assert lines == [line for line in before.splitlines() if line.startswith("INSERT")]
    other = optuna.storages.RDBStorage(f"sqlite:///{place.folder / 'studies.db'}")
    with other.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE studies SET study_name = 'busy' WHERE study_id = 1")
        assert ask(place.guard(edit=False), "GET", "/api/studies/1").json["name"] == "one"
    other.remove_session()
    other.engine.dispose()
