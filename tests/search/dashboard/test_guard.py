"""Which requests are allowed, under every attack, and which headers the answers carry."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from bottle import Bottle, HTTPResponse

from search.dashboard.guard import (
    CHANGES,
    COOKIE,
    DATA_POLICY,
    PAGE_POLICY,
    Guard,
    Token,
    load_token,
)
from search.dashboard.server import LARGEST_BODY, LOOPBACK_NAMES, ServingError
from search.store.opening import forbid_writing
from tests.search.dashboard.conftest import HOST, OWN, Place, ask

SECRET = "correct-horse-battery-staple-0123456789"
LATER = 32_503_680_000  # in the year 3000
BEARER, TOKEN = {"Authorization": f"Bearer {SECRET}"}, {"token": Token(SECRET)}
FILE = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}
NOTE = {"version": 2, "body": "new"}
# Requests to the template's study 1 (trial 1 complete, trial 2 running) or its preferential study
# 2. {study}, {trial}: ids of artifacts.
READS = (
    *("/", "/dashboard/studies/1", "/api/meta", "/api/studies", "/api/studies/1?after=0"),
    *("/api/studies/1/param_importances", "/api/studies/1/plot/slice", "/csv/1", "/favicon.ico"),
    *("/static/bundle.js.LICENSE.txt", "/incompatible-rdb-schema"),
    *("/artifacts/1/{study}", "/artifacts/1/2/{trial}"),
)
OFFERED: tuple[tuple[str, str, Any], ...] = (
    ("DELETE", "/api/studies/1", {"remove_associated_artifacts": True}),
    ("DELETE", "/api/studies/2", None),
    ("PUT", "/api/studies/1/note", NOTE),
    ("PUT", "/api/studies/1/2/note", {"version": 1, "body": "naïve 靴 <b>"}),
)
# What else optuna-dashboard has, and nobody may use: renaming loses the learning curves, only their
# workers report the results of trials, and a value "nan" makes a study unreadable.
CLOSED: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/studies", {"study_name": "n", "directions": ["minimize"]}),
    ("POST", "/api/trials/2/tell", {"state": "Complete", "values": ["nan"]}),
    ("POST", "/api/trials/2/user-attrs", {"user_attrs": {"accuracy": 1}}),
    ("POST", "/api/artifacts/1", FILE),
    ("POST", "/api/artifacts/1/2", FILE),
    ("DELETE", "/api/artifacts/1/{study}", None),
    ("DELETE", "/api/artifacts/1/2/{trial}", None),
    ("POST", "/api/studies/1/rename", {"study_name": "other"}),
    ("POST", "/incompatible-rdb-schema", None),
    ("PUT", "/api/studies/2/preference_feedback_component", {"output_type": "note"}),
    ("POST", "/api/studies/2/preference", {"mode": "ChooseWorst", "candidates": [0]}),
    ("POST", "/api/studies/2/preference/a", None),
    ("DELETE", "/api/studies/2/preference/a", None),
    ("POST", "/api/studies/2/3/skip", None),
    ("POST", "/api/llm/trial_filter_query", {}),
    *((method, "/api/studies/1", None) for method in ("OPTIONS", "PATCH", "TRACE", "PROXY")),
    *(
        ("DELETE", path, {})
        for path in (
            *("/api/studies/1/", "/api/studies//1", "//api/studies/1", "/api/./studies/1"),
            *("/api/x/../studies/1", "/api/studies/1\x00", "/api/studies/١", "/api/studies/-1"),
            f"/api/studies/{'9' * 5000}",
        )
    ),
)


def fill(place: Place, path: str) -> str:
    """The path with the template's random names."""
    if "{" not in path:
        return path
    return path.format(study=place.artifact(), trial=place.artifact(1))


