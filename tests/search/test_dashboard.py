"""The command as a process, and its pages in a real browser."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from search.dashboard import __main__ as dashboard
from search.store.folders import ARTIFACTS, RUNS
from search.store.opening import open_database
from tests.search.conftest import Refused
from tests.search.dashboard.conftest import ask

# Neither the environment's proxy nor one that another test left in urllib's own opener.
NO_PROXY = urllib.request.ProxyHandler({})
DIRECT = urllib.request.build_opener(NO_PROXY)
Make = Callable[..., Any]


def start(site: Any, *words: str) -> tuple[Any, str]:
    """Start the command on a free port. Returns its process and its address."""
    process = site.start("search.dashboard", "--port", "0", *words, stderr=subprocess.PIPE)
    return process, process.stdout.readline().strip()


def stop(process: Any, number: signal.Signals) -> tuple[int, str]:
    """Send it a signal. Returns its exit code and what it printed meanwhile."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with DIRECT.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_it_creates_missing_files_serves_new_studies_notes_their_removal_and_stops(
    make_site: Make,
) -> None:
    site = make_site()
    process, url = start(site)
    assert url.startswith("http://127.0.0.1:")
    assert (site.folder / RUNS / ARTIFACTS).is_dir()
    status, body = fetch(f"{url}api/studies")
    assert (status, json.loads(body)) == (200, {"study_summaries": []})
    db = open_database(site.url, must_exist=True)
    optuna.create_study(storage=db.optuna, study_name="late")
    db.close()
    assert b"late" in fetch(f"{url}api/studies")[1]
    (site.folder / "studies.db").unlink()
    status, body = fetch(f"{url}api/studies")
    assert status == 503
    assert "the file was removed or replaced" in json.loads(body)["reason"]
    code, printed = stop(process, signal.SIGINT)
    assert code == 130, printed
    assert "read-only" in printed
    assert "Traceback" not in printed


@pytest.mark.usefixtures("here")
def test_a_signal_that_a_destructor_swallows_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **_options: Any) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(optuna_dashboard, "wsgi", interrupted)
    monkeypatch.setattr(dashboard, "serve", lambda *_: pytest.fail("it serves"))
    assert dashboard.main(["--port", "0"]) == 143


def test_the_token_is_required_and_never_printed(make_site: Make) -> None:
    site = make_site()
    process, url = start(site, "--token-file", "dashboard.token")
    file = site.folder / "dashboard.token"
    secret = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert fetch(f"{url}api/studies")[0] == 401
    assert fetch(f"{url}api/studies", Authorization=f"Bearer {secret}")[0] == 200
    opener = urllib.request.build_opener(NO_PROXY, urllib.request.HTTPCookieProcessor())
    with opener.open(f"{url}dashboard?token={secret}", timeout=30) as answer:
        assert (answer.status, answer.url) == (200, f"{url}dashboard")
    code, printed = stop(process, signal.SIGTERM)
    assert code == 143, printed
    assert secret not in printed


