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

from search.dashboard import ServingError
from search.dashboard.addresses import LOOPBACK_NAMES, check_host_name
from search.dashboard.bodies import LARGEST_BODY
from search.dashboard.guard import Guard, Policy
from search.dashboard.headers import DATA_POLICY, PAGE_POLICY
from search.dashboard.token import COOKIE, Token

Ask = Callable[..., Any]
SECRET = "correct-horse-battery-staple-0123456789"
OWN = {"Origin": "http://localhost:8080"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:1", "127.0.0.1:8080", "[::1]", "[::1]:65535", "gpu7.example.org:9000"],
)
def test_known_names_are_served_at_any_port(host: str, place: Any, ask: Ask) -> None:
    guard = place.guard(hosts=LOOPBACK_NAMES | {"gpu7.example.org"})
    assert ask(guard, "GET", "/api/meta", host=host).status_code == 200
    headers = {"Origin": f"http://{host}"}
    note = {"version": 2, "body": "n"}
    answer = ask(guard, "PUT", "/api/studies/1/note", note, host=host, headers=headers)
    assert answer.status_code == 204


def test_host_names_as_browsers_write_them(untouched: Any, ask: Ask) -> None:
    answer = ask(untouched.guard(), "GET", "/", host="gpu7:8080")
    assert (answer.status_code, "--allow-host gpu7" in answer.text) == (403, True)
    for name, host in (("GPU7", "gpu7"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1",) * 2):
        assert check_host_name(name) == host
    for name in ("", "*", "http://a", "a:80", "a b", "a\nb", "a/b", "ü", "a" * 300):
        with pytest.raises(ServingError, match="host name"):
            check_host_name(name)


@pytest.mark.parametrize(
    "headers",
    [
        OWN,
        {"Origin": "https://LOCALHOST:8080", "Sec-Fetch-Site": "same-origin"},  # behind TLS
        {"Sec-Fetch-Site": "same-origin"},
        {"Referer": "http://localhost:8080/dashboard/studies/1"},
    ],
)
def test_a_page_of_ours_is_known_by_what_browsers_say(
    headers: dict[str, str], place: Any, ask: Ask
) -> None:
    assert ask(place.guard(), "DELETE", "/api/studies/2", {}, headers=headers).status_code == 204


def test_links_from_elsewhere_work_and_embedding_does_not(untouched: Any, ask: Ask) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(untouched.guard(), "GET", "/dashboard", headers=link).status_code == 200
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert ask(untouched.guard(), "GET", "/api/studies/1", headers=picture).status_code == 403


def test_the_address_with_the_token_becomes_a_session(untouched: Any, ask: Ask) -> None:
    guard = untouched.guard(token=Token(SECRET))
    answer = ask(guard, "GET", f"/dashboard/studies/1?a=b%20c&token={SECRET}&a=")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/studies/1?a=b+c&a="
    assert answer.headers["cache-control"] == "no-store"
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(attributes)
    assert SECRET not in f"{answer.headers}{answer.text}"
    assert ask(guard, "GET", "/api/meta", headers={"Cookie": f"x=y; {cookie}"}).status_code == 200
    assert ask(guard, "GET", "/api/meta", headers={"Cookie": f"{cookie}0"}).status_code == 401
    wrong = ask(guard, "GET", f"/dashboard?token={SECRET}0")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    away = ask(guard, "GET", f"//evil.example/?token={SECRET}")
    assert away.headers["location"] == "/evil.example/"


def test_a_cookie_alone_does_not_prove_a_page_and_a_header_does(place: Any, ask: Ask) -> None:
    guard = place.guard(token=Token(SECRET))
    cookie = {"Cookie": f"{COOKIE}={Token(SECRET).session()}"}
    assert ask(guard, "DELETE", "/api/studies/2", {}, headers=cookie).status_code == 403
    bearer = {"Authorization": f"bearer {SECRET}"}
    assert ask(guard, "DELETE", "/api/studies/2", {}, headers=bearer).status_code == 204


def test_refusals_speak_to_the_page_and_to_people(untouched: Any, ask: Ask) -> None:
    guard = untouched.guard(edit=False)
    answer = ask(guard, "DELETE", "/api/studies/1", {})
    assert answer.json == {"reason": "This dashboard is read-only. Start it with --edit to change."}
    answer = ask(guard, "GET", "/nowhere<script>")
    assert (answer.status_code, answer.mimetype) == (404, "text/plain")
    assert "script" not in answer.text
    head = ask(guard, "HEAD", "/nowhere")
    assert (head.status_code, head.data) == (404, b"")


def test_every_answer_has_the_headers_and_only_the_page_may_run_its_own_script(
    untouched: Any, ask: Ask
) -> None:
    nonces = set()
    paths = ["/", "/dashboard", "/api/studies", "/csv/1", "/static/bundle.js", "/nowhere", "/csv/7"]
    for path in [*paths, "/dashboard"]:
        for method in ("GET", "HEAD", "POST"):
            answer = ask(untouched.guard(), method, path)
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            static = path.startswith("/static") and method != "POST"
            assert headers["cache-control"] == ("no-cache" if static else "no-store")
            policy = headers["content-security-policy"]
            page = path == "/dashboard" and method != "POST"
            nonce = next(iter(re.findall(r"'nonce-(.{22})'", policy)), "")
            assert policy == (PAGE_POLICY.format(nonce=nonce) if page else DATA_POLICY)
            assert "server" not in headers
            if page and method == "GET":
                scripts = re.findall("<script[^>]*>", answer.text)
                assert scripts == [f'<script nonce="{nonce}" defer src="/static/bundle.js">']
                nonces.add(nonce)
    assert len(nonces) == 2  # used once


SHOWN = {"image/png": "image/png", "image/svg+xml": "image/svg+xml",
         "text/plain": "text/plain; charset=utf-8",
         "application/json": "application/json; charset=utf-8"}  # fmt: skip
DOWNLOADS = ("TEXT/HTML; x=y", "application/xhtml+xml", "text/javascript", "text/css", "nonsense",
             "application/ecmascript", "application/pdf", "text/html, image/png", "")  # fmt: skip


@pytest.mark.parametrize("kind", [*SHOWN, *DOWNLOADS])
def test_artifacts_come_in_a_sandbox_and_most_as_downloads(kind: str, ask: Ask) -> None:
    app = Bottle()
    rule = "/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>"
    given = {"Content-Type": kind, "Access-Control-Allow-Origin": "*", "Set-Cookie": "a=b"}
    app.get(rule, callback=lambda **_: HTTPResponse(b"<b>", headers=given))
    answer = ask(Guard(app, Policy(hosts=LOOPBACK_NAMES)), "GET", "/artifacts/1/a")
    assert answer.data == b"<b>"
    assert answer.headers["content-type"] == SHOWN.get(kind, "application/octet-stream")
    download = None if kind in SHOWN else "attachment"
    assert answer.headers.get("content-disposition") == download
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_must_be_ours_to_read(place: Any, ask: Ask) -> None:
    guard, before = place.guard(), place.content
    new = b'{"version": 2, "body": "n"}'

    def status(raw: bytes, **how: Any) -> int:
        answer = ask(guard, "PUT", "/api/studies/1/note", raw=raw, headers=OWN, **how)
        code: int = answer.status_code
        return code

    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        assert status(new, kind=kind) == 415
    bad = (new.decode().encode("utf-16"), new[:-1], b"[" * 100_000, b"\xff", b"\xef\xbb\xbf{}",
           b'{"version": ' + b"1" * 10_000 + b"}", b"[]", b"null", b'"a"')  # fmt: skip
    assert [status(raw) for raw in bad] == [400] * len(bad)
    assert status(b"x" * (LARGEST_BODY + 1)) == 413
    assert place.content == before
    assert status(new, kind="application/json; charset=UTF-8") == 204


def test_what_a_proxy_could_say_is_not_believed(untouched: Any, ask: Ask) -> None:
    answer = ask(untouched.guard(), "GET", "/", headers={"X-Forwarded-Host": "evil.example"})
    assert answer.status_code == 302
    assert answer.headers["location"] == "http://localhost:8080/dashboard"


def test_a_failure_within_is_one_line_without(untouched: Any, ask: Ask) -> None:
    def broken(_environ: Any, _start: Any) -> Any:
        raise RuntimeError("secret")

    broken.match = untouched.app.match  # type: ignore[attr-defined]
    answer = ask(Guard(broken, Policy(hosts=LOOPBACK_NAMES)), "GET", "/api/meta")
    assert answer.status_code == 500
    assert answer.json == {"reason": "The dashboard failed to answer."}


def test_downloaded_tables_hold_no_formulas_and_numbers_stay(place: Any, ask: Ask) -> None:
    study = optuna.load_study(study_name="one", storage=place.db.optuna)
    formulas = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "-", "- 1"]
    for name in (*formulas, "1=2", "ü"):
        study.add_trial(optuna.trial.create_trial(value=-1e-05, user_attrs={"colour": name}))
    answer = ask(place.guard(edit=False), "GET", "/csv/1")
    assert answer.mimetype == "text/csv"
    assert answer.headers["content-disposition"].startswith("attachment")
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    column, value = header.index("UserAttribute colour"), header.index("Value")
    assert [row[column] for row in rows[2:]] == [*(f"'{name}" for name in formulas), "1=2", "ü"]
    assert {row[value] for row in rows[2:]} == {"-1e-05"}
