"""What pages say, and what changes through them: in this process, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from appliance.hub import tune
from appliance.hub.demo import fleet_alerts
from appliance.hub.fleet.table import Host
from appliance.hub.query.predicate import predicate
from appliance.hub.store.base import EVER
from appliance.hub.web.filters import condition, read_view, with_condition
from appliance.hub.web.live import Live, Viewer
from appliance.hub.web.pages import host_state
from appliance.hub.web.reports import plain
from appliance.hub.web.rules import cells
from appliance.model.alert import Priority
from tests.hub.alerts import START_NS, hub_alert
from tests.hub.web.conftest import Page


def test_a_day_of_one_noisy_rule_is_few_rows(page: Page) -> None:
    alerts = list(fleet_alerts(33_000, start_ns=page.hub.now_ns() - 86_000 * 10**9, span_ns=85_000 * 10**9))
    page.put(alerts)
    said = page.client("vic").get("/").text
    assert 20 <= said.count("data-row") <= 50
    assert f"<b>{33_000:,}</b> alerts" in said
    by_rule = page.client("vic").get("/?by=rule").text
    counts = Counter(a.rule for a in alerts)
    for name, n in counts.items():
        assert re.search(rf"{re.escape(name)}.*?>{n:,}</a>", by_rule, re.S), name


def test_conditions_are_put_in_and_taken_out() -> None:
    text = with_condition("", condition("rule", "Write below etc"))
    assert text == 'rule = "Write below etc"'
    assert with_condition(text, condition("rule", "Write below etc")) == ""
    both = with_condition("a or b", condition("hostname", "web1"))
    assert both == "(a or b) hostname = web1"
    assert with_condition(both, f"not {condition('hostname', 'web1')}") == "(a or b) not hostname = web1"
    assert with_condition("", condition("proc.name", None)) == "(not proc.name exists)"
    view = read_view({"q": "not hostname = web1"}, START_NS)
    assert view.state_of("hostname", "web1") == "excluded"
    assert "hostname+%3D+web1" in view.require("hostname", "web1")
    assert "not" not in view.require("hostname", "web1")


def test_a_condition_of_any_value_finds_that_value(page: Page) -> None:
    for value in ('a "b" c', "-x", "a\\b", "(", "ünï", "=", "a b", "'", "in", "not"):
        alert = hub_alert(1, hostname=value)
        assert predicate(read_view({"q": condition("hostname", value)}, START_NS).tree)(alert), value


def test_new_is_what_came_since_the_last_visit(page: Page) -> None:
    now = page.hub.now_ns()
    page.put([hub_alert(1, ts_ns=now - 3600 * 10**9, rule="Old")])
    page.hub.accounts.start("vic", now - 1800 * 10**9, "")
    page.put([hub_alert(2, ts_ns=now - 60 * 10**9, rule="Fresh")])
    said = page.client("vic").get("/?by=rule,proc.name,hostname").text
    rows = said.split("data-row ")
    assert [("Fresh" in row, 'class="badge new"' in row) for row in rows[1:]].count((True, True)) == 1
    assert not any("Old" in row and 'class="badge new"' in row for row in rows[1:])


def test_the_alert_page_tells_the_story(page: Page) -> None:
    now = page.hub.now_ns()
    fields = {
        "proc.name": "nc",
        "proc.pid": 7,
        "proc.pname": "bash",
        "proc.ppid": 6,
        "proc.aname[2]": "java",
        "user.name": "tomcat",
        "container.name": "shop",
        "evt.type": "execve",
    }
    [main, *_] = page.put(
        [
            hub_alert(1, ts_ns=now, fields=fields, tags=("mitre_execution", "T1059")),
            hub_alert(2, ts_ns=now - 60 * 10**9, rule="Just before"),
            hub_alert(3, ts_ns=now - 3600 * 10**9, rule="Long before"),
            hub_alert(4, ts_ns=now, hostname="web2", rule="Elsewhere"),
        ]
    )
    said = page.client("ann").get(f"/alert/{main.id}").text
    around = said.split("Five minutes before and after")[1].split("</section>")[0]
    assert "Just before" in around
    assert "Long before" not in around
    assert "Elsewhere" not in around
    tree = said.split('class="tree"')[1].split("</ol>")[0]
    assert re.findall(r"<b>(.*?)</b>", tree) == ["java", "bash", "nc"]
    assert "https://attack.mitre.org/techniques/T1059/" in said
    case = said.split('id="case">')[1].split("</pre>")[0]
    assert json.loads(case.replace("&#34;", '"'))[0]["rule"] == main.rule
    assert page.client("ann").get("/alert/none").status_code == 404


def test_notes_and_assignees_are_kept(page: Page) -> None:
    [alert] = page.put([hub_alert(1)])
    abe = page.client("abe")
    csrf = page.csrf(abe)
    keys = json.dumps({"rule": alert.rule, "proc.name": "cat", "hostname": "web1"})
    for form in (
        {"action": "note", "text": "looked <b>at</b> it"},
        {"action": "assign", "assignee": "eve"},
        {"action": "close", "reason": "fixed"},
    ):
        assert abe.post("/triage", data={"csrf": csrf, "keys": keys, **form}).status_code == 303
    said = page.client("vic").get(f"/alert/{alert.id}").text
    assert "looked &lt;b&gt;at&lt;/b&gt; it" in said
    assert "@eve" in said
    assert "closed: fixed" in said
    for form in (
        {"action": "close"},
        {"action": "burn"},
        {"action": "snooze", "until": "whenever"},
        {"action": "assign", "assignee": "x"},
    ):
        assert abe.post("/triage", data={"csrf": csrf, "keys": keys, **form}).status_code == 400, form
    assert abe.post("/triage", data={"csrf": csrf, "action": "ack", "keys": '{"evil": 1}'}).status_code == 400


def test_the_proposal_is_narrow_and_tried(page: Page) -> None:
    same = {"proc.name": "backup", "proc.exepath": "/usr/bin/backup", "user.name": "root"}
    alerts = [hub_alert(n, fields={**same, "fd.name": f"/data/{n}"}) for n in range(1, 41)]
    alerts += [
        hub_alert(90, hostname="web2", fields={**same, "fd.name": "/x"}),
        hub_alert(91, fields={"proc.name": "cat"}),
    ]
    page.put(alerts)
    store = page.hub.store
    found = {c.name: c for c in tune.candidates(store, page.journal.alerts[0], EVER)}
    assert {name for name, c in found.items() if c.chosen} == {"proc.exepath", "user.name"}
    assert "40 values" in found["fd.name"].why
    values = {name: c.value for name, c in found.items() if c.chosen}
    tested = tune.back_test(store, page.journal.alerts[0], values, EVER)
    assert (tested.silenced, tested.total, tested.beyond) == (41, 42, 1)
    assert [a.hostname for a in tested.others] == ["web2"]


def test_an_accepted_exception_is_a_rules_file_that_loads(make_page: Callable[[str], Page], tmp_path: Path) -> None:
    from appliance.lang.load import load_rules

    local = tmp_path / "tree" / "rules.local.yaml"
    local.parent.mkdir()
    local.write_text("# ours\n")
    git = ["git", "-C", str(local.parent), "-c", "user.name=t", "-c", "user.email=t@t"]
    for argv in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *argv], check=True)
    page = make_page(f"page: {{exceptions_file: {local}, commit_exceptions: true}}")
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- {rule: Shell, desc: d, condition: evt.type = execve and proc.name = bash, output: o, priority: NOTICE}\n"
    )
    hostile = 'a"b: [c] \\ # x'
    fields = {"proc.name": "bash", "proc.exepath": hostile, "user.name": "ünï"}
    [alert] = page.put([hub_alert(1, ts_ns=page.hub.now_ns(), rule="Shell", fields=fields)])
    eve = page.client("eve")
    form = {
        "csrf": page.csrf(eve),
        "field": ["proc.exepath", "user.name"],
        "name": "hub_shell",
        "ends": "30d",
        "reason": "because\n- rule: Evil",
        "how": "commit",
    }
    said = eve.post(f"/alert/{alert.id}/exception/accept", data=form)
    assert said.status_code == 303, said.text
    text = local.read_text()
    assert text.startswith("# ours\n")
    assert "\n- rule: Evil" not in text
    loaded = load_rules([rules, local])
    assert not [d for d in loaded.diagnostics if d.severity.value == "error"], loaded.diagnostics
    assert "hub_shell" in subprocess.run([*git, "log", "-1", "--format=%s %an"], capture_output=True, text=True).stdout
    listed = eve.get("/exceptions").text
    assert "committed" in listed
    patch = eve.post(f"/alert/{alert.id}/exception/accept", data={**form, "how": "patch", "name": "hub_other"})
    assert "+- rule: Shell" in patch.text
    applied = subprocess.run([*git, "apply", "--check", "-"], input=patch.text, text=True, capture_output=True)
    assert applied.returncode == 0, applied.stderr


def test_a_report_holds_no_markup_of_strangers() -> None:
    for text in ("<script>", "[x](javascript:1)", "![x](y)", "a|b", "# x", "`x`", "a\nb", "<!--"):
        made = plain(text)
        assert "<" not in made
        assert "\n" not in made
        assert not re.search(r"(?<!\\)[\[\]|`#!*_]", made), made


def test_tags_are_cells_of_attack() -> None:
    assert cells(["mitre_execution", "T1059.004", "shell"]) == {("execution", "T1059.004")}
    assert cells(["T1611"]) == {("privilege_escalation", "T1611")}
    assert cells(["container"]) == set()


def test_how_a_host_is() -> None:
    second = 10**9
    now = 10_000 * second
    agent = Host("web1", "agent", last_seen_ns=now - 5 * second)
    assert host_state(agent, 90, now) == ("well", "")
    for changes, state in (
        ({"last_seen_ns": now - 100 * second}, "silent"),
        ({"last_seen_ns": now - 60 * second}, "late"),
        ({"reported": ["losses:b:4"]}, "losing"),
        ({"reported": ["rules drift"]}, "drifted"),
        ({"troubles": ["x"]}, "troubled"),
        ({"kind": "falco", "last_seen_ns": 0}, "alerts only"),
    ):
        assert host_state(replace(agent, **changes), 90, now)[0] == state  # type: ignore[arg-type]


def test_a_slow_viewer_is_told_what_it_missed() -> None:
    viewer = Viewer(lambda alert: alert.priority <= Priority.ERROR)
    for n in range(400):
        viewer.offer(hub_alert(n, priority=Priority.ERROR))
        viewer.offer(hub_alert(n, priority=Priority.DEBUG))
    assert (viewer.queue.qsize(), viewer.missed) == (300, 100)


async def test_the_reader_follows_only_while_somebody_watches(make_page: Callable[[str], Page]) -> None:
    page = make_page("")
    live = Live(page.hub)
    task = asyncio.create_task(live.run())
    page.journal.append([hub_alert(1)])
    await asyncio.sleep(0.15)
    first, second = Viewer(lambda alert: True), Viewer(lambda alert: True)
    await live.join(first, page.journal.last())
    page.journal.append([hub_alert(2)])
    assert (await asyncio.wait_for(first.queue.get(), 5)).id == "web1:boot:2"
    assert first.queue.empty()
    since = page.journal.last()
    page.journal.append([hub_alert(3)])
    assert (await asyncio.wait_for(first.queue.get(), 5)).id == "web1:boot:3"
    await live.join(second, since)  # the reader is past it already
    assert (await asyncio.wait_for(second.queue.get(), 5)).id == "web1:boot:3"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