@pytest.mark.usefixtures("here")
def test_while_the_server_is_away_it_says_so_in_a_line(
    postgres: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    answers = []

    def away(guard: Any, _: object) -> None:
        postgres.stop()
        try:
            answers.append(ask(guard, "GET", "/api/studies"))
        finally:
            postgres.start()
        answers.append(ask(guard, "GET", "/api/studies"))

    monkeypatch.setattr(dashboard, "serve", away)
    assert dashboard.main(["--port", "0", "--storage", postgres.new_database()]) == 0
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json["reason"].endswith("; check the server and the URL")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("folder", "path"), [("kept", "/artifacts/1/{}"), ("none", "/api/meta")])
def test_a_runs_folder_that_may_only_be_read(
    folder: str, path: str, monkeypatch: pytest.MonkeyPatch, refused: Refused, capsys: Any
) -> None:
    Path("picture.png").write_bytes(b"\x89PNG")
    artifacts, db = Path("kept", ARTIFACTS), open_database("sqlite:///studies.db")
    artifacts.mkdir(parents=True)
    picture = upload_artifact(
        artifact_store=FileSystemArtifactStore(artifacts),
        file_path="picture.png",
        study_or_trial=optuna.create_study(storage=db.optuna),
    )
    db.close()

    def forbidden(*_: Any, **_options: Any) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    def look(guard: Any, _: object) -> None:
        assert ask(guard, "GET", path.format(picture)).status_code == 200
        elsewhere = next(artifacts.iterdir()).rename("elsewhere")
        assert ask(guard, "GET", f"/artifacts/1/{picture}").status_code == 404
        elsewhere.rename(artifacts / picture)
        assert "Traceback" not in capsys.readouterr().err

    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    monkeypatch.setattr(Path, "mkdir", forbidden)
    monkeypatch.setattr(dashboard, "serve", look)
    words = ["--port", "0", "--runs-dir", folder]
    assert dashboard.main(words) == 0
    assert "no permission to write into" in refused(dashboard.main, [*words, "--edit"])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_address_with_the_token_is_printed_only_to_a_terminal(
    terminal: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    served = []
    monkeypatch.setattr(dashboard, "serve", lambda *arguments: served.append(arguments))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    words = ["--host", "0.0.0.0", "--allow-host", "gpu7", "--port", "0", "--token-file", "token"]
    assert dashboard.main(words) == 0
    printed = capsys.readouterr()
    secret = (here / "token").read_text().strip()
    assert printed.out.startswith("http://gpu7:")
    assert (f"/?token={secret}" in printed.out) == terminal
    assert secret not in printed.err
    assert len(served) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--port", "65536"], "65536"),
        (["--token-file", "weak"], "32 or more"),
        (["--runs-dir", "weak"], "not a folder"),
        (["--storage", "studies.db"], "studies.db"),
        (["--storage", "postgresql://me:secret@127.0.0.1:1/x"], "127.0.0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_on_one_line_and_leaves_nothing(
    words: list[str], says: str, here: Path, refused: Refused
) -> None:
    (here / "weak").write_text("hunter2\n")
    (here / "weak").chmod(0o600)
    chosen = words if "--port" in words else [*words, "--port", "0"]
    line = refused(dashboard.main, chosen)
    assert says in line
    assert len(line) < 400
    assert "me:secret" not in line
    assert [path.name for path in here.iterdir()] == ["weak"]


# The browser

PWN = "document.title='pwned'"
NOTE = f"""<script>{PWN}</script><img src=x onerror="{PWN}"><svg onload="{PWN}"></svg>
<iframe srcdoc="<script>top.{PWN}</script>"></iframe> ![x](http://127.0.0.2/x.png)

## Visible heading
"""
LOAD = {
    "script": """const s = document.createElement('script'); s.src = arguments[0];
              document.body.append(s)""",
    "worker": "try { new Worker(arguments[0]) } catch (error) {}",
}


def furnish(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Make a study with hostile content of every kind that a page shows. Returns the ids of an
    uploaded page and an uploaded script."""
    db = open_database(f"sqlite:///{folder / 'studies.db'}")
    study = optuna.create_study(
        storage=db.optuna, study_name="fashion", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    texts = [name for name in names if "\ud800" not in name and len(name) < 1000]
    for number in range(6):
        trial = study.ask()
        x, depth = trial.suggest_float("x", 0.1, 1), trial.suggest_int("depth", 1, 4)
        trial.suggest_categorical("kind", ["<b>a</b>", f"<img src=x onerror={PWN}>"])
        for step in range(3):
            trial.report(x / (step + 1), step)
        for place, name in enumerate(texts[number::6]):
            trial.set_user_attr(f"{place} {name[:40]}", name)
        study.tell(trial, x * depth)
    optuna_dashboard.save_note(study, NOTE)
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], text=[f"<img src=x onerror={PWN}>"] * 2))
    figure.update_layout(title=f"<b>x</b><script>{PWN}</script>")
    optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id="curves")
    (folder / RUNS / ARTIFACTS).mkdir(parents=True)
    page = folder / f"<img src=x onerror={PWN}>.html"
    page.write_text(f"<script>{PWN}</script>hello")
    (folder / "run.js").write_text(PWN)
    store = FileSystemArtifactStore(folder / RUNS / ARTIFACTS)
    made = [
        upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
        for path in (page, folder / "run.js")
    ]
    db.close()
    return made


def settled(browser: Any, script: str) -> Any:
    """The script's value as soon as it is true, because JavaScript renders the pages."""
    deadline = time.monotonic() + 120
    while not (found := browser.execute_script(f"return {script}")):
        assert time.monotonic() < deadline, (script, browser.page_source[:2000])
        time.sleep(0.1)
    return found


def blocked(browser: Any) -> list[str]:
    """What the page's policy has blocked since the last call, in the browser's words."""
    log = [entry["message"] for entry in browser.get_log("browser")]
    return [line for line in log if "Content Security Policy" in line]


def test_pages_render_under_their_policy_and_nothing_hostile_runs(
    make_site: Make, browser: Any, hostile_names: tuple[str, ...]
) -> None:
    site = make_site()
    artifact, script_id = furnish(site.folder, hostile_names)
    process, url = start(site)
    plots = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
    text = "document.body.innerText"
    useless = "[aria-label$=study], [data-testid=AddBoxIcon], [data-testid=EditIcon], "
    useless += "[data-testid=UploadFileIcon]"
    buttons = f"[...document.querySelectorAll('{useless}')]"
    hidden = 0
    for page, ready in {
        "": f"{text}.includes('fashion')",
        "/studies/1": f"{plots} >= 3",
        "/studies/1/analytics": f"{plots} >= 4",
        "/studies/1/trials": f"{text}.includes('Trial 5')",
        "/studies/1/smartSelection": "document.querySelectorAll('.parcoords').length",
        "/studies/1/note": f"{text}.includes('Visible heading')",
    }.items():
        browser.get(f"{url}dashboard{page}")
        settled(browser, ready)
        assert browser.title == "Optuna Dashboard", page
        assert not blocked(browser), page
        assert browser.execute_script(f"return {buttons}.every(b => !b.getClientRects().length)")
        hidden += browser.execute_script(f"return {buttons}.length")
    assert hidden >= 5, "the dashboard calls its buttons otherwise by now"

    # What would happen if HTML did get into a page:
    inject = "document.body.insertAdjacentHTML('beforeend', arguments[0])"
    browser.execute_script(inject, f'<img src="/none" onerror="{PWN}"><b id="injected">x</b>')
    browser.execute_script(inject, f'<iframe srcdoc="<script>top.{PWN}</script>"></iframe>')
    settled(browser, "document.getElementById('injected') !== null")
    script = f"const s = document.createElement('script'); s.text = {json.dumps(PWN)};"
    browser.execute_script(f"{script} document.body.append(s)")
    time.sleep(0.5)
    assert browser.title == "Optuna Dashboard"
    assert blocked(browser), "the policy was not there"

    # The bundle is the only script that runs, and nothing that was uploaded.
    for kind in ("script", "worker"):
        browser.execute_script(LOAD[kind], f"/artifacts/1/{script_id}")
    time.sleep(0.5)
    assert browser.title == "Optuna Dashboard"

    # An uploaded page is offered as a download and never shown.
    browser.get(f"{url}artifacts/1/{artifact}")
    assert "hello" not in browser.page_source
    assert browser.title != "pwned"
    assert stop(process, signal.SIGTERM)[0] == 143
