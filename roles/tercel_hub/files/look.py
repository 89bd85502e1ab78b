"""What the role wants to know of the host, asked in one go: JSON on standard output. It changes nothing.

One argument, JSON: `packages`, of which those that are missing are listed; `releases` and `current`, paths of the role's.
Runs on whatever python3 the host has.
"""

import json
import os
import platform
import subprocess
import sys


def names(folder):
    """What a folder holds, newest first; nothing where there is none."""
    try:
        return sorted(os.listdir(folder), key=lambda n: os.path.getmtime(os.path.join(folder, n)), reverse=True)
    except OSError:
        return []


def main():
    asked = json.loads(sys.argv[1])
    argv = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *asked["packages"]]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    there = {line.split()[0] for line in done.stdout.decode().splitlines() if line.endswith(" installed")}
    current = os.path.basename(os.readlink(asked["current"])) if os.path.islink(asked["current"]) else ""
    answer = {
        "python": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "uid": os.getuid(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "missing": sorted(set(asked["packages"]) - there),
        "releases": names(asked["releases"]),
        "current": current,
    }
    print(json.dumps(answer))


main()
