"""Which rules see which acts of attackers, or of ordinary work: every act in a fresh container, with what fired there.

    bench/detection.py ACTS... [--tar TREE.tar] [--only PATTERN]

ACTS is JSON (a list of objects with `id` and `script`) or lines `ID<tab>SCRIPT`. TREE.tar is a Debian tree with the
tools that the acts use; without it `mmdebstrap` makes one with the packages below. Printed: a line for each act with
the rules that fired in its container, then how many acts raised an alert. Whether an alert is about the act is for the
reader to judge. What every container raises is left out: it is found by an act that does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.daemon import Daemon
from tests.support.docker import DockerEngine, cache_folder

PACKAGES = (
    "acl,at,attr,bsdextrautils,busybox,ca-certificates,cron,curl,dnsutils,e2fsprogs,file,gawk,gcc,git,"
    "gnupg,iproute2,iptables,kmod,ldap-utils,less,libc6-dev,libcap2-bin,logrotate,netcat-openbsd,netcat-"
    "traditional,nmap,openssh-client,openssh-server,openssl,p7zip-full,perl,pkexec,procps,psmisc,python3,"
    "rsync,rsyslog,socat,sshpass,strace,sudo,systemd,tcpdump,telnet,ufw,unzip,vim-tiny,wget,whois,xxd,"
    "zip"
)
ACT_S = 40
SETTLE_S = 1.5


def acts_of(path: Path) -> list[tuple[str, str]]:
    """The acts of a file: id and shell script."""
    if path.suffix == ".json":
        return [(row["id"], row["script"]) for row in json.loads(path.read_text())]
    with path.open(newline="") as file:
        return [(row[0], row[1]) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def tree(given: Path | None) -> Path:
    """A Debian tree as a tar, made if it is not there."""
    tar = given or cache_folder() / "detection.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        include = f"--include={PACKAGES}"
        subprocess.run(["mmdebstrap", "--variant=apt", include, "bookworm", os.fspath(tar)], check=True)
    return tar


class Stage:
    """A daemon with the default rules and an engine."""

    def __init__(self, daemon: Daemon, engine: DockerEngine) -> None:
        self.daemon, self.engine = daemon, engine
        self.acts = 0

    def act(self, script: str) -> Counter[str]:
        """The rules that fired in the act's container, and how often."""
        self.acts += 1
        name = f"act{self.acts}"
        argv = self.engine.argv("run", "--rm", "--network=none", "--name", name)
        before = len(self.daemon.alerts())
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*argv, "acts:1", "timeout", str(ACT_S - 10), "bash", "-c", f"ip link set lo up; {script}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ACT_S,
            )
        time.sleep(SETTLE_S)
        alerts = [a for a in self.daemon.alerts()[before:] if not a["rule"].startswith("Tercel internal")]
        of_it = [a for a in alerts if a["output_fields"].get("container.name") == name]
        return Counter(a["rule"] for a in of_it)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("acts", nargs="+", type=Path, metavar="ACTS")
    parser.add_argument("--tar", type=Path)
    parser.add_argument("--only", default="*", metavar="PATTERN")
    options = parser.parse_args()
    acts = [act for path in options.acts for act in acts_of(path) if fnmatch.fnmatch(act[0], options.only)]
    with tempfile.TemporaryDirectory(prefix="tercel-detection-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        engine = DockerEngine(folder / "engine")
        engine.start()
        try:
            engine.client("import", os.fspath(tree(options.tar)), "acts:1", timeout_s=900)
            config = {
                "containers": {"docker_sockets": [str(engine.socket)], "podman_sockets": [], "wait_ms": 10_000},
                "rule_matching": "all",
            }
            with Daemon(folder, config) as daemon:
                stage = Stage(daemon, engine)
                usual = stage.act("true").keys()
                seen = 0
                for id_, script in acts:
                    fired = {rule: n for rule, n in stage.act(script).items() if rule not in usual}
                    seen += bool(fired)
                    rules = "; ".join(f"{rule} x{n}" if n > 1 else rule for rule, n in fired.items())
                    print(f"{id_}\t{rules or '-'}", flush=True)
                print(f"{seen} of {len(acts)} acts raised an alert; left out: {', '.join(usual) or 'none'}")
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
