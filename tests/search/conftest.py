"""What the commands' tests share: a browser, access to a command's processes, and studies."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
import torch
from sqlalchemy import func, select

from search.running.study import run_study
from search.store import StorageError
from search.store.opening import open_database
from search.store.records import epochs_of
from search.store.schema import epochs, leases
from search.store.studies import find_study, require_study
from search.store.views import StudyView, view_study
from search.terminal.commands import LOADING, run
from search.training.device import kept_threads
from tests.conftest import draw_nothing

# Fixtures of their own files, for every test below this folder.
from tests.search.blobs import bundle, network, task  # noqa: F401
from tests.search.made_up_views import result_row, small_study  # noqa: F401
from tests.search.workplaces import (  # noqa: F401
    db,
    end,
    filled,
    lease,
    make_workplace,
    postgres_tables,
    rows_read,
    small_disk,
    sqlite_tables,
    study,
    workplace,
)

Main = Callable[[list[str] | None], int | None]
Refused = Callable[[Main, Sequence[str]], str]
Call = Callable[..., tuple[str, str]]
ROOT = Path(__file__).parents[2]
SECRET = "hunter2-of-the-guarded"
SAME = ("--config", "small.toml", "--study", "s", "--workers", "1")  # what `Site.search` trains
SMALL = """\
[study]
trials = {trials}
epochs = 5
limit = 400
dataset = "digits"
pruner = "{pruner}"

[space]
depth = {{ low = 1, high = 2 }}
width = {{ low = 4, high = 12 }}
learning_rate = {{ low = 1e-3, high = 1e-2, log = true }}
dropout = {{ low = 0.0, high = 0.4 }}
hidden = [32]
augmentation = "flip-crop-erase"

[baseline]
depth = 1
width = 4
"""
TINY = """\
[study]
pruner = "promotion"
budget = 0.13
patience = 3

[space]
depth = 1
width = { low = 4, high = 12 }
hidden = [[16], [32]]

