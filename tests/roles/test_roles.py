"""What the roles do to a target: what is refused, what is changed, what a second run changes, what is taken back.

The inventory, the rules and the commands of docs/fleet.md are those that run here.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ALONE, CASE, ROOT, RULE, Controller, Played, inventory, message, ours
from tests.support.tree import Tree

pytestmark = pytest.mark.kernel

PAGE = (ROOT / "docs/fleet.md").read_text()
QUIET = {"rules_files": ["/etc/tercel/rules.d"], "config_files": ["/etc/tercel/config.d"], "watch_config_files": False,
         "stdout_output": {"enabled": False}, "canary": {"enabled": False}}  # fmt: skip
"""A configuration by which the rest of this machine raises no alert."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of docs/fleet.md as files."""
    folder = tmp_path_factory.mktemp("example")
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "fleet"


# -- the example of the page, from nothing to nothing


@pytest.fixture(scope="module")
def hosts(grow: Callable[[], Tree], fleet: Path, artifact: Path) -> dict[str, Tree]:
    """The hosts of the page as trees: one of them, all three where TERCEL_FLEET is set (`make nightly`)."""
    trees = {name: grow() for name in (("web1", "web2", "db1") if os.environ.get("TERCEL_FLEET") else ("db1",))}
    (fleet / "host_vars").mkdir()
    for name, tree in trees.items():
        (fleet / "host_vars" / f"{name}.yml").write_text(yaml.safe_dump(ALONE | {"tree_path": str(tree.root)}))
    return trees


def commands() -> list[str]:
    """The plays of the page."""
    return [
        line
        for line in PAGE.splitlines()
        if line.startswith("ansible-playbook") and "tercel.appliance" not in line and "hub.yml" not in line
    ]


def test_the_page_is_what_is_tested() -> None:
    assert commands() == [
        "ansible-playbook -i fleet/inventory.yml playbooks/site.yml --check --diff",
        "ansible-playbook -i fleet/inventory.yml playbooks/site.yml",
        "ansible-playbook -i fleet/inventory.yml playbooks/rollout.yml",
        "ansible-playbook -i fleet/inventory.yml playbooks/drift.yml -e tercel_drift_report=drift.json",
        "ansible-playbook -i fleet/inventory.yml playbooks/uninstall.yml",
        "ansible-playbook -i fleet/inventory.yml playbooks/uninstall.yml -e tercel_purge=true",
    ]


def test_the_example_from_nothing_to_nothing(controller: Controller, fleet: Path, hosts: dict[str, Tree]) -> None:
    check, site, rollout, drift, uninstall, purge = commands()
    nothing = {name: ours(tree) for name, tree in hosts.items()}
    limit = ",".join(hosts)

    def do(command: str) -> Played:
        words = command.replace("fleet/", f"{fleet}/").replace("=drift.json", f"={fleet}/drift.json").split()
        played = controller.run(*words, "--limit", limit)
        assert played.status == 0, played.out[-4000:]
        return played

    # a look changes nothing, and says what would be
    assert "would be made of tercel-" in message(do(check))
    assert {name: ours(tree) for name, tree in hosts.items()} == nothing

    # everything is there
    do(site)
    db = hosts["db1"]
    db.run("tercel", "check")
    assert (db.root / "usr/lib/systemd/system/tercel.service").exists()
    assert db.run("ls", "/etc/tercel/rules.d").stdout.split() == ["1-all-deploy.yaml", "200-db-deploy.yaml", "cases"]
    listed = json.loads(db.run("tercel", "list", "rules", "--json").stdout)
    assert [r["priority"].lower() for r in listed if "Deploy key read" in r.values()] == ["critical"]
    db.run("logrotate", "--debug", "/etc/logrotate.d/tercel")

    # a second run changes nothing
    played = do(site)
    assert {host: counts["changed"] for host, counts in played.recap.items()} == dict.fromkeys(hosts, 0), played.out

    # what somebody changed by hand is shown by a look, and mended by a run
    unit = db.root / "usr/lib/systemd/system/tercel.service"
    good = unit.read_text()
    unit.write_text(good.replace("CPUQuota=150%", "CPUQuota=900%"))
    played = do(check)
    assert played.recap["db1"]["changed"] == 1 and "(item=/usr/lib/systemd/system/tercel.service)" in played.out
    assert "CPUQuota=900%" in unit.read_text()
    played = do(rollout)
    assert unit.read_text() == good and not [p for p in unit.parent.glob("tercel.service*") if p != unit]
    assert set(re.findall(r"'?(\w+) +well *'?$", played.out, re.MULTILINE)) == set(hosts), played.out[-3000:]

    # no daemon runs in a tree: the report says so of each
    do(drift)
    rows = json.loads((fleet / "drift.json").read_text())
    assert {row["host"]: row["drift"] for row in rows} == {name: ["does not answer"] for name in hosts}

    # what is yours stays; then nothing does
    do(uninstall)
    left = ours(db) - nothing["db1"]
    assert left and all(re.match(r"/(etc|var/lib|var/log)/(tercel|logrotate.d/tercel)", path) for path in left), left
    do(purge)
    assert {name: ours(tree) - nothing[name] for name, tree in hosts.items()} == {name: set() for name in hosts}
    assert "tercel" not in db.run("cat", "/etc/passwd", "/etc/group").stdout