def test_the_installed_dashboard_has_what_is_offered_and_only_gets_read(untouched: Place) -> None:
    routes = untouched.app.routes
    installed = {(route.method, re.sub("<[^>]*>", "1", route.rule)) for route in routes}
    offered = {route for route in installed if CHANGES.fullmatch(" ".join(route))}
    notes = {("PUT", "/api/studies/1/note"), ("PUT", "/api/studies/1/1/note")}
    assert offered == {("DELETE", "/api/studies/1"), *notes}
    assert {method for method, _ in installed} == {"GET", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize(("method", "path", "body"), OFFERED)
def test_with_edit_our_own_page_changes_what_an_unguarded_one_does(
    method: str, path: str, body: Any, place: Place
) -> None:
    before = place.content
    refused = ask(place.guard(edit=False), method, path, body, headers=OWN)
    assert (refused.status_code, place.content) == (403, before)
    assert "read-only. Start it with --edit" in refused.json["reason"]
    assert ask(place.guard(), method, path, body, headers=OWN).status_code == 204
    assert place.content != before


@pytest.mark.parametrize("path", READS)
def test_reading_reads_and_changes_nothing(path: str, untouched: Place) -> None:
    path, before = fill(untouched, path), untouched.content
    bare = ask(untouched.app, "GET", path, headers={"Accept-Encoding": ""})
    guarded = ask(untouched.guard(edit=False), "GET", path)
    assert bare.status_code == guarded.status_code in (200, 302)
    if not path.startswith("/dashboard"):  # whose style hides what cannot be used
        assert bare.data == guarded.data
    assert untouched.content == before


FOREIGN_HOSTS = ("evil.example:8080", "127.0.0.1.evil.example", "localhost@evil.example",
                 "localhost:8080, evil.example", "", None)  # fmt: skip
FOREIGN_PAGES = (
    *("http://evil.example", "http://localhost:9999", "http://localhost", "null", "http://["),
    *("http://localhost:8080.evil.example", "http://localhost:8080@evil.example"),
)
WITHOUT_TOKEN = (
    {},
    {"Authorization": "Bearer x"},
    {"Cookie": f"{COOKIE}={SECRET}"},
    {"Cookie": f"{COOKIE}={Token(f'{SECRET}1').session(LATER)}"},
    {"Cookie": f"{COOKIE}={Token(SECRET).session(1_700_000_000)}"},  # in 2023
    {"Cookie": 'a="; ;;=,cnn-search'},
)
# (headers, policy, Host, whether it may read though not change)
ATTACKS: list[tuple[dict[str, str], dict[str, Any], str | None, bool]] = [
    *(({"Origin": f"http://{host}"}, {}, host, False) for host in FOREIGN_HOSTS),
    *(({"Origin": page}, {}, HOST, True) for page in FOREIGN_PAGES),
    ({}, {}, HOST, True),
    *(({**OWN, "Sec-Fetch-Site": site}, {}, HOST, False) for site in ("cross-site", "same-site")),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, {}, HOST, True),
    *(({**OWN, **headers}, TOKEN, HOST, False) for headers in WITHOUT_TOKEN),
    ({**OWN, **BEARER}, {**TOKEN, "edit": False}, HOST, True),
    ({"Cookie": f"{COOKIE}={Token(SECRET).session(LATER)}"}, TOKEN, HOST, True),
]


@pytest.mark.parametrize(("headers", "policy", "host", "reads"), ATTACKS)
def test_no_request_for_a_change_gets_through(
    headers: dict[str, str], policy: dict[str, Any], host: str | None, reads: bool, untouched: Place
) -> None:
    guard, before = untouched.guard(**policy), untouched.content
    for method, path, body in (*OFFERED, *CLOSED, *(("GET", path, None) for path in READS)):
        answer = ask(guard, method, fill(untouched, path), body, host=host, headers=headers)
        refused = answer.status_code in (401, 403, 404)
        assert refused == (method != "GET" or not reads), (method, path)
        assert "access-control-allow-origin" not in answer.headers
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert untouched.content == before


def test_some_routes_are_closed_to_everyone(untouched: Place) -> None:
    before = untouched.content
    for method, path, body in CLOSED:
        answer = ask(untouched.guard(), method, fill(untouched, path), body, headers=OWN)
        assert answer.status_code in (403, 404), (method, path)
    assert ask(untouched.guard(), "GET", "/api/\xff\xfestudies/1").status_code == 404
    assert untouched.content == before


