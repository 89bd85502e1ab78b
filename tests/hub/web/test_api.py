"""The API, its description, exports, Falcosidekick-UI's API: each as documented, none with a 5xx."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from appliance.hub.demo import fleet_alerts
from appliance.hub.people.roles import Role
from appliance.hub.web.app import make_app
from tests.hub.alerts import START_NS, hub_alert, xss_alerts
from tests.hub.web.conftest import Page


@pytest.fixture
def filled(page: Page) -> Page:
    page.put(list(fleet_alerts(2000, start_ns=START_NS)))
    return page


def token(page: Page, name: str = "ann", role: Role = Role.ADMIN) -> dict[str, str]:
    user = page.hub.accounts.user(name)
    assert user is not None
    secret = page.hub.accounts.make_token(user, "test", role, page.hub.now_ns(), 1)
    return {"Authorization": f"Bearer {secret}"}


def test_the_description_is_true_and_nothing_breaks(filled: Page) -> None:
    headers = token(filled)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", make_app(filled.hub), headers=headers)

    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def no_fault(case: schemathesis.Case) -> None:
            said = case.call(headers=headers)
            assert said.status_code < 500, f"{case.method} {case.path}: {said.text[:300]}"

        no_fault()


def test_search_pages_and_figures_agree(filled: Page) -> None:
    client, headers = filled.client(), token(filled)
    found: list[str] = []
    cursor = ""
    while True:
        said = client.get(
            f"/api/v1/alerts?range=all&q=proc.name+%3D+flux&limit=300&cursor={cursor}", headers=headers
        ).json()
        found += [alert["id"] for alert in said["alerts"]]
        cursor = said["cursor"]
        if not cursor:
            break
    count = client.get("/api/v1/count?range=all&q=proc.name+%3D+flux", headers=headers).json()["count"]
    assert len(found) == len(set(found)) == count > 500
    top = client.get("/api/v1/top/rule?range=all&limit=100", headers=headers).json()["values"]
    assert {v["value"]: v["count"] for v in top} == Counter(a.rule for a in filled.journal.alerts)
    histogram = client.get("/api/v1/histogram?range=all", headers=headers).json()
    assert sum(histogram["totals"]) == 2000
    one = client.get(f"/api/v1/alerts/{found[0]}", headers=headers).json()
    assert one["output_fields"]["proc.name"] == "flux"


def test_triage_by_program(filled: Page) -> None:
    client, headers = filled.client(), token(filled)
    [group, *_] = client.get("/api/v1/groups?range=all&order=count", headers=headers).json()["groups"]
    decided = {"groups": [group["keys"]], "action": "close", "reason": "expected"}
    assert client.post("/api/v1/triage", headers=headers, json=decided).json() == {"decided": 1}
    closed = client.get("/api/v1/groups?range=all&state=closed", headers=headers).json()["groups"]
    assert [g["id"] for g in closed] == [group["id"]]
    assert client.post("/api/v1/triage", headers=headers, json={"groups": [{}], "action": "ack"}).status_code == 400
    assert (
        client.post("/api/v1/triage", headers=headers, json={"groups": [{"rule": "r"}], "action": "close"}).status_code
        == 400
    )
    filled.put(
        [
            hub_alert(
                1,
                ts_ns=filled.hub.now_ns() + 10**9,
                hostname=group["keys"]["hostname"],
                rule=group["keys"]["rule"],
                fields={"proc.name": group["keys"]["proc.name"]},
            )
        ]
    )
    again = client.get("/api/v1/groups?range=all&state=open&q=" + group["keys"]["hostname"], headers=headers).json()[
        "groups"
    ]
    assert [g["why"] for g in again if g["id"] == group["id"]] == ["regressed"]


@pytest.mark.parametrize("query", ["", "&q=proc.name+%3D+flux", "&q=-flux"])
def test_exports_hold_the_whole_result(filled: Page, query: str) -> None:
    client, headers = filled.client(), token(filled)
    wanted = client.get("/api/v1/count?range=all" + query, headers=headers).json()["count"]
    lines = client.get("/api/v1/export/ndjson?range=all" + query, headers=headers).text.splitlines()
    rows = list(csv.DictReader(io.StringIO(client.get("/api/v1/export/csv?range=all" + query, headers=headers).text)))
    assert len(lines) == len(rows) == wanted
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]
    times = [json.loads(line)["time_ns"] for line in lines]
    assert times == sorted(times)


def test_parquet_is_read_by_others(filled: Page) -> None:
    import pyarrow.parquet as pq

    data = filled.client().get("/api/v1/export/parquet?range=all", headers=token(filled)).content
    table = pq.read_table(io.BytesIO(data))
    assert table.num_rows == 2000
    assert table.column("id").to_pylist() == [a.id for a in filled.journal.alerts]
    assert table.column("tags").to_pylist()[0] == list(filled.journal.alerts[0].tags)


def test_a_cell_is_no_formula(page: Page) -> None:
    page.put([hub_alert(output="=cmd|' /C calc'!A0", hostname="+x", rule="@y")])
    [row] = csv.DictReader(io.StringIO(page.client().get("/api/v1/export/csv?range=all", headers=token(page)).text))
    assert (row["output"][0], row["hostname"][0], row["rule"][0]) == ("'", "'", "'")


def test_hostile_text_is_data_in_exports(page: Page) -> None:
    """It comes back as it was, no cell of a sheet begins a formula, and no browser takes a file for a page."""
    alerts = page.put(xss_alerts())
    client, headers = page.client(), token(page)
    found = {}
    for form in ("ndjson", "csv", "parquet"):
        found[form] = client.get(f"/api/v1/export/{form}?range=all", headers=headers)
        assert "html" not in found[form].headers["content-type"]
        assert found[form].headers["content-disposition"].startswith("attachment")
        assert found[form].headers["x-content-type-options"] == "nosniff"
    lines = [json.loads(line) for line in found["ndjson"].content.split(b"\n") if line]
    assert {line["rule"] for line in lines} == {alert.rule for alert in alerts}
    assert {line["id"]: line["output_fields"] for line in lines} == {a.id: dict(a.fields) for a in alerts}
    rows = list(csv.reader(io.StringIO(found["csv"].content.decode(), newline="")))
    assert len(rows) == len(alerts) + 1
    assert {len(row) for row in rows} == {9}
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_scripts_for_the_other_page_go_on(filled: Page) -> None:
    client, headers = filled.client(), token(filled, role=Role.VIEWER)

    def get(path: str) -> dict[str, object]:
        said = client.get(path, headers=headers)
        assert said.status_code == 200, said.text
        value: dict[str, object] = said.json()
        return value

    assert get("/api/v1/events/count") == {"statistics": {"all": 2000}}
    by_rule = get("/api/v1/events/count/rule")
    assert by_rule["statistics"] == {"distincts": len(by_rule["results"]), "all": 2000}  # type: ignore[arg-type]
    found = get("/api/v1/events/search?priority=error,warning&limit=5&page=2&pretty=true")
    events = found["results"]
    assert isinstance(events, list)
    assert {event["priority"] for event in events} <= {"Error", "Warning"}
    assert set(events[0]) == {
        "uuid",
        "output",
        "priority",
        "rule",
        "time",
        "source",
        "output_fields",
        "hostname",
        "tags",
    }
    assert get("/api/v1/events/search?filter=nothingisso") == {"statistics": {"returned": 0, "all": 0}}
    assert get("/api/v1/events/count?filter=shado")["statistics"] != {"all": 0}
    assert client.get("/api/v1/events/count/uuid", headers=headers).status_code == 400
    for path in ("outputs", "version", "configuration", "config"):
        client.get(f"/api/v1/{path}", headers=headers).raise_for_status()
        assert client.get(f"/api/v1/{path}").status_code == 401
    assert client.post("/api/v1/auth", headers=headers).status_code == 200


@pytest.fixture
def collector() -> Iterator[tuple[int, list[dict[str, object]]]]:
    """Takes what is posted."""
    taken: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_falcosidekick_posts_reaches_the_collector(
    make_page: Callable[[str], Page], collector: tuple[int, list[dict[str, object]]]
) -> None:
    port, taken = collector
    page = make_page(f"collector: {{port: {port}}}\npage: {{post_token: 0123456789abcdef0123}}")
    event = {
        "uuid": "x",
        "output": "Ünï",
        "priority": "Error",
        "rule": "r",
        "time": "2026-01-01T00:00:00Z",
        "output_fields": {},
    }
    client = page.client()
    for path in ("/", "/api/v1/", "/api/v1/events/add"):
        assert client.post(path, json={"event": event, "outputs": []}).status_code == 401
        said = client.post(path, json={"event": event, "outputs": []}, auth=("x", "0123456789abcdef0123"))
        assert (said.status_code, said.text) == (200, '"{}"')
    assert len(taken) == 3
    assert taken[0]["output"] == "Ünï"
    assert client.post("/", content=b"{", headers={"Authorization": "Bearer 0123456789abcdef0123"}).status_code == 400
