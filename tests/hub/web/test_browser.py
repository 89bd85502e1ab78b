"""The page in a real browser: the work of a night, by mouse and by keyboard, with nothing that axe finds wrong."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.hub.alerts import hub_alert, xss_alerts
from tests.hub.web.conftest import PASSWORD, Running

CHROMIUM = "/usr/bin/chromium"
expect.set_options(timeout=30_000)  # on machines that do much else, too
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = (
    "/",
    "/alerts",
    "/live",
    "/hosts",
    "/pipeline",
    "/exceptions",
    "/attack",
    "/report",
    "/me",
    "/people",
    "/audit",
    "/retention",
    "/help",
    "/?q=nothingisso",
    "/?q=(",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def closed(browser: Browser) -> Iterator[None]:
    """No window stays open behind a test."""
    yield
    for context in browser.contexts:
        context.close()


def open_as(browser: Browser, running: Running, name: str, width: int = 1440) -> Page:
    """A browser of its own in which somebody has logged in."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, base_url=running.base, accept_downloads=True
    )
    page = context.new_page()
    page.goto("/")
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.click("button.main")
    expect(page.locator(".who .name")).to_have_text(name)
    return page


def test_the_work_of_a_night(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "eve")

    # the one in 100,000
    page.fill("#q", "haystack")
    page.press("#q", "Enter")
    expect(page.locator("tr.group")).to_have_count(1)
    expect(page.locator("td.n")).to_have_text("1")
    page.click("tr.group a.open")
    expect(page.locator("p.message")).to_contain_text("Needle opened /srv/haystack/needle.key")
    needle = page.url

    # groups: the storm is a few lines, its counts exact
    page.goto("/?by=rule&order=count")
    expect(page.locator("tr.group").first).to_contain_text("Contact K8S API Server From Container")
    total = int(re.sub(r"\D", "", page.locator(".sum b").inner_text()))
    counts = [int(re.sub(r"\D", "", text)) for text in page.locator("tr.group td.n").all_inner_texts()]
    assert len(counts) <= 50
    assert sum(counts) == total > 95_000

    # exclude the noise, require a priority
    page.click("li:has-text('Contact K8S API S') >> a.exclude")
    expect(page.locator("tr.group").first).not_to_contain_text("Contact K8S API Server")
    page.click("aside a.require:has-text('Error')")
    expect(page.locator("#q")).to_have_value(re.compile('not rule = "Contact K8S.*" priority = Error'))
    assert set(page.locator("tr.group td.p").all_inner_texts()) == {"▲Error"}

    # acknowledge and snooze, by the buttons
    page.goto('/?q=rule+%3D+"Clear+log+activities"')
    first, second = page.locator("tr.group").nth(0), page.locator("tr.group").nth(1)
    first.locator("input").check()
    page.click("button:has-text('Acknowledge')")
    expect(page.locator("tr.s-acknowledged")).to_have_count(1)
    keys = second.get_attribute("data-keys")
    second.locator("input").check()
    page.click("button:has-text('Snooze')")
    page.click(".tabs a:has-text('snoozed')")
    assert json.loads(page.locator("tr.group").get_attribute("data-keys") or "") == json.loads(keys or "")

    # an exception, tried on stored alerts, committed
    page.goto("/newest?then=exception&q=" + quote("proc.name = backup.sh hostname = web-01"))
    expect(page.locator("#backtest")).to_contain_text(re.compile(r"silenced [\d,]+ of [\d,]+ alerts"))
    expect(page.locator("pre.diff .add").first).to_be_visible()
    page.fill("[name=reason]", "the nightly backup reads it")
    page.click("button:has-text('Commit')")
    expect(page.locator("table.exceptions")).to_contain_text("committed")
    local = running.settings.page.exceptions_file
    assert local is not None
    assert "the nightly backup reads it" in local.read_text()

    # share a view with another role
    page.goto("/?q=shadow&range=7d")
    page.click(".tools summary:has-text('Views')")
    page.fill(".tools input[name=name]", "shadow files")
    page.click(".tools button:has-text('Save')")
    page.goto("/me")
    link = page.locator("a:has-text('shadow files')").get_attribute("href")
    assert link is not None
    other = open_as(browser, running, "vic")
    other.goto(link)
    expect(other.locator("#q")).to_have_value("shadow")
    expect(other.locator("#bulk button")).to_have_count(0)
    other.goto(needle)
    expect(other.locator("h1")).to_be_visible()

    # export
    page.goto("/alerts?q=haystack")
    page.click(".tools summary:has-text('Export')")
    with page.expect_download() as download:
        page.click(".tools a:has-text('NDJSON')")
    [exported] = download.value.path().read_text().splitlines()
    assert json.loads(exported)["id"] == running.needle.id

    # out
    page.click(".who summary")
    page.click("button:has-text('Log out')")
    expect(page.locator("h1")).to_have_text("Log in")
    page.goto("/alerts")
    expect(page.locator("h1")).to_have_text("Log in")