def test_the_database_itself_refuses_when_read_only(place: Place) -> None:
    """In case a route that reads changes something one day; and it waits for no writer."""
    forbid_writing(place.db)
    before = place.content
    for method, path, body in OFFERED:
        assert ask(place.app, method, path, body).status_code == 500, path
    rows = (re.findall("^INSERT.*", text, re.MULTILINE) for text in (before, place.content))
    assert next(rows) == next(rows)
    other = optuna.storages.RDBStorage(f"sqlite:///{place.folder / 'studies.db'}")
    with other.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE studies SET study_name = 'busy' WHERE study_id = 1")
        assert ask(place.guard(edit=False), "GET", "/api/studies/1").json["name"] == "one"
    other.remove_session()
    other.engine.dispose()


@pytest.mark.parametrize("host", ["LocalHost:1", "127.0.0.1", "[::1]:65535", "gpu7.example.org:90"])
def test_known_names_are_served_at_any_port(host: str, place: Place) -> None:
    guard = place.guard(hosts=LOOPBACK_NAMES | {"gpu7.example.org"})
    assert ask(guard, "GET", "/api/meta", host=host).status_code == 200
    headers = {"Origin": f"https://{host}"}  # behind TLS
    answer = ask(guard, "PUT", "/api/studies/1/note", NOTE, host=host, headers=headers)
    assert answer.status_code == 204
    believed = ask(guard, "GET", "/", host=host, headers={"X-Forwarded-Host": "evil.example"})
    assert believed.headers["location"] == f"http://{host.lower()}/dashboard"
    answer = ask(guard, "GET", "/", host="gpu8:8080")
    assert (answer.status_code, "--allow-host gpu8" in answer.text) == (403, True)


def test_the_address_with_the_token_becomes_a_session(untouched: Place) -> None:
    guard = untouched.guard(**TOKEN)
    assert ask(guard, "GET", "/api/meta", headers=BEARER).status_code == 200
    answer = ask(guard, "GET", f"/dashboard/studies/1?a=b%20c&token={SECRET}&a=")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/studies/1?a=b+c&a="
    assert answer.headers["cache-control"] == "no-store"
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(attributes)
    assert SECRET not in f"{answer.headers}{answer.text}"
    assert ask(guard, "GET", "/api/meta", headers={"Cookie": f"x=y; {cookie}"}).status_code == 200
    wrong = ask(guard, "GET", f"/dashboard?token={SECRET}0")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert ask(guard, "GET", f"//evil.example/?token={SECRET}").status_code == 404


def test_only_the_page_may_run_scripts(untouched: Place) -> None:
    for path in ("/dashboard", "/", "/api/studies", "/static/bundle.js", "/nowhere", "/csv/7"):
        for method in ("GET", "HEAD", "POST"):
            headers = ask(untouched.guard(), method, path).headers
            assert headers["x-content-type-options"] == "nosniff"
            static = path.startswith("/static") and method != "POST"
            assert headers["cache-control"] == ("no-cache" if static else "no-store")
            page = path == "/dashboard" and method != "POST"
            assert headers["content-security-policy"] == (PAGE_POLICY if page else DATA_POLICY)
            assert "server" not in headers


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("image/png", True), ("image/svg+xml; a=b", True), ("TEXT/HTML; x=y", False), ("", False)]
    + [(kind, False) for kind in ("text/javascript", "image/png, text/html", "nonsense")],
)
def test_artifacts_come_in_a_sandbox_and_all_but_pictures_as_downloads(
    kind: str, shown: bool
) -> None:
    app = Bottle()
    given = {"Content-Type": kind, "Access-Control-Allow-Origin": "*"}
    app.get("/artifacts/1/a", callback=lambda **_: HTTPResponse(b"<b>", headers=given))
    answer = ask(Guard(app, hosts=LOOPBACK_NAMES), "GET", "/artifacts/1/a")
    assert answer.data == b"<b>"
    expected = kind.split(";")[0] if shown else "application/octet-stream"
    assert answer.headers["content-type"] == expected
    assert ("content-disposition" in answer.headers) != shown
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert "access-control-allow-origin" not in answer.headers


