"""How it stands with the rules of a target: JSON on standard output. It changes nothing.

`link`: what rules.d points to, empty where it is no link; `foreign`: files in a rules.d that is none of ours; `versions`:
those that are there, the newest first; `command`: whether tercel is; `in_force`: digests of the rules that the running
daemon has read, none where it does not answer.
"""

import json
import os
import subprocess

RULES = "/etc/tercel/rules.d"
VERSIONS = "/etc/tercel/rules.releases"
TERCEL = "/usr/bin/tercel"


def in_force():
    """What `tercel status` says of rules files."""
    try:
        told = subprocess.run([TERCEL, "status", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
        return json.loads(told.stdout)["generation"].get("rules_files_sha256", {})
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None


link = os.readlink(RULES) if os.path.islink(RULES) else ""
versions = os.listdir(VERSIONS) if os.path.isdir(VERSIONS) else []
print(
    json.dumps(
        {
            "link": link,
            "foreign": sorted(os.listdir(RULES)) if not link and os.path.isdir(RULES) else [],
            "folder": not link and os.path.isdir(RULES),
            "versions": sorted(versions, key=lambda name: -os.stat(os.path.join(VERSIONS, name)).st_mtime),
            "command": os.path.exists(TERCEL),
            "in_force": in_force(),
        }
    )
)
