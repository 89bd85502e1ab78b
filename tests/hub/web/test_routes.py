"""Who may do what: every route, every role; nothing without a session; no page that a foreign script could use."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.hub.people.roles import Right
from appliance.hub.web.live import Live
from appliance.hub.web.routes import table
from tests.hub.alerts import hub_alert
from tests.hub.web.conftest import NAMES, PASSWORD, Page

PUBLIC = {
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/oidc/start"),
    ("GET", "/oidc/back"),
    ("GET", "/healthz"),
    ("GET", "/api/v1/healthz"),
    ("POST", "/"),
    ("POST", "/api/v1/"),
    ("POST", "/api/v1/events/add"),
}
WHO_MAY = {
    Right.READ: {"vic", "abe", "eve", "ann"},
    Right.TRIAGE: {"abe", "eve", "ann"},
    Right.TUNE: {"eve", "ann"},
    Right.ADMIN: {"ann"},
}
ADMIN_ONLY = {"/people", "/people/{name}", "/audit", "/retention/hold", "/retention/forget", "/api/v1/audit"}
TUNE = {
    "/alert/{id:path}/exception",
    "/alert/{id:path}/exception/accept",
    "/exceptions/{number:int}/withdraw",
    "/pipeline/{output}/replay",
    "/api/v1/outputs/{output}/replay",
}


def filled(path: str) -> str:
    for name, value in (
        ("{id:path}", "web1:boot:1"),
        ("{number:int}", "1"),
        ("{output}", "siem"),
        ("{format}", "ndjson"),
        ("{slug}", "none"),
        ("{digest}", "none"),
        ("{name}", "nobody"),
        ("{dimension}", "rule"),
    ):
        path = path.replace(name, value)
    return path


def test_every_route_and_role_is_as_the_table_says(page: Page) -> None:
    page.put([hub_alert()])
    rows = table(Live(page.hub))
    assert {(row.method, row.path) for row in rows if row.right is None} == PUBLIC
    assert {row.path for row in rows if row.right is Right.ADMIN} == ADMIN_ONLY
    assert {row.path for row in rows if row.right is Right.TUNE} == TUNE
    assert {row.path for row in rows if row.right is Right.TRIAGE} == {"/triage", "/api/v1/triage"}
    clients = {name: page.client(name) for name in ("", *NAMES)}
    for row in rows:
        if row.right is None or row.path in ("/live/stream", "/logout"):
            continue
        path = filled(row.path)
        for name, client in clients.items():
            headers = {"X-CSRF-Token": page.csrf(client)} if name else {}
            said = client.request(row.method, path, headers=headers)
            told = f"{row.method} {path} as {name or 'nobody'}: {said.status_code}"
            if not name:
                if path.startswith("/api/") or row.method != "GET":
                    assert said.status_code == 401, told
                else:
                    assert said.status_code == 303, told
                    assert said.headers["location"].startswith("/login?next="), told
            elif name in WHO_MAY[row.right]:
                assert said.status_code not in (401, 403, 405, 500), told
            else:
                assert said.status_code == 403, told


def test_a_change_needs_the_token_of_ones_own_page(page: Page) -> None:
    client = page.client("ann")
    changes = [row for row in table(Live(page.hub)) if row.method == "POST" and row.right is not None and row.csrf]
    assert len(changes) > 15
    for row in changes:
        for headers in ({}, {"X-CSRF-Token": "x"}):
            assert client.post(filled(row.path), headers=headers).status_code == 403, row.path


def test_every_page_forbids_scripts_of_others(page: Page) -> None:
    page.put([hub_alert()])
    client = page.client("ann")
    for path in (
        "/",
        "/alerts",
        "/alert/web1:boot:1",
        "/live",
        "/hosts",
        "/static/app.js",
        "/login",
        "/nowhere",
        "/api/v1/count",
    ):
        said = client.get(path)
        policy = said.headers["content-security-policy"]
        assert "unsafe" not in policy, path
        assert "default-src 'none'" in policy, path
        assert said.headers["x-content-type-options"] == "nosniff", path
        if said.headers.get("content-type", "").startswith("text/html"):
            assert "<style" not in said.text, path
            assert " style=" not in said.text, path
            assert "<script>" not in said.text, path
            assert not any(f" on{event}=" in said.text for event in ("click", "load", "error", "submit")), path


def test_a_wrong_password_says_nothing_and_locks(page: Page) -> None:
    client = page.client()
    for _ in range(5):
        assert client.post("/login", data={"name": "ann", "password": "wrong wrong wrong"}).status_code == 401
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 401
    unknown = client.post("/login", data={"name": "nobody", "password": "x"})
    assert unknown.status_code == 401
    assert "nobody" not in unknown.text


def test_the_way_in_leads_nowhere_else(page: Page) -> None:
    for wanted in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        said = page.client().post("/login", data={"name": "ann", "password": PASSWORD, "next": wanted})
        assert (said.status_code, said.headers["location"]) == (303, "/")
    said = page.client().post("/login", data={"name": "ann", "password": PASSWORD, "next": "/alerts?q=a"})
    assert said.headers["location"] == "/alerts?q=a"
    assert "httponly" in said.headers["set-cookie"].lower()
    assert "samesite=lax" in said.headers["set-cookie"].lower()


def test_logging_out_ends_the_session(page: Page) -> None:
    client = page.client("vic")
    secret = client.cookies["tercel_session"]
    assert client.post("/logout", data={"csrf": page.csrf(client)}).status_code == 303
    client.cookies.set("tercel_session", secret)
    assert client.get("/").status_code == 303


def test_tokens_open_the_api_and_no_more_than_their_role(page: Page) -> None:
    ann = page.client("ann")
    made = ann.post("/me/tokens", data={"csrf": page.csrf(ann), "name": "script", "role": "viewer", "days": "1"})
    secret = made.text.split('id="made">')[1].split("<")[0]
    assert secret.startswith("tercel_")
    headers = {"Authorization": f"Bearer {secret}"}
    client = page.client()
    assert client.get("/api/v1/count", headers=headers).json() == {"count": 0}
    assert client.get("/api/v1/audit", headers=headers).status_code == 403
    assert client.post("/api/v1/triage", headers=headers, json={"groups": [], "action": "ack"}).status_code == 403
    assert client.get("/api/v1/count", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert secret not in str(page.hub.db.all("SELECT * FROM tokens"))


def test_behind_a_proxy(make_page: Callable[[str], Page]) -> None:
    page = make_page(
        "page: {base_path: /tercel, proxies: [127.0.0.0/8], proxy_user_header: Remote-User,"
        " proxy_role_header: Remote-Role}"
    )
    page.put([hub_alert()])
    client = page.client()
    headers = {"Remote-User": "zoe", "Remote-Role": "analyst"}
    said = client.get("/tercel/", headers=headers)
    assert said.status_code == 200
    assert 'href="/tercel/alerts"' in said.text
    assert 'src="/tercel/static/app.js' in said.text
    assert client.get("/tercel/static/app.js").status_code == 200
    csrf = said.text.split('data-csrf="')[1].split('"')[0]
    keys = '{"rule": "r"}'
    wrong = client.post("/tercel/triage", headers=headers, data={"action": "ack", "keys": keys})
    right = client.post("/tercel/triage", headers=headers, data={"action": "ack", "keys": keys, "csrf": csrf})
    assert (wrong.status_code, right.status_code) == (403, 303)
    assert client.get("/tercel/people", headers=headers).status_code == 403
    assert client.get("/tercel/", headers={"Remote-User": "ann"}).status_code == 303, (
        "a local user is not the proxy's to name"
    )


def test_nobody_else_names_users(make_page: Callable[[str], Page]) -> None:
    page = make_page("page: {proxies: [192.0.2.1], proxy_user_header: Remote-User}")
    assert page.client().get("/", headers={"Remote-User": "zoe"}).status_code == 303


def test_hidden_values_are_hidden_everywhere(make_page: Callable[[str], Page]) -> None:
    page = make_page("page: {hide: [{role: analyst, fields: [proc.cmdline]}]}")
    page.put(
        [
            hub_alert(
                fields={"proc.name": "mysql", "proc.cmdline": "mysql -pHunter2Secret"},
                output="ran mysql -pHunter2Secret",
            )
        ]
    )
    paths = (
        "/",
        "/alerts",
        "/alert/web1:boot:1",
        "/report",
        "/export/ndjson",
        "/export/csv",
        "/api/v1/alerts",
        "/api/v1/events/search",
    )
    query = "?range=all"
    for path in paths:
        assert "Hunter2Secret" not in page.client("abe").get(path + query).text, path
    assert "Hunter2Secret" in page.client("eve").get("/alerts" + query).text


def test_a_user_made_by_an_admin_chooses_a_password_first(page: Page) -> None:
    ann = page.client("ann")
    first = {"csrf": page.csrf(ann), "name": "new", "password": "given by ann 1", "role": "viewer"}
    assert ann.post("/people", data=first).status_code == 303
    client = page.client("new")
    assert "Choose a password of your own" in client.get("/").text
    changed = client.post(
        "/me/password", data={"csrf": page.csrf(client), "old": "given by ann 1", "new": "my own long one"}
    )
    assert changed.status_code == 303
    assert "Choose a password" not in client.get("/").text


def test_changes_are_in_the_audit_log(page: Page) -> None:
    ann = page.client("ann")
    ann.post("/triage", data={"csrf": page.csrf(ann), "action": "ack", "keys": '{"rule": "r"}'})
    ann.post("/retention/hold", data={"csrf": page.csrf(ann), "reason": "case 7"})
    ann.get("/export/ndjson")
    actions = [row["action"] for row in ann.get("/api/v1/audit").json()["audit"]]
    assert {"triage ack", "legal hold", "export"} <= set(actions)
    assert "case 7" in ann.get("/audit").text


def test_a_hold_forbids_deletion(page: Page) -> None:
    page.put([hub_alert(1), hub_alert(2, hostname="web2")])
    ann = page.client("ann")
    csrf = page.csrf(ann)
    ann.post("/retention/hold", data={"csrf": csrf, "reason": "case 7"})
    assert page.hub.journal.held() == "case 7 (ann)"
    assert "case 7" in ann.get("/retention").text
    forget = {"csrf": csrf, "hostname": "web1", "confirm": "web1"}
    assert ann.post("/retention/forget", data=forget).status_code == 409
    ann.post("/retention/hold", data={"csrf": csrf, "reason": ""})
    assert page.hub.journal.held() == ""
    assert ann.post("/retention/forget", data={**forget, "confirm": "web"}).status_code == 400
    assert ann.post("/retention/forget", data=forget).status_code == 303
    assert ann.get("/api/v1/count?range=all").json() == {"count": 1}


@pytest.mark.parametrize(
    "path", ["/?q=(", "/alerts?q=prority+%3D+x", "/?from=whenever", "/alerts?cursor=x", "/?range=soon"]
)
def test_a_mistake_in_the_address_says_what_to_do(page: Page, path: str) -> None:
    said = page.client("vic").get(path)
    assert said.status_code == 400
    assert "How to search" in said.text