[baseline]
width = 8
hidden = [16]
"""


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket on a real S3 server, reachable also by what the test starts."""
    from moto.server import ThreadedMotoServer  # takes a second to load

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"ENDPOINT_URL": f"http://{host}:{port}", "DEFAULT_REGION": "us-east-1"}
    access |= {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in access.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        with urlopen(Request(f"{access['ENDPOINT_URL']}/bucket", method="PUT")):
            yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    """A headless chromium, driven by selenium, which takes seconds to start."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        missing = "no chromium with chromedriver (Debian: apt-get install chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    webgl = ("--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader")
    for word in ("--headless=new", "--no-sandbox", "--window-size=1400,1600", *webgl):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.set_page_load_timeout(180)
    yield found
    found.quit()


@pytest.fixture
def browser(chrome: Any) -> Iterator[Any]:
    """The chromium, as if it had just been started."""
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chrome.get_log("browser")  # empties it
    yield chrome
    chrome.get("about:blank")


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a process has started."""
    return psutil.Process(process.pid).children() if process.poll() is None else []


class Site:
    """A folder in which a study runs, its database, and all reports that were ever seen in it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.folder.mkdir(parents=True)
        self.seen: set[tuple[int, int, float]] = set()  # trial, epoch, validation loss
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Run a module with its arguments, in its own session; options as for `Popen`."""
        given: dict[str, Any] = {
            "env": {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SEARCH_STORAGE": self.url,
                "OMP_NUM_THREADS": "1",
                "CI": "true",
            },
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            **options,
        }
        command = [sys.executable, "-W", "error", "-m", *words]
        process = subprocess.Popen(
            command, cwd=self.folder, text=True, start_new_session=True, **given
        )
        self._started.append(process)
        return process

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        """What a module with its arguments prints; see `output_of`."""
        return self.output_of(self.start(*words, stderr=subprocess.PIPE), code, seconds=300)

    def output_of(
        self, process: subprocess.Popen[str], code: int = 0, *, seconds: float = 120
    ) -> tuple[str, str]:
        """Standard output and standard error, if piped, of a process that ends with this code."""
        out, err = process.communicate(timeout=seconds)
        assert process.returncode == code, (process.returncode, out, err)
        return out, err

    def search(
        self, trials: int, *words: str, pruner: str = "halving", **options: Any
    ) -> subprocess.Popen[str]:
        config = self.write_config(trials, pruner).name
        return self.start(
            *("search.study", "--config", config, "--study", "s", "--storage", self.url),
            *words,
            **options,
        )

    def finish(self, trials: int, pruner: str = "halving", **more: Any) -> None:
        """Train the study to its total in this process, because starting another takes seconds."""
        config, runs = self.write_config(trials, pruner), self.folder / "runs"
        options: dict[str, Any] = {"storage": self.url, "runs_dir": runs, "trials": trials, **more}
        with kept_threads():
            torch.set_num_threads(1)  # as other processes of the site have
            run_study(config, study="s", workers=1, progress=False, **options)

    def write_config(self, trials: int, pruner: str = "halving") -> Path:
        config = self.folder / "small.toml"
        config.write_text(SMALL.format(trials=trials, pruner=pruner))
        return config

    def reports(self) -> int:
        """How many are in the database; all earlier ones must still be there, bit for bit."""
        with closing(open_database(self.url, must_exist=True)) as opened:
            study = find_study(opened, "s")
            rows = () if study is None else epochs_of(opened, study.study_id)
        stored = {(row.trial_number, row.epoch, row.validation_loss) for row in rows}
        assert self.seen <= stored
        self.seen = stored
        return len(stored)

    def view(self, name: str = "s") -> StudyView:
        self.reports()
        with closing(open_database(self.url, must_exist=True)) as opened:
            return view_study(require_study(opened, name))

    def held(self) -> int:
        """How many trials workers hold."""
        held = select(func.count()).select_from(leases).where(leases.c.expires_at > 0)
        with closing(open_database(self.url)) as opened, opened.engine.connect() as connection:
            return connection.scalar(held) or 0

    def wait_for_reports(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with (
                suppress(StorageError),  # not there yet
                closing(open_database(self.url, must_exist=True)) as opened,
            ):
                while time.monotonic() < deadline:
                    with opened.engine.connect() as connection:  # cheap, beside what is tested
                        stored = connection.scalar(select(func.count()).select_from(epochs)) or 0
                    if stored >= count and self.reports() >= count:
                        return
                    time.sleep(0.02)
            time.sleep(0.02)
        raise AssertionError("reports did not come")

    @contextmanager
    def once(self, count: int, act: Callable[[], object]) -> Iterator[None]:
        """During the block, call `act` in a thread as soon as so many reports are stored."""
        with ThreadPoolExecutor() as threads:
            done = threads.submit(lambda: (self.wait_for_reports(count), act()))
            yield
            done.result()

    def close(self) -> None:
        end(self._started)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites = []

    def make(name: str = "site", url: str | None = None) -> Site:
        folder = tmp_path / name
        sites.append(Site(folder, url or f"sqlite:///{folder / 'studies.db'}"))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, as the current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)  # keeps the proxies of its first use


def search_in(folder: Path, **options: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_nothing(patch)
        run_study(dataset="digits", trials=3, epochs=2, seed=0, progress=False, **options)
    return folder


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three tiny networks on digits, named digits, and the file
    that it was made from."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.toml").write_text(TINY)
    return search_in(folder, config="tiny.toml", study="digits")


def copy_untested(searched: Path, folder: Path) -> Path:
    """A copy of that folder, without what other tests of this session have finalised in it."""
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("final*"))
    with sqlite3.connect(folder / "studies.db") as connection:
        connection.execute("DELETE FROM results")
    return folder


@pytest.fixture
def place(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `searched`, as the current directory."""
    monkeypatch.chdir(searched)
    return searched


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command's `main` with arguments, in this process, because another takes seconds to
    start. Returns what it prints, after checking its exit code."""

    def run_here(main: Main, words: Sequence[str], code: int) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["search", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run(main)
        out, err = capsys.readouterr()
        assert caught.value.code == code, (out, err)
        return out, err

    return run_here


@pytest.fixture
def refused(ended: Call) -> Refused:
    """Runs a command's `main` with bad arguments: it must end with exit code 2 and one line, which
    is returned."""

    def end_of(main: Main, words: Sequence[str]) -> str:
        out, err = ended(main, words, 2)
        assert out == ""
        lines = [line for line in err.splitlines() if LOADING not in line]
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0]

    return end_of


@pytest.fixture
def call(ended: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Like `ended`, in a site's folder and with its database."""

    def run_there(site: Site, main: Main, *words: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(site.folder)
        monkeypatch.setenv("SEARCH_STORAGE", site.url)
        with kept_threads():
            torch.set_num_threads(1)  # as other processes of the site have
            return ended(main, words, code)

    return run_there


@pytest.fixture
def guarded(postgres: Any) -> Iterator[str]:
    """The URL, password included, of a database that asks for one."""
    for statement in (
        "DROP DATABASE IF EXISTS guarded",
        "DROP ROLE IF EXISTS guarded",
        f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'",
        "CREATE DATABASE guarded OWNER guarded",
    ):
        postgres.execute(statement)
    yield postgres.url("guarded", user=f"guarded:{SECRET}")
    postgres.execute("DROP DATABASE guarded WITH (FORCE)")
