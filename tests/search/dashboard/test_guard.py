"""Who is let in how, and under which headers the answers come."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from bottle import Bottle, HTTPResponse

from search.dashboard.bodies import LARGEST_BODY
from search.dashboard.guard import Guard, Policy
from search.dashboard.headers import DATA_POLICY, page_policy
from search.dashboard.origins import LOOPBACK_NAMES, check_host_name
from search.dashboard.refusal import ServingError
from search.dashboard.token import Token

Ask = Callable[..., Any]
SECRET = "correct-horse-battery-staple-0123456789"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:1", "127.0.0.1:8080", "[::1]", "[::1]:65535", "gpu7.example.org:9000"],
)
def test_known_names_are_served_at_any_port(host: str, place: Any, ask: Ask) -> None:
    guard = place.guard(hosts=LOOPBACK_NAMES | {"gpu7.example.org"})
    assert ask(guard, "GET", "/api/meta", host=host).status == 200
    headers = {"Origin": f"http://{host}"}
    made = {"study_name": "n", "directions": ["minimize"]}
    answer = ask(guard, "POST", "/api/studies", made, host=host, headers=headers)
    assert answer.status == 201


def test_a_foreign_name_is_told_the_remedy(place: Any, ask: Ask) -> None:
    answer = ask(place.guard(), "GET", "/", host="gpu7:8080")
    assert answer.status == 403
    assert b"--allow-host gpu7" in answer.body


@pytest.mark.parametrize(
    ("name", "host"), [("GPU7", "gpu7"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1",) * 2]
)
def test_host_names_as_browsers_write_them(name: str, host: str) -> None:
    assert check_host_name(name) == host


@pytest.mark.parametrize(
    "name", ["", "*", "http://a", "a:80", "a b", "a\nb", "a/b", "ü", "a" * 300]
)
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ServingError, match="host name"):
        check_host_name(name)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8080"},
        {"Origin": "https://LOCALHOST:8080", "Sec-Fetch-Site": "same-origin"},  # behind TLS
        {"Sec-Fetch-Site": "same-origin"},
        {"Referer": "http://localhost:8080/dashboard/studies/1"},
    ],
)
def test_a_page_of_ours_is_known_by_what_browsers_say(
    headers: dict[str, str], place: Any, ask: Ask
) -> None:
    assert ask(place.guard(), "DELETE", "/api/studies/2", {}, headers=headers).status == 204


def test_links_from_elsewhere_work_and_embedding_does_not(place: Any, ask: Ask) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(place.guard(), "GET", "/dashboard", headers=link).status == 200
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert ask(place.guard(), "GET", "/api/studies/1", headers=picture).status == 403


def test_the_address_with_the_token_becomes_a_cookie(place: Any, ask: Ask) -> None:
    guard = place.guard(token=Token(SECRET))
    answer = ask(guard, "GET", f"/dashboard/studies/1?a=b%20c&token={SECRET}&a=")
    assert answer.status == 303
    assert answer.headers["location"] == "/dashboard/studies/1?a=b+c&a="
    assert answer.headers["cache-control"] == "no-store"
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} == set(attributes)
    assert SECRET not in str(answer)
    assert ask(guard, "GET", "/api/meta", headers={"Cookie": f"x=y; {cookie}"}).status == 200
    assert ask(guard, "GET", "/api/meta", headers={"Cookie": f"{cookie}0"}).status == 401
    wrong = ask(guard, "GET", f"/dashboard?token={SECRET}0")
    assert wrong.status == 401
    assert "set-cookie" not in wrong.headers


def test_the_redirect_stays_here(place: Any, ask: Ask) -> None:
    answer = ask(place.guard(token=Token(SECRET)), "GET", f"//evil.example/?token={SECRET}")
    assert answer.headers["location"] == "/evil.example/"


def test_a_cookie_alone_does_not_prove_a_page_and_a_header_does(place: Any, ask: Ask) -> None:
    guard = place.guard(token=Token(SECRET))
    cookie = {"Cookie": Token(SECRET).cookie().partition(";")[0]}
    assert ask(guard, "DELETE", "/api/studies/2", {}, headers=cookie).status == 403
    bearer = {"Authorization": f"bearer {SECRET}"}
    assert ask(guard, "DELETE", "/api/studies/2", {}, headers=bearer).status == 204


def test_refusals_speak_to_the_page_and_to_people(place: Any, ask: Ask) -> None:
    guard = place.guard(edit=False)
    answer = ask(guard, "DELETE", "/api/studies/1", {})
    assert answer.json == {"reason": "This dashboard is read-only. Start it with --edit to change."}
    answer = ask(guard, "GET", "/nowhere<script>")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"script" not in answer.body
    head = ask(guard, "HEAD", "/nowhere")
    assert (head.status, head.body) == (404, b"")


def test_every_answer_has_the_headers_and_only_the_page_may_run_scripts(
    place: Any, ask: Ask
) -> None:
    guard = place.guard()
    paths = ["/", "/dashboard", "/api/studies", "/csv/1", "/static/bundle.js", "/nowhere", "/csv/7"]
    for path in paths:
        for method in ("GET", "HEAD", "POST"):
            headers = ask(guard, method, path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            static = path.startswith("/static") and method != "POST"
            assert headers["cache-control"] == ("no-cache" if static else "no-store")
            page = path == "/dashboard" and method != "POST"
            policy = headers["content-security-policy"]
            nonce = next(iter(re.findall(r"'nonce-(.{22})'", policy)), "")
            assert policy == (page_policy(nonce) if page else DATA_POLICY)
            assert bool(nonce) == page
            assert "server" not in headers
    assert "script-src 'nonce-abc' 'unsafe-eval';" in page_policy("abc")
    assert "sandbox" in DATA_POLICY


def test_the_page_s_own_script_alone_bears_the_nonce_which_is_used_once(
    place: Any, ask: Ask
) -> None:
    seen = set()
    for _ in range(3):
        answer = ask(place.guard(), "GET", "/dashboard")
        nonce = re.findall(r"'nonce-(.{22})'", answer.headers["content-security-policy"])[0]
        scripts = re.findall(rb"<script[^>]*>", answer.body)
        assert scripts == [b'<script nonce="%s" defer src="/static/bundle.js">' % nonce.encode()]
        assert int(answer.headers["content-length"]) == len(answer.body)
        seen.add(nonce)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("kind", "sent", "shown"),
    [
        ("image/png", "image/png", True),
        ("image/svg+xml", "image/svg+xml", True),
        ("text/plain", "text/plain; charset=utf-8", True),
        ("application/json", "application/json; charset=utf-8", True),
        ("TEXT/HTML; x=y", "application/octet-stream", False),
        ("application/xhtml+xml", "application/octet-stream", False),
        ("text/javascript", "application/octet-stream", False),
        ("application/ecmascript", "application/octet-stream", False),
        ("text/css", "application/octet-stream", False),
        ("application/pdf", "application/octet-stream", False),
        ("nonsense", "application/octet-stream", False),
        ("text/html, image/png", "application/octet-stream", False),
        ("", "application/octet-stream", False),
    ],
)
def test_artifacts_come_in_a_sandbox_and_most_as_downloads(
    kind: str, sent: str, shown: bool, ask: Ask
) -> None:
    app = Bottle()
    rule = "/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"
    given = {"Content-Type": kind, "Access-Control-Allow-Origin": "*", "Set-Cookie": "a=b"}
    app.get(rule, callback=lambda **_: HTTPResponse(b"<b>", headers=given))
    answer = ask(Guard(app, Policy(hosts=LOOPBACK_NAMES)), "GET", "/artifacts/1/a")
    assert answer.body == b"<b>"
    assert answer.headers["content-type"] == sent
    assert answer.headers.get("content-disposition") == (None if shown else "attachment")
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_must_be_ours_to_read(place: Any, ask: Ask, own: dict[str, str]) -> None:
    guard, before = place.guard(), place.content
    new = b'{"study_name": "n", "directions": ["minimize"]}'

    def status(raw: bytes, **how: Any) -> int:
        status: int = ask(guard, "POST", "/api/studies", raw=raw, headers=own, **how).status
        return status

    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        assert status(new, kind=kind) == 415
    assert status(new.decode().encode("utf-16")) == 400
    assert status(new[:-1]) == 400
    assert status(b"[" * 100_000) == 400
    assert status(b'{"study_name": ' + b"1" * 10_000 + b"}") == 400
    assert status(b"x" * (LARGEST_BODY + 1)) == 413
    assert status(b"[]") == status(b"null") == status(b'"a"') == 400
    assert place.content == before
    assert status(new, kind="application/json; charset=UTF-8") == 201


def test_what_a_proxy_could_say_is_not_believed(place: Any, ask: Ask) -> None:
    answer = ask(place.guard(), "GET", "/", headers={"X-Forwarded-Host": "evil.example"})
    assert answer.status == 302
    assert answer.headers["location"] == "http://localhost:8080/dashboard"


def test_a_client_that_names_no_encoding_is_served(place: Any, ask: Ask) -> None:
    assert ask(place.guard(), "GET", "/static/bundle.js.LICENSE.txt").status == 200
    assert ask(place.guard(), "GET", "/favicon.ico").status == 200


@pytest.mark.parametrize(
    "query",
    [
        "after=x",
        "after=",
        "after=1,2",
        "after=-1",
        "after=1.5",
        "after=99999999999999999999",
        "after=%C2%B2",
    ],
)
def test_what_is_no_number_is_a_bad_request(query: str, place: Any, ask: Ask) -> None:
    answer = ask(place.guard(), "GET", f"/api/studies/1?{query}")
    assert answer.status == 400
    assert "after must be a number" in answer.json["reason"]


def test_numbers_are_let_through(place: Any, ask: Ask) -> None:
    assert ask(place.guard(), "GET", "/api/studies/1?after=0").status == 200
    assert ask(place.guard(), "GET", "/csv/1?trial_ids=0,0").status == 200
    assert ask(place.guard(), "GET", "/csv/1?trial_ids=").status == 200
    assert ask(place.guard(), "GET", "/csv/1?trial_ids=0,x").status == 400


def test_a_failure_within_is_one_line_without(place: Any, ask: Ask) -> None:
    def broken(_environ: Any, _start: Any) -> Any:
        raise RuntimeError("secret")

    broken.match = place.app.match  # type: ignore[attr-defined]
    guard = Guard(broken, Policy(hosts=LOOPBACK_NAMES))
    answer = ask(guard, "GET", "/api/meta")
    assert answer.status == 500
    assert answer.json == {"reason": "The dashboard failed to answer."}


def test_downloaded_tables_hold_no_formulas(
    place: Any, ask: Ask, hostile_names: tuple[str, ...]
) -> None:
    study = optuna.load_study(study_name="one", storage=place.db.optuna)
    names = [name for name in hostile_names if "\ud800" not in name]
    for name in names:
        study.add_trial(optuna.trial.create_trial(value=-0.5, user_attrs={"colour": name}))
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"=1+1": -2.5}))
    answer = ask(place.guard(edit=False), "GET", "/csv/1")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment")
    header, *rows = csv.reader(io.StringIO(answer.body.decode(), newline=""))
    assert len(rows) == 2 + len(names) + 1
    column = header.index("UserAttribute colour")
    for name, row in zip(names, rows[2:-1], strict=True):
        assert row[header.index("Value")] == "-0.5"
        assert row[column].lstrip("'")[:1] == name.lstrip("'").replace("\r", " ")[:1]
        assert not row[column].startswith(("=", "+", "-", "@", "\t"))
    assert rows[-1][header.index("UserAttribute =1+1")] == "-2.5"
