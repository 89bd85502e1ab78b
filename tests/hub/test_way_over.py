"""The steps of docs/from-falcosidekick.md and docs/from-falco.md, with alerts that the real Falco recorded."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx

from tests.hub.running import running, until
from tests.hub.test_hub import receiving
from tests.support.receivers import free_port
from tests.support.shared import shared_falco

ROOT = Path(__file__).resolve().parents[2]
SIDEKICK = """
listenaddress: 127.0.0.1
listenport: PORT
customfields: {site: lab}
webhook: {address: "URL", minimumpriority: warning}
"""
RULE = "- {rule: Marker, desc: d, condition: 'evt.type = openat and fd.name = /m', output: o, priority: INFO}\n"


def commands(page: str) -> list[list[str]]:
    """The commands of a page's blocks: each is run below, with other places and ports."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def tercel(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.cli.main", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_falco_goes_on_and_the_hub_takes_the_place_of_falcosidekick(tmp_path: Path) -> None:
    check, run, user = commands("from-falcosidekick.md")
    assert check[:3] == ["tercel", "hub", "check"] and run[:3] == ["tercel", "hub", "run"]
    recorded = [json.loads(line) for line in (shared_falco() / "alerts.jsonl").read_text().splitlines() if line]
    severe = [one for one in recorded if one["priority"] not in ("Notice", "Informational", "Debug")]
    with receiving() as receiver:
        config = tmp_path / "falcosidekick.yaml"
        config.write_text(SIDEKICK.replace("PORT", str(free_port())).replace("URL", receiver.url))
        with running(tmp_path, sidekick=config) as made:
            looked = made.ask("check")
            assert looked.returncode == 0, looked.stderr
            for alert in recorded:
                assert httpx.post(made.url, json=alert, timeout=30).status_code == 200
            until(lambda: len(receiver.ids) == len(severe), "what is severe enough is delivered")
            stored = made.exported()
            assert [one["output"] for one in stored] == [one["output"] for one in recorded]
            for kept, sent in zip(stored, recorded, strict=True):
                assert kept["output_fields"] == sent["output_fields"] | {"site": "lab"}
            figures = httpx.get(f"{made.url}/metrics").text
            assert "falcosecurity_falcosidekick_falco_events_total{" in figures
            added = tercel(*user[1:], "-o", f"data_dir={made.data_dir}")
            assert added.returncode == 0 and "one-time" in added.stdout, added.stderr


def test_falcos_files_are_tried_before_falco_is_replaced(tmp_path: Path) -> None:
    check, run = commands("from-falco.md")
    places = {"falco.yaml": str(shared_falco() / "falco.yaml")}
    rules = shared_falco() / "rules"
    local = tmp_path / "falco_rules.local.yaml"
    local.write_text(RULE)
    stable = next(iter(sorted(rules.glob("falco_rules*"))))
    wanted = [places.get(word, word) for word in check[1:]]
    wanted[-1] = f"rules_files=[{stable},{local}]"
    done = tercel(*wanted)
    assert done.returncode == 0, done.stderr[-2000:]
    assert run[:2] == ["tercel", "run"] and "file_output.enabled=true" in run
