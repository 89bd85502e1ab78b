"""A hub to look at: on the loopback, in build/hub, with this host's agent or a fictitious fleet. `make hub`, `make demo`.

Prints the address of the page and a one-time password; ends all that it started at Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TERCEL = [sys.executable, "-m", "appliance.cli.main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="a day of a fictitious fleet instead of this host's agent")
    parser.add_argument("--page-port", type=int, default=2802)
    parser.add_argument("--collector-port", type=int, default=2801)
    parser.add_argument("--alerts", type=int, default=33_000, help="for --demo: how many")
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    folder = args.folder or ROOT / "build" / ("hub-demo" if args.demo else "hub")
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    config = folder / "tercel-hub.yaml"
    config.write_text(
        f"data_dir: {folder / 'data'}\ncollector: {{port: {args.collector_port}}}\npage:\n  port: {args.page_port}\n"
        f"  rules: [{ROOT / 'rules/tercel_rules.yaml'}, {ROOT / 'rules/tercel_attack_rules.yaml'}]\n  exceptions_file: {folder / 'tercel_rules.local.yaml'}\n"
    )
    hub = [*TERCEL, "hub"]
    if args.demo:
        subprocess.run([*hub, "demo", "--limit", str(args.alerts), "-c", str(config)], cwd=ROOT, check=True)
    password = one_time(hub, config)
    children = [subprocess.Popen([*hub, "run", "-c", str(config)], cwd=ROOT)]
    address = f"http://127.0.0.1:{args.page_port}/"
    if not answers(f"{address}healthz", children[0]):
        return 1
    if not args.demo and os.geteuid() == 0:
        url = f"http://127.0.0.1:{args.collector_port}/"
        # the shipped tercel.yaml switches http_output off, and what it says goes before the hub's defaults
        options = [f"hub.url={url}", "http_output.enabled=true", f"http_output.url={url}"]
        argv = [*TERCEL, "run", *(word for option in options for word in ("-o", option))]
        children.append(subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL))
    elif not args.demo:
        print("not root: the agent of this host is not started", file=sys.stderr)
    print(f"\n  {address}\n  user: admin\n  {password}\n\n  Ctrl-C ends it.\n", flush=True)
    return wait(children)


def one_time(hub: list[str], config: Path) -> str:
    """A password that can be used once: of a new admin, or of the one that is there."""
    for action in (["add", "admin", "--role", "admin"], ["password", "admin"]):
        argv = [*hub, "user", *action, "--one-time", "-c", str(config)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return "one-time password: " + done.stdout.strip().rpartition(" ")[2]
    sys.exit(done.stdout + done.stderr)


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether the page comes to answer."""
    for _ in range(300):
        if process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def wait(children: list[subprocess.Popen[bytes]]) -> int:
    """Until the first ends or we are told to; then all end."""
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: told.append(number))
    while not told and all(child.poll() is None for child in children):
        time.sleep(0.2)
    for child in reversed(children):
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
    return 0 if told else 1


if __name__ == "__main__":
    raise SystemExit(main())