STARTS = ('=HYPERLINK("x,")', "+1-cmd|x", "-2+3", "@SUM(1)", " =1", "＝1")
FORMULAS = {text: f"'{text}" for text in STARTS} | {
    "a;=1+1": "a;'=1+1", "a\n=1+1;": "a\n'=1+1;", "\t=1": "'\t'=1", "a；＠b": "a；'＠b",
    "1,-2+3": "1,'-2+3",
}  # fmt: skip
NO_FORMULAS = (
    *("-0.25", "+1e-05", "-inf", "a=b", "", "[0.5, -0.25]", "a-b; c"),
    *(sign * 200_000 for sign in ("x", "\n", '"', ", ", "\n ")),  # each in linear time
)


def test_a_table_holds_no_formula(place: Place) -> None:
    study = optuna.load_study(study_name="one", storage=place.db.optuna)
    trial = study.ask()
    for number, cell in enumerate((*FORMULAS, *NO_FORMULAS)):
        trial.set_user_attr(f"typed {number}", cell)
    study.tell(trial, 0.5)
    table = io.StringIO(ask(place.guard(), "GET", "/csv/1").text, newline="")
    cells = {cell for row in csv.reader(table) for cell in row}
    assert cells >= {*FORMULAS.values(), *NO_FORMULAS}
    assert not cells & FORMULAS.keys()


def test_after_must_be_a_trial_number(place: Place) -> None:
    def status(after: str) -> int:
        code: int = ask(place.guard(), "GET", f"/api/studies/1?after={after}").status_code
        return code

    assert [status(after) for after in ("0", "1", "x", "-1", "", "1.5")] == 2 * [200] + 4 * [400]


def test_a_body_must_be_an_object_in_json(place: Place) -> None:
    guard, before = place.guard(), place.content
    new = b'{"version": 2, "body": "n"}'

    def status(raw: bytes, **how: Any) -> int:
        answer = ask(guard, "PUT", "/api/studies/1/note", raw=raw, headers=OWN, **how)
        code: int = answer.status_code
        return code

    assert status(new, kind="text/plain") == 415
    bad = (new[:-1], b"\xff", b"[]", b'"a"', b'{"version": 2, "body": ["a"]}', b'{"body": "a"}')
    assert [status(raw) for raw in bad] == [400] * len(bad)
    assert status(b"x" * (LARGEST_BODY + 1)) == 413
    assert place.content == before
    assert status(new, kind="application/json; charset=UTF-8") == 204


def test_a_missing_file_is_created_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token, secret = load_token(tmp_path / "token")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert len(secret) >= 43  # 256 bits in base64
    assert load_token(tmp_path / "token")[1] == secret
    assert load_token(tmp_path / "other")[1] != secret
    assert token.matches(secret)
    for other in ("", secret[:-1], f" {secret}", secret.swapcase(), "ü", "\udcff"):
        assert not token.matches(other)
    assert secret not in f"{token!r} {token} {vars(token)}"


def test_a_session_ends_even_if_copied_and_cannot_be_extended() -> None:
    token, now = Token(SECRET), int(time.time())
    session = token.session(now + 60)
    assert token.is_session(session)
    assert SECRET not in session
    signature = session.partition(".")[2]
    for other in (f"{now + 61}.{signature}", f"0{session}", signature, f".{signature}", "", SECRET,
                  "9" * 5000, "\udcff.a", token.session(now - 1), session.swapcase()):  # fmt: skip
        assert not token.is_session(other), other
    assert not Token(SECRET[::-1]).is_session(session)
    assert not token.matches(session)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (f"  {SECRET}\n", 0o600, ""),
        (SECRET, 0o644, "644.*chmod 600"),
        (SECRET, 0o601, "601.*chmod 600"),
        ("", 0o600, "32 or more"),
        ("FRgTUuTyexbBcQ0bhOE", 0o600, "32 or more"),
        ("a" * 64, 0o600, "32 or more"),
        ("two words of some length, but with spaces", 0o600, "32 or more"),
    ],
)
def test_a_file_must_be_private_and_hold_a_long_secret(
    content: str, mode: int, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    if not says:
        assert load_token(path)[1] == content.strip()
        return
    with pytest.raises(ServingError, match=says) as caught:
        load_token(path)
    assert not content or content not in str(caught.value)


def test_a_token_file_must_be_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "no/such/folder"):
        with pytest.raises(ServingError, match=name):
            load_token(tmp_path / name)
