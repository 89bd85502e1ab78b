"""Watches the daemon for a while after new rules, against a budget. Exit status 1, and why, as soon as one is exceeded.

One argument, JSON: `seconds`, `alerts_per_minute`, `lost`, `cpu_percent`. On standard output, JSON: `reasons`, and what
was counted. A rate is judged when its budget for the whole time is spent, so a short burst alone does not end it. That the
daemon is not well, or does not answer, counts when it is so at several looks one after another: a busy machine is slow.
"""

import json
import subprocess
import sys
import time

TERCEL = "/usr/bin/tercel"
LOOK_S = 5.0
PATIENCE = 4  # looks


def status():
    """What the daemon says of itself; None where it does not answer."""
    try:
        told = subprocess.run([TERCEL, "status", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
        return json.loads(told.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def counted(before, now):
    """What happened between the two."""
    spent = now["process"]["cpu_seconds"] - before["process"]["cpu_seconds"]
    alerts = {
        rule: n - before["alerts"]["by_rule"].get(rule, 0)
        for rule, n in now["alerts"]["by_rule"].items()
        if n > before["alerts"]["by_rule"].get(rule, 0)
    }
    return {
        "seconds": round(now["seconds"] - before["seconds"], 1),
        "alerts": now["alerts"]["total"] - before["alerts"]["total"],
        "by_rule": alerts,
        "lost": now["events"]["lost"] - before["events"]["lost"],
        "errors": sum(now["alerts"]["errors"].values()) - sum(before["alerts"]["errors"].values()),
        "cpu_seconds": round(spent, 2),
    }


def whole(status):
    """Whether it is an answer with all its parts; the loop may have been too busy for its own."""
    return status is not None and status["events"] is not None and status["alerts"] is not None


def unwell(now):
    """What may pass by itself."""
    return [f"not well: {trouble}" for trouble in now["troubles"]] if whole(now) else ["the daemon does not answer"]


def against(budget, before, now):
    """Why the rules do harm, and what was counted."""
    if now["pid"] != before["pid"]:
        return ["the daemon ended and was started again"], {}
    found = counted(before, now)
    seconds = max(budget["seconds"], found["seconds"])  # on a slow host an answer takes its time
    reasons = []
    if found["alerts"] > budget["alerts_per_minute"] * seconds / 60:
        loudest = sorted(found["by_rule"].items(), key=lambda item: -item[1])[:3]
        told = ", ".join(f"{rule} {n}" for rule, n in loudest)
        allowed = budget["alerts_per_minute"]
        reasons.append(f"{found['alerts']} alerts in {found['seconds']:.0f} s, {allowed} a minute are allowed ({told})")
    if found["lost"] > budget["lost"]:
        reasons.append(f"{found['lost']} events were lost, {budget['lost']} are allowed")
    if found["errors"] > 0:
        reasons.append(f"{found['errors']} errors in rules' code")
    if found["cpu_seconds"] > budget["cpu_percent"] / 100 * seconds:
        spent = 100 * found["cpu_seconds"] / max(found["seconds"], 1)
        reasons.append(f"{spent:.0f} % of a processor, {budget['cpu_percent']} % are allowed")
    return reasons, found


budget = json.loads(sys.argv[1])
before, looks = status(), 1
while not whole(before) and looks < PATIENCE:
    time.sleep(LOOK_S)
    before, looks = status(), looks + 1
ends = time.monotonic() + budget["seconds"]
reasons, found, ill = ([], {}, 0) if whole(before) else (["the daemon does not answer"], {}, 0)
while not reasons and (time.monotonic() < ends or ill):
    time.sleep(LOOK_S if ill else max(0.0, min(LOOK_S, ends - time.monotonic())))
    now = status()
    if whole(now):
        reasons, found = against(budget, before, now)
    ill = ill + 1 if unwell(now) else 0
    if ill >= PATIENCE:
        reasons = reasons + unwell(now)
print(json.dumps({"reasons": reasons, **found}))
sys.exit(1 if reasons else 0)
