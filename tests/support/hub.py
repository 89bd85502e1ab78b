"""A receiver of alerts that wants certificates, for machines of a scenario: it outlives the command that starts it.

    python -m tests.support.hub start FOLDER        # certificates, then a server on the loopback: FOLDER/port
    python -m tests.support.hub account FOLDER      # what came, by the alerts' ids: see `account`
    python -m tests.support.hub certificate FOLDER NAME   # another one for a client: FOLDER/NAME.pem and .key
    python -m tests.support.hub stop FOLDER         # by pid

Comes in: POSTs over TLS by those who have a certificate of FOLDER/ca.pem. Goes out: FOLDER/alerts, a line for each
alert as it came, `{"id", "peer", "alert"}`: its id as the sender told it, the name in the sender's certificate.
A request is answered when its alerts are on that file: what the sender counts as delivered is there. FOLDER/log has a
line `refused: REASON` for each whose TLS did not come about.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.certificates import make_certificates, make_client
from tests.support.receivers import wait_until

IDLE_S = 60  # a machine whose cable is pulled never closes its connection


class Server(ThreadingHTTPServer):
    """Speaks TLS in the connection's thread, so that nobody who is slow stops the others."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.file = (folder / "alerts").open("a", buffering=1)
        self.writing = threading.Lock()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_verify_locations(folder / "ca.pem")
        super().__init__(("127.0.0.1", 0), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(IDLE_S)
        with contextlib.suppress(OSError):
            try:
                wrapped = self.tls.wrap_socket(request, server_side=True)
            except ssl.SSLError as error:
                print(f"refused: {error.reason}", flush=True)
                return
            with wrapped:
                super().finish_request(wrapped, client_address)


class Handler(BaseHTTPRequestHandler):
    """Takes one alert or a list of them."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        alerts = told if isinstance(told, list) else [told]
        ids = self.headers.get("Tercel-Alert-Id", "").split(", ")
        subject = self.connection.getpeercert()["subject"]
        peer = next(value for part in subject for key, value in part if key == "commonName")
        if len(ids) == len(alerts):
            lines = [json.dumps({"id": i, "peer": peer, "alert": a}) + "\n" for i, a in zip(ids, alerts, strict=True)]
            with self.server.writing:
                self.server.file.write("".join(lines))
        self.send_response(200 if len(ids) == len(alerts) else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(folder: Path) -> None:
    """Until somebody ends it."""
    with Server(folder) as server:
        (folder / "port.part").write_text(str(server.server_port))
        (folder / "port.part").rename(folder / "port")
        server.serve_forever(poll_interval=0.05)


def start(folder: Path) -> None:
    """Make it, and wait until it listens."""
    folder.mkdir(parents=True)
    make_certificates(folder)
    with (folder / "log").open("wb") as log:
        argv = [sys.executable, "-m", "tests.support.hub", "serve", str(folder)]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / "pid").write_text(str(child.pid))
    wait_until((folder / "port").exists, "the hub's port", 60)


def taken(folder: Path) -> Iterator[dict[str, Any]]:
    """What came so far; a line that is being written is not yet there."""
    for line in (folder / "alerts").read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def account(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each alert in the order in which it first came: `id`, `host`, `rule`, `output`, `times`, `peers`."""
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        alert = line["alert"]
        first = {"id": line["id"], "host": alert["hostname"], "rule": alert["rule"], "output": alert["output"]}
        row = rows.setdefault(line["id"], {**first, "times": 0, "peers": []})
        row["times"] += 1
        row["peers"] += [line["peer"]] if line["peer"] not in row["peers"] else []
    return list(rows.values())


def stop(folder: Path) -> None:
    """End it; nothing where it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "pid").read_text())
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():  # numbers are used again
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """See the charter above."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    match verb:
        case "serve" | "start" | "stop":
            {"serve": serve, "start": start, "stop": stop}[verb](folder)
        case "account":
            print(json.dumps(account(taken(folder))))
        case "certificate":
            make_client(folder, sys.argv[3])
        case _:
            raise SystemExit(f"no such verb: {verb}")


if __name__ == "__main__":
    main()
