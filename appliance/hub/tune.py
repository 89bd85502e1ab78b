"""An exception from an alert: what to write into the rules so that this, and only this, is no longer reported.

Comes in: an alert, the stored alerts. Goes out: fields with reasons, a filter to test them by, the entry as YAML, a
changed rules file. Never: a wildcard of our own making, or a change to a file (that is `commit`'s, when a person asks
for it)."""

from __future__ import annotations

import datetime
import difflib
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from appliance.hub.alert import HubAlert
from appliance.hub.query.tree import check, conjunction
from appliance.hub.query.words import text_of
from appliance.hub.store.base import Span, Store
from appliance.model.expr import Expr, Not
from appliance.model.field import Operator

FIELDS = (
    "proc.name",
    "proc.exepath",
    "proc.pname",
    "proc.cmdline",
    "fd.name",
    "user.name",
    "container.image.repository",
    "container.name",
    "k8s.ns.name",
    "evt.type",
)
"""What an exception may ask for, the most telling first."""

_SAMPLE = 2000
_STABLE = 0.95
_FIRST_CHOICE = ("proc.exepath", "proc.pname", "fd.name", "user.name", "container.image.repository")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A field that could be part of an exception. `share` of the group's alerts has this value, one of
    `distinct`."""

    name: str
    value: str
    share: float
    distinct: int
    chosen: bool
    why: str


@dataclass(frozen=True, slots=True)
class BackTest:
    """What an exception would have done to stored alerts: `silenced` of the rule's `total`; `others` are the first of
    the `beyond` that are not of the alert's group."""

    silenced: int
    total: int
    beyond: int
    others: Sequence[HubAlert]


def candidates(store: Store, alert: HubAlert, span: Span) -> list[Candidate]:
    """What the alerts of this alert's group share, and what differs among them."""
    page = store.search(group_tree(alert), span, limit=_SAMPLE)
    sample = list(page.alerts) or [alert]
    found = []
    for name in FIELDS:
        value = alert.fields.get(name)
        text = text_of(value)
        if not text or not isinstance(value, str) or "\n" in text:
            continue
        values = Counter(text_of(a.fields.get(name)) for a in sample)
        share = values[text] / len(sample)
        chosen = share >= _STABLE and name in _FIRST_CHOICE
        if name == "proc.name" and not alert.fields.get("proc.exepath"):
            chosen = share >= _STABLE
        found.append(Candidate(name, text, share, len(values), chosen, _why(name, share, len(values), len(sample))))
    if found and not any(c.chosen for c in found):
        first = found[0]
        found[0] = Candidate(first.name, first.value, first.share, first.distinct, True, first.why)
    return found


def _why(name: str, share: float, distinct: int, sampled: int) -> str:
    if share == 1:
        return f"the same in all {sampled:,} alerts of this group"
    if share >= _STABLE:
        return f"the same in {share:.1%} of {sampled:,} alerts of this group"
    return f"varies: {distinct:,} values in {sampled:,} alerts; asking for it would silence only {share:.1%} of them"


def group_tree(alert: HubAlert) -> Expr:
    """The alerts that are like this one: rule, process, host."""
    return conjunction(*_same(alert, {"rule": alert.rule, "hostname": alert.hostname}, ("proc.name",)))


def _same(alert: HubAlert, own: Mapping[str, str], names: Sequence[str]) -> list[Expr]:
    checks: list[Expr] = [check(name, Operator.EQ, value) for name, value in own.items() if value]
    for name in names:
        value = alert.fields.get(name)
        if value is not None:
            checks.append(check(name, Operator.EQ, text_of(value)))
    return checks


def exception_tree(rule: str, values: Mapping[str, str]) -> Expr:
    """The stored alerts that an exception with these fields would have silenced."""
    return conjunction(check("rule", Operator.EQ, rule), *(check(n, Operator.EQ, v) for n, v in values.items()))


def back_test(store: Store, alert: HubAlert, values: Mapping[str, str], span: Span, shown: int = 20) -> BackTest:
    """Try an exception on stored alerts."""
    tree = exception_tree(alert.rule, values)
    beyond = conjunction(tree, Not(group_tree(alert)))
    return BackTest(
        store.count(tree, span),
        store.count(check("rule", Operator.EQ, alert.rule), span),
        store.count(beyond, span),
        store.search(beyond, span, limit=shown).alerts,
    )


def entry(name: str, rule: str, values: Mapping[str, str], owner: str, reason: str, ends: str) -> str:
    """The text that goes into the local rules file."""
    item = {
        "rule": rule,
        "exceptions": [
            {"name": name, "fields": list(values), "comps": ["="] * len(values), "values": [list(values.values())]}
        ],
        "override": {"exceptions": "append"},
    }
    text = yaml.safe_dump([item], sort_keys=False, allow_unicode=False, width=110)
    return f"# {name}: made by {_one_line(owner)}, ends {ends or 'never'}. {_one_line(reason)}\n{text}"


def _one_line(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]+", " ", text).strip()


def exception_name(rule: str, ts_ns: int) -> str:
    """A name that no other exception of the rule has."""
    slug = re.sub(r"[^a-z0-9]+", "_", rule.lower()).strip("_")[:40]
    at = datetime.datetime.fromtimestamp(ts_ns / 1e9, datetime.UTC)
    return f"hub_{slug}_{at:%Y%m%d_%H%M%S}"


def with_entry(text: str, new: str) -> str:
    """A rules file with one more entry."""
    if not text.strip():
        return new
    return text.rstrip("\n") + "\n\n" + new


def diff(before: str, after: str, name: str) -> str:
    """The change as a patch that `patch -p1` and `git apply` take."""
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    )


def commit(path: Path, text: str, message: str, author: str) -> str:
    """Write the file and commit it to the git working tree that it lies in; what git said. Raises ValueError."""
    made = path.with_name(f".{path.name}.new")
    made.write_text(text)
    made.rename(path)
    who = re.sub(r"[^A-Za-z0-9_.@+ -]", "", author) or "hub"
    base = ["git", "-C", str(path.parent), "-c", f"user.name={who}", "-c", f"user.email={who}@hub.invalid"]
    said = ""
    for argv in (
        ["add", "--", path.name],
        ["commit", "--quiet", "-m", message, "--", path.name],
        ["rev-parse", "--short", "HEAD"],
    ):
        done = subprocess.run([*base, *argv], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        if done.returncode != 0:
            raise ValueError(f"git refused: {(done.stderr or done.stdout).strip()[:300]}")
        said = done.stdout.strip()
    return said
