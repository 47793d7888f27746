"""What tests of the commands share: a browser, and a look at a command's processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless chromium, driven by selenium."""
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
    found.set_page_load_timeout(60)
    yield found
    found.quit()


@pytest.fixture
def children_of() -> Callable[[int], dict[int, str]]:
    """The processes that a process has started, by number, with their command lines."""

    def find(number: int) -> dict[int, str]:
        listed = subprocess.run(
            ["pgrep", "-P", str(number), "-a"], capture_output=True, text=True, check=False
        ).stdout.splitlines()
        parts = [line.partition(" ") for line in listed]
        return {int(child): command for child, _, command in parts}

    return find