# -- outputs and rules of a running daemon


@pytest.fixture(scope="module")
def running(
    grow: Callable[[], Tree], artifact: Path, controller: Controller, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tree, Path]]:
    """A tree in which the role's daemon runs, and the inventory that reaches it."""
    tree = grow()
    folder = tmp_path_factory.mktemp("running")
    hosts = inventory(
        folder / "hosts.json", {"here": tree}, tercel_config=QUIET, tercel_rules_manage_service=True,
        tercel_rules_local=str(folder / "rules"), tercel_rules_window_s=5, tercel_rules_max_lost=10**9,
        tercel_rules_max_cpu_percent=10**4, tercel_rules_keep=2, tercel_rules_groups=[],
        tercel_outputs_config={"file_output": {"enabled": True, "filename": "/var/log/tercel/alerts.log"}},
    )  # fmt: skip
    played = controller.play("site", hosts, tercel_rules_manage_service=False)
    assert played.status == 0, played.out[-4000:]
    mounts = 'for m in sys dev; do mount --rbind "/$m" "$1/$m" || exit; done; exec chroot "$1" /usr/bin/tercel run'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, "sh", str(tree.root)]
    with (folder / "daemon.log").open("wb") as said:
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while tree.run("tercel", "status", check=False).returncode != 0:
            assert daemon.poll() is None and time.monotonic() < deadline, (folder / "daemon.log").read_text()
            time.sleep(0.2)
        yield tree, hosts
    finally:
        daemon.terminate()
        daemon.wait(240)


@pytest.fixture
def noise() -> Iterator[None]:
    """Programs start on this machine, again and again."""
    ended = threading.Event()

    def act() -> None:
        while not ended.wait(0.02):
            subprocess.run(["/bin/true"], check=False)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    ended.set()
    thread.join()


def in_force(tree: Tree) -> str:
    """The version of the rules."""
    return tree.run("readlink", "/etc/tercel/rules.d").stdout.strip().removeprefix("rules.releases/")


def enabled(tree: Tree) -> int:
    """Rules that the daemon judges by."""
    return int(json.loads(tree.run("tercel", "status", "--json").stdout)["generation"]["rules_enabled"])


LOUD = "- {rule: Loud, desc: d, condition: evt.type = execve, output: o, priority: INFO}\n"


