"""The pages that follow a store: in a real browser during a real submission, and what no request gets out of them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.cli.conftest import GRID
from tests.reports.test_page import ATTACK
from tests.reports.worlds import simple, trial_name
from wtsbench.store.client import open_store

SECONDS = 240_000
"""Milliseconds, for a submission on a machine that is busy."""


def command(*arguments: str | Path) -> list[str]:
    """The command line `wtsbench ARGUMENTS`."""
    return [sys.executable, "-m", "wtsbench_cli", *map(str, arguments)]


@contextmanager
def served(store: Path) -> Iterator[str]:
    """The address that `wtsbench web` prints; it ends by SIGINT, as with Ctrl-C."""
    started = subprocess.Popen(command("web", "--store", store, "--port", "0"), stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        address = started.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?key=[\w-]{30,}", address)
        yield address
    finally:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=60)
    assert started.returncode in (0, 130)


def some_trial(store: Path) -> str:
    """The id of a trial that has ended."""
    return str(open_store(str(store)).trials(columns=["trial_id"])["trial_id"][0])


@pytest.mark.slow
@pytest.mark.browser
def test_pages_follow_a_submission(browser: Browser, tmp_path: Path) -> None:
    """Opened before there is a store: progress, a running trial with its log, then results, all without a reload."""
    grid = tmp_path / "small.yaml"
    grid.write_text(GRID.replace("[naive, logconf]", "[naive]"))
    said: list[str] = []
    with served(tmp_path / "store") as address:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if address[:20] not in request.url else None)
        page.goto(address)
        page.get_by_text("There is no store yet.").wait_for()
        page.evaluate("window.kept = true")
        run = subprocess.Popen(
            command("submit", "--sandbox", "process", "--executor", "in-process", grid),
            env={**os.environ, "WTSBENCH_STORE": str(tmp_path / "store")},
            stdout=subprocess.DEVNULL,
        )
        try:
            # The page is computed now and then: on a busy machine the trials may have ended before it is looked at.
            running = page.locator("table", has_text="Running now").get_by_role("link").first
            running.or_(page.locator("tr.live", has_text="1 of 1")).first.wait_for()
            place = running.get_attribute("href") if running.count() else f"/trial/{some_trial(tmp_path / 'store')}"
            trial = browser.new_page()
            trial.set_default_timeout(SECONDS)
            trial.context.add_cookies(page.context.cookies())  # type: ignore[arg-type]  # what it gives, it takes
            trial.goto(address.partition("?")[0].rstrip("/") + str(place))
            trial.get_by_text("begun, and not ended").or_(trial.get_by_text("done", exact=True)).first.wait_for()
            page.locator("tr.live", has_text="1 of 1").wait_for()
            trial.get_by_text("done", exact=True).first.wait_for()
            page.locator("button.source", has_text="naive").first.click()
            assert "wtsbench reproduce small --task safety-mini" in page.locator("dialog").inner_text()
        finally:
            run.wait(timeout=SECONDS / 1000)
        assert run.returncode == 0
        assert page.evaluate("window.kept") is True
        page.close()
        trial.close()
    assert said == []


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages of a store with a strategy and a failure of a hostile name."""
    folder = tmp_path_factory.mktemp("web")
    world = simple({ATTACK: 0.8}, skip=[(ATTACK, 1)], items=20)
    digest = world.datasets[0]["data_digest"]
    world.trial("student", "colours", "large", 1, digest, strategy=ATTACK, failure=("trial_error", f"{ATTACK}\x1b[31m"))
    world.folder(folder)
    with served(folder / "store") as given:
        yield given


def asked(address: str, path: str, *, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and body of an answer."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_nobody_reads_without_the_key_or_under_another_name(address: str) -> None:
    """No key, a wrong one, a host of another name (DNS rebinding), another method: nothing of the store comes back."""
    split = urlsplit(address)
    assert asked(address, "/")[0] == 403
    assert asked(address, "/", Cookie=f"wtsbench-{split.port}=wrong")[0] == 403
    status, headers, _ = asked(address, "/?key=wrong")
    assert (status, "Set-Cookie" in headers) == (403, False)
    status, headers, _ = asked(address, f"/?{split.query}")
    cookie = str(headers["Set-Cookie"])
    assert (status, headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    key = cookie.partition(";")[0]
    status, headers, body = asked(address, "/", Cookie=key)
    assert status == 200
    assert "connect-src 'self'" in body
    assert {"cache-control", "x-content-type-options", "referrer-policy"} <= {name.lower() for name in headers}
    assert asked(address, "/", Cookie=key, Accept="application/json", If_None_Match=str(headers["ETag"]))[0] == 304
    rebound = asked(address, "/", Cookie=key, Host="evil.example")
    assert (rebound[0], "colours" in rebound[2]) == (400, False)
    assert asked(address, "/", method="POST", Cookie=key)[0] == 405
    assert asked(address, f"/trial/{'0' * 64}", Cookie=key)[0] == 404


@pytest.mark.browser
def test_hostile_names_do_nothing_in_live_pages(address: str, browser: Browser) -> None:
    """Neither on the page, nor where a newer one takes its place, nor on a failed trial's own page."""
    page = browser.new_page()
    page.goto(address)
    page.locator("#live", has_text="live").wait_for()
    trial = trial_name("student", "colours", "large", 1, ATTACK)
    for path in ("/", f"/trial/{trial}"):
        page.goto(address.partition("?")[0].rstrip("/") + path)
        page.evaluate("tag = 'older'; look()")
        page.wait_for_timeout(1_500)
        assert page.locator("main").get_by_text("trial_error").count() >= 1
        assert page.title() != "owned"
        assert page.locator("img").count() == 0
    page.close()
