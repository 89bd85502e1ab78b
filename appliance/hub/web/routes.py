"""Every route, and who may use it: the one table, held by a test for each role."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.hub.people.roles import Right
from appliance.hub.web import api, changes, compat, export, oidc, pages
from appliance.hub.web.dispatch import Row
from appliance.hub.web.live import Live, stream


def table(live: Live) -> Sequence[Row]:
    """All rows; the first that matches answers."""
    read, decide, tune, admin = Right.READ, Right.TRIAGE, Right.TUNE, Right.ADMIN
    return (
        Row("/", "GET", read, pages.now),
        Row("/alerts", "GET", read, pages.alerts),
        Row("/newest", "GET", read, pages.newest),
        Row("/alert/{id:path}/exception", "GET", tune, changes.propose),
        Row("/alert/{id:path}/exception", "POST", tune, changes.propose),
        Row("/alert/{id:path}/exception/accept", "POST", tune, changes.accept),
        Row("/alert/{id:path}", "GET", read, pages.alert),
        Row("/exceptions/{number:int}/withdraw", "POST", tune, changes.drop_exception),
        Row("/live", "GET", read, pages.live),
        Row("/live/stream", "GET", read, stream(live)),
        Row("/hosts", "GET", read, pages.hosts),
        Row("/pipeline", "GET", read, pages.pipeline),
        Row("/pipeline/{output}/replay", "POST", tune, changes.replay),
        Row("/exceptions", "GET", read, pages.exceptions),
        Row("/attack", "GET", read, pages.attack),
        Row("/report", "GET", read, pages.report),
        Row("/export/{format}", "GET", read, export.export),
        Row("/triage", "POST", decide, changes.triage),
        Row("/views", "POST", read, changes.save_view),
        Row("/v/{slug}", "GET", read, pages.view_by_slug),
        Row("/v/{slug}/delete", "POST", read, changes.drop_view),
        Row("/me", "GET", read, pages.me),
        Row("/me", "POST", read, changes.preferences),
        Row("/me/password", "POST", read, changes.change_password),
        Row("/me/tokens", "POST", read, changes.make_token),
        Row("/tokens/{digest}/delete", "POST", read, changes.drop_token),
        Row("/help", "GET", read, pages.help_page),
        Row("/people", "GET", admin, pages.people),
        Row("/people", "POST", admin, changes.add_user),
        Row("/people/{name}", "POST", admin, changes.change_user),
        Row("/audit", "GET", admin, pages.audit_log),
        Row("/retention", "GET", read, pages.retention),
        Row("/retention/hold", "POST", admin, changes.hold),
        Row("/retention/forget", "POST", admin, changes.forget_host),
        Row("/login", "GET", None, pages.login),
        Row("/login", "POST", None, changes.log_in),
        Row("/logout", "POST", read, changes.log_out),
        Row("/oidc/start", "GET", None, oidc.start),
        Row("/oidc/back", "GET", None, oidc.finish),
        Row("/healthz", "GET", None, compat.healthz),
        Row("/api/openapi.json", "GET", read, api.openapi),
        *(Row(row.path.replace("{id}", "{id:path}"), row.method, row.right, row.handler, row.doc) for row in api.API),
        # Falcosidekick-UI's
        Row("/", "POST", None, compat.add),
        Row("/api/v1/", "POST", None, compat.add),
        Row("/api/v1/events/add", "POST", None, compat.add),
        Row("/api/v1/healthz", "GET", None, compat.healthz),
        Row("/api/v1/events/search", "GET", read, compat.search),
        Row("/api/v1/events/count", "GET", read, compat.count),
        Row("/api/v1/events/count/{dimension}", "GET", read, compat.count_by),
        Row("/api/v1/outputs", "GET", read, compat.outputs),
        Row("/api/v1/version", "GET", read, compat.version),
        Row("/api/v1/config", "GET", read, compat.configuration),
        Row("/api/v1/configuration", "GET", read, compat.configuration),
        Row("/api/v1/auth", "POST", read, compat.authenticate, csrf=False),
        Row("/api/v1/authenticate", "POST", read, compat.authenticate, csrf=False),
    )