def test_rules_are_tried_watched_and_taken_back(
    running: tuple[Tree, Path], controller: Controller, tmp_path: Path, noise: None
) -> None:
    tree, hosts = running
    layer = Path(json.loads(hosts.read_text())["all"]["vars"]["tercel_rules_local"]) / "all"
    (layer / "cases").mkdir(parents=True)
    rules, cases = layer / "mine.yaml", layer / "cases/mine.yaml"
    playbook = ROOT / "tests/roles/rules.yml"

    def roll(**variables: Any) -> Played:
        return controller.run(
            "ansible-playbook", "-i", hosts, playbook, "--extra-vars", json.dumps(variables)
        )  # fmt: skip

    # good ones are in force, and the daemon has them
    rules.write_text(RULE)
    cases.write_text(CASE)
    played = roll()
    assert played.status == 0, played.out[-4000:]
    first = in_force(tree)
    assert first != "none" and enabled(tree) == 1
    assert roll().recap["here"]["changed"] == 0

    # what somebody put beside them is taken away again, and then there is nothing more to do
    by_hand = tree.root / "etc/tercel/rules.releases" / first / "by_hand.yaml"
    by_hand.write_text(RULE.replace("Marker", "By hand"))
    tree.run("tercel", "reload")
    assert enabled(tree) == 2
    assert roll().status == 0 and not by_hand.exists() and enabled(tree) == 1
    assert roll().recap["here"]["changed"] == 0

    # a mistake, a case that fails: refused on the controller, nothing is changed
    for text, case, why in (
        (RULE.replace("fd.name", "fd.nmae"), CASE, "error[unknown-field]: no field is called `fd.nmae`"),
        (RULE, CASE.replace("true", "false"), "expected it not to fire, and it did"),
    ):
        rules.write_text(text)
        cases.write_text(case)
        played = roll()
        assert played.status != 0 and why in message(played) and played.recap["here"]["changed"] == 0, played.out[
            -3000:
        ]
        assert in_force(tree) == first

    # one that is too loud is in force for a moment, and then the one before is again
    rules.write_text(RULE + LOUD)
    cases.write_text(CASE)
    played = roll()
    assert played.status != 0, played.out[-3000:]
    assert re.search(r"were taken back, " + first + r" are in force: .*alerts in .*\(Loud ", message(played)), (
        played.out[-3000:]
    )
    assert in_force(tree) == first and enabled(tree) == 1

    # with a budget that allows it, it stays; the version before can be had again
    played = roll(tercel_rules_max_alerts_per_minute=10**9)
    assert played.status == 0, played.out[-4000:]
    assert in_force(tree) != first and enabled(tree) == 2
    played = controller.run("ansible-playbook", "-i", hosts, playbook, "--extra-vars", '{"undo": true}')
    assert played.status == 0, played.out[-4000:]
    assert in_force(tree) == first and enabled(tree) == 1

    # the note of the version before is where the daemon's user may write: it leads nowhere else
    (tree.root / "var/lib/tercel/rules.before").write_text("../../../tmp\n")
    played = controller.run("ansible-playbook", "-i", hosts, playbook, "--extra-vars", '{"undo": true}')
    assert played.status != 0 and "no version is known that was in force before" in message(played), played.out[-3000:]
    assert in_force(tree) == first

    # the report knows that this is not what the controller has
    report = tmp_path / "drift.json"
    assert controller.play("drift", hosts, tercel_drift_report=str(report)).status == 0
    (row,) = json.loads(report.read_text())
    assert row["answers"] and "local rules are not the controller's" in row["drift"], row
    rules.write_text(RULE)
    assert controller.play("drift", hosts, tercel_drift_report=str(report)).status == 0
    (row,) = json.loads(report.read_text())
    assert not {d for d in row["drift"] if d != "not well"} and len(row["config_sha256"]) == 64, row


def test_a_canary_that_goes_wrong_stops_the_rollout(
    running: tuple[Tree, Path], controller: Controller, bare: Tree, tmp_path: Path, noise: None
) -> None:
    tree, hosts = running
    told = json.loads(hosts.read_text())["all"]["vars"] | {"tercel_rules_local": str(tmp_path / "rules")}
    fleet = inventory(tmp_path / "hosts.json", {"here": tree, "next": bare, "last": bare}, **told)
    before, untouched = in_force(tree), ours(bare)
    (tmp_path / "rules/all").mkdir(parents=True)
    (tmp_path / "rules/all/loud.yaml").write_text(LOUD)
    report = tmp_path / "rollout.json"
    played = controller.play("rollout", fleet, tercel_rollout_canaries="here", tercel_rollout_report=str(report))
    assert played.status != 0, played.out[-3000:]
    rows = json.loads(report.read_text())
    assert [(row["host"], row["verdict"]) for row in rows] == [
        ("here", "failed"), ("next", "not touched"), ("last", "not touched"),
    ], played.out[-4000:]  # fmt: skip
    assert "Loud" in rows[0]["reason"] and in_force(tree) == before
    assert ours(bare) == untouched


