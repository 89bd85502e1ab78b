"""From the journal to the open tails of many viewers: how long an alert takes, and what that costs the page.

    bench/hub_live.py [--viewers 500] [--seconds 8] [--rate 20]

Starts a page of its own over an empty hub, opens so many streams, appends alerts at a steady rate, and prints one JSON
object: milliseconds from append to each viewer, and the page's processor time. What a browser takes is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from appliance.hub.demo import fleet_alerts
from appliance.hub.journal.sqlite import SqliteJournal
from appliance.hub.load import settings_of
from appliance.hub.people.accounts import Accounts
from appliance.hub.people.database import Database
from appliance.hub.people.roles import Role

PORT = 28_411
RUN = """
from appliance.hub.load import settings_of
from appliance.hub.web.serve import main
if __name__ == "__main__":
    main(settings_of(open({path!r}).read()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(asyncio.run(measure(args, Path(made))), indent=1))


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Run it all."""
    text = f"data_dir: {folder}\npage: {{port: {PORT}}}\n"
    (folder / "hub.yaml").write_text(text)
    settings = settings_of(text)
    journal = SqliteJournal(folder / "journal", settings.journal, writes=True)
    accounts = Accounts(Database(folder / "page.sqlite"))
    accounts.add("viewer", "a long password", Role.VIEWER, time.time_ns())
    user = accounts.user("viewer")
    token = accounts.make_token(user, "bench", Role.VIEWER, time.time_ns(), 1) if user else ""
    script = folder / "page.py"
    script.write_text(RUN.format(path=str(folder / "hub.yaml")))
    process = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[1])
    try:
        await asyncio.sleep(4)
        seen: list[float] = []
        sent: dict[str, float] = {}
        viewers = [asyncio.create_task(watch(token, sent, seen)) for _ in range(args.viewers)]
        await asyncio.sleep(3)
        before = cpu_s(process.pid)
        begun = time.monotonic()
        for n, alert in enumerate(fleet_alerts(int(args.rate * args.seconds), start_ns=time.time_ns())):
            await asyncio.sleep(max(0.0, begun + n / args.rate - time.monotonic()))
            sent[alert.id] = time.monotonic()
            await asyncio.to_thread(journal.append, [alert])
        await asyncio.sleep(1)
        spent = cpu_s(process.pid) - before
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)
        seen.sort()
        return {
            "viewers": args.viewers,
            "rows": len(seen),
            "expected": args.viewers * len(sent),
            "p50_ms": round(seen[len(seen) // 2] * 1000),
            "p95_ms": round(seen[int(len(seen) * 0.95)] * 1000),
            "page_cores": round(spent / (args.seconds + 1), 2),
        }
    finally:
        process.terminate()
        process.wait()
        journal.close()


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch(token: str, sent: dict[str, float], seen: list[float]) -> None:
    """One viewer: how long each row took to come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=1 << 22)
    head = "GET /live/stream HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
    writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
    try:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                now = time.monotonic()
                for row in json.loads(line[6:])["rows"]:
                    id_ = row.split("/alert/", 1)[1].split('"', 1)[0].replace("%3A", ":")
                    seen.append(now - sent[id_])
    finally:
        writer.close()


if __name__ == "__main__":
    main()