def test_twenty_groups_by_keyboard_alone(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "abe")
    page.goto("/?order=count")
    before = page.locator("tr.group").evaluate_all("rows => rows.slice(0, 20).map(row => row.dataset.id)")
    for n in range(20):
        page.keyboard.press("j")
        here = page.locator("tr.here")
        expect(here).to_have_attribute("data-id", before[n])
        if n % 3 == 0:
            page.keyboard.press("a")
            expect(page.locator(f"tr[data-id='{before[n]}']")).to_have_class(re.compile("s-acknowledged"))
        elif n % 3 == 1:
            page.keyboard.press("c")
            page.keyboard.press("3")
            page.keyboard.press("Enter")
            expect(page.locator(f"tr[data-id='{before[n]}']")).to_have_class(re.compile("s-closed"))
        else:
            page.keyboard.press("s")
            page.keyboard.press("6")
            page.keyboard.press("Enter")
            expect(page.locator(f"tr[data-id='{before[n]}']")).to_have_class(re.compile("s-snoozed"))
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("h")
    expect(page.locator("h1")).to_have_text("Hosts")
    states = {row["state"] for row in page.request.get("/api/v1/groups?state=all&order=count").json()["groups"]}
    assert {"acknowledged", "closed", "snoozed"} <= states


def test_the_live_tail_shows_what_comes(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "vic")
    page.goto("/live?q=livecheck")
    expect(page.locator("#state")).to_contain_text("live")
    now = time.time_ns()
    for n in range(3):
        running.journal.append([hub_alert(n, ts_ns=now, hostname=f"live{now}", output=f"livecheck number {n}")])
        running.journal.append([hub_alert(n + 100, ts_ns=now, hostname=f"live{now}", output="something else")])
    expect(page.locator("#tail tr")).to_have_count(3)
    expect(page.locator("#tail tr").first).to_contain_text("livecheck number 2")
    page.click("#pause")
    running.journal.append([hub_alert(50, ts_ns=now, hostname=f"live{now}", output="livecheck number 50")])
    expect(page.locator("#held")).to_contain_text("1 wait")
    expect(page.locator("#tail tr")).to_have_count(3)
    page.click("#pause")
    expect(page.locator("#tail tr")).to_have_count(4)
    page.fill("#mark", "number 50")
    expect(page.locator("#tail mark")).to_have_count(1)


def test_a_brush_over_the_histogram_is_a_range(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "vic")
    box = page.locator("#histogram canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 30, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile("from=.*to="))
    total = int(re.sub(r"\D", "", page.locator(".sum b").inner_text()))
    assert 10_000 < total < 30_000


def test_alt_click_excludes(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "vic")
    page.click("aside a.require:has-text('Notice')", modifiers=["Alt"])
    expect(page.locator("#q")).to_have_value("not priority = Notice")


@pytest.mark.parametrize(
    "theme", [*(["system"] if os.environ.get("TERCEL_NIGHTLY") else []), "dark", "light", "contrast"]
)
def test_axe_finds_nothing(browser: Browser, running: Running, theme: str) -> None:
    source = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    page = open_as(browser, running, "ann", 1440 if theme != "light" else 390)
    page.goto("/me")
    page.select_option("[name=theme]", theme)
    page.click("section:has([name=theme]) button")
    id_ = quote(running.needle.id, safe="")
    for path in (*PAGES, f"/alert/{id_}", f"/alert/{id_}/exception"):
        page.goto(path)
        page.evaluate(source)
        # themes differ in colours: all other rules look at the same page, and run once
        rules = (
            {}
            if theme == "system" or path == "/"
            else {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
        )
        found = page.evaluate("rules => axe.run(document, {resultTypes: ['violations'], ...rules})", rules)
        told = [
            f"{path} {theme}: {v['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:200]}"
            for v in found["violations"]
            for node in v["nodes"][:3]
        ]
        assert not told, "\n".join(told)


def test_nothing_is_wider_than_a_telephone(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "ann", 360)
    for path in (*PAGES, f"/alert/{quote(running.needle.id, safe='')}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_hostile_text_is_inert_on_every_page(browser: Browser, running: Running) -> None:
    now = time.time_ns()
    made = xss_alerts(now)
    running.journal.append(made)
    deadline = time.monotonic() + 20
    while not running.indexed() and time.monotonic() < deadline:
        time.sleep(0.05)
    page = open_as(browser, running, "ann")
    wrong: list[str] = []
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(running.base) else None)
    paths = [
        "/live",
        *(p for p in PAGES if p != "/live"),
        "/?state=all&range=15min",
        "/alerts?range=15min",
        "/?by=rule&range=15min",
    ]
    paths += [f"/alert/{quote(a.id, safe='')}" for a in made]
    paths += [f"/alert/{quote(a.id, safe='')}/exception" for a in made[:3]]
    for path in paths:
        page.goto(path)
        assert page.evaluate("window.pwned") is None, path
        assert (
            page.locator("main script, main iframe, main img, main [onerror], main [onload], main [onfocus]").count()
            == 0
        ), path
        assert page.locator("a[href^='javascript']").count() == 0, path
    assert not wrong
    report = page.request.get("/report?format=md&range=15min").text()
    assert "<script" not in report
    assert "](javascript" not in report
    sheet = page.request.get("/export/csv?range=15min").text()
    assert "\n=" not in sheet
    assert ",=" not in sheet


def test_killed_and_started_again_it_has_everything(browser: Browser, running: Running) -> None:
    page = open_as(browser, running, "vic")
    before = page.request.get("/api/v1/pipeline").json()["store"]["alerts"]
    running.kill()
    now = time.time_ns()
    running.journal.append([hub_alert(n, ts_ns=now, hostname=f"after{now}", output="after the kill") for n in range(5)])
    running.start()
    deadline = time.monotonic() + 20
    while not running.indexed() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert page.request.get("/api/v1/pipeline").json()["store"]["alerts"] == before + 5
    assert running.process is not None
