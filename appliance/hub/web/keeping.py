"""Retention of the index: by age and size, by priority, unless somebody holds it.

Comes in: settings, the hold. Goes out: deletions, each counted in the audit log. Never: a deletion while there is a
hold."""

from __future__ import annotations

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from appliance.hub.people.database import audit
from appliance.hub.query.tree import check
from appliance.hub.store.base import Span
from appliance.hub.web.context import Hub
from appliance.model.expr import TRUE, Expr
from appliance.model.field import Operator

log = logging.getLogger(__name__)

EVERY_S = 600.0
DAY_NS = 86_400 * 1_000_000_000
GIB = 1 << 30


async def keep_forever(hub: Hub) -> None:
    """Every ten minutes, let go of what is too old or too much."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await run_in_threadpool(keep, hub)
        except Exception:
            log.exception("retention failed")


def keep(hub: Hub) -> int:
    """Let go of what is too old or too much; how many alerts that was."""
    held = hub.db.one("SELECT value FROM facts WHERE name = 'hold'")
    if held is not None:
        if not hub.journal.held():  # set by a version that held the index alone
            hub.journal.hold(str(held[0]))
        return 0
    now_ns = hub.now_ns()
    page = hub.settings.page
    dropped = hub.store.drop_before(now_ns - int(hub.settings.journal.keep_days * DAY_NS))
    for rule in page.keep:
        tree = check("priority", Operator.EQ, rule.priority.label)
        if rule.days:
            dropped += hub.store.remove(tree, Span.of(0, now_ns - int(rule.days * DAY_NS)))
        if rule.gib:
            dropped += _shrink(hub, tree, rule.gib, now_ns)
    while page.keep_gib and hub.store.health().size_bytes > page.keep_gib * GIB:
        gone = hub.store.drop_oldest()
        if not gone:
            break
        dropped += gone
    if dropped:
        audit(hub.db, now_ns, "", "retention", f"{dropped} alerts")
    return dropped


def _shrink(hub: Hub, tree: Expr, gib: float, now_ns: int) -> int:
    """Delete the oldest of a priority until its share of the index is small enough."""
    health = hub.store.health()
    total = max(1, hub.store.count(TRUE, Span.of(0, 2**62)))
    mine = hub.store.count(tree, Span.of(0, 2**62))
    too_many = int(mine - gib * GIB * total / max(1, health.size_bytes))
    if too_many <= 0:
        return 0
    for n, alert in enumerate(hub.store.scan(tree, Span.of(0, now_ns), newest_first=False), 1):
        if n >= too_many:
            return hub.store.remove(tree, Span.of(0, alert.ts_ns))
    return 0