def test_secrets_are_credentials_for_root_alone_and_nowhere_shown(
    controller: Controller, running: tuple[Tree, Path], tmp_path: Path
) -> None:
    tree, hosts = running
    (tmp_path / "key.pem").write_text("hush-the-key\n")
    wanted = {
        "tercel_outputs_config": {
            "http_output": {"enabled": True, "url": "credential:hub", "mtls": True,
                            "client_cert": "credential:cert", "client_key": "credential:key"},
        },
        "tercel_outputs_credentials": [
            {"name": "hub", "content": "https://hub.invalid/hush-the-token"},
            {"name": "cert", "content": "hush-the-cert"},
            {"name": "key", "src": str(tmp_path / "key.pem")},
        ],
    }  # fmt: skip
    playbook = ROOT / "tests/roles/outputs.yml"

    def put(**variables: Any) -> Played:
        return controller.run(
            "ansible-playbook", "-i", hosts, playbook, "--diff", "-v", "--extra-vars", json.dumps(variables)
        )

    before = tree.run("cat", "/etc/tercel/config.d/outputs.yaml").stdout
    for change, why in (
        ({"tercel_outputs_credentials": wanted["tercel_outputs_credentials"][:1]}, "does not have: cert, key"),
        ({"tercel_outputs_config": {"http_output": {"enabled": True}}}, "`http_output.url` is ``"),
        ({"tercel_outputs_config": {"htp_output": {}}}, "error[unknown-key]: there is no key `htp_output`"),
        (
            {"tercel_outputs_config": {"file_output": {"enabled": True, "filename": "/srv/x"}}},
            "lets the daemon write below",
        ),
    ):
        played = put(**(wanted | change))
        assert played.status != 0 and why in message(played) and played.recap["here"]["changed"] == 0, played.out[
            -3000:
        ]
    assert tree.run("cat", "/etc/tercel/config.d/outputs.yaml").stdout == before

    played = put(**wanted)
    assert played.status == 0, played.out[-4000:]
    assert "hush" not in played.out
    for name in ("hub", "cert", "key"):
        file = tree.root / "etc/tercel/credentials" / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_uid == 0 and "hush" in file.read_text()
    drop_in = (tree.root / "etc/systemd/system/tercel.service.d/60-credentials.conf").read_text()
    assert "LoadCredential=hub:/etc/tercel/credentials/hub\n" in drop_in and "hush" not in drop_in
    assert put(**wanted).recap["here"]["changed"] == 0

    # what is found wrong when the credentials are there already: they are again what they were, and no copy is left
    def secrets() -> dict[str, str]:
        return {file.name: file.read_text() for file in (tree.root / "etc/tercel/credentials").iterdir()}

    kept = secrets()
    played = put(
        tercel_outputs_config={"http_output": {"enabled": True, "url": "credential:hub", "echo": True}},
        tercel_outputs_credentials=[{"name": "hub", "content": "hush, no address"}, {"name": "new", "content": "hush"}],
    )
    assert played.status != 0 and "credentials that were there before are in force again" in message(played), played.out
    assert secrets() == kept and "hush" not in played.out, played.out
    assert (tree.root / "etc/systemd/system/tercel.service.d/60-credentials.conf").read_text() == drop_in
    assert tree.run("cat", "/etc/tercel/config.d/outputs.yaml").stdout.count("credential:") == 3
    assert tree.run("ls", "/etc/tercel/config.d").stdout.split() == ["outputs.yaml"]
    assert put(**wanted).recap["here"]["changed"] == 0

    # a log that is rotated goes on being so where what was to come after it is refused
    logged = {"file_output": {"enabled": True, "filename": "/var/log/tercel/my alerts.log"}}
    assert put(tercel_outputs_config=logged).status == 0
    rotation = (tree.root / "etc/logrotate.d/tercel").read_text()
    assert "my alerts.log" in tree.run("logrotate", "--debug", "/etc/logrotate.d/tercel").stderr
    played = put(
        tercel_outputs_config={"http_output": {"enabled": True, "url": "credential:hub"}},
        tercel_outputs_credentials=[{"name": "hub", "content": "hush, no address"}],
    )
    assert played.status != 0 and (tree.root / "etc/logrotate.d/tercel").read_text() == rotation, played.out

    # the hub in one variable
    linked = {"url": "https://hub.invalid:2801/", "token": "hush-hush-hush-hush", "group": "web"}
    linked["ca"] = str(tmp_path / "ca.pem")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=ca",
        "-keyout",
        tmp_path / "ca.key",
    ]
    subprocess.run([*made, "-out", tmp_path / "ca.pem"], check=True, capture_output=True)
    journal = {"journald_output": {"enabled": True}}
    played = put(tercel_outputs_config=journal, tercel_outputs_hub=linked)
    assert played.status == 0 and "hush" not in played.out, played.out[-4000:]
    assert yaml.safe_load(tree.run("cat", "/etc/tercel/config.d/outputs.yaml").stdout) == {
        "hub": {"url": linked["url"], "token": "credential:hub-token", "group": "web"},
        "http_output": {"enabled": True, "url": linked["url"], "batch": 256, "batch_wait_ms": 1000,
                        "token": "credential:hub-token", "ca_cert": "credential:hub-ca"},
        **journal,
    }  # fmt: skip
    assert secrets().keys() == {"hub-token", "hub-ca"}

    assert put(tercel_outputs_config=journal).status == 0
    assert not list((tree.root / "etc/tercel/credentials").iterdir())
    assert not (tree.root / "etc/systemd/system/tercel.service.d/60-credentials.conf").exists()
