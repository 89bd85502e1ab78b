"""Login by an OpenID Connect provider: authorization code with PKCE.

Comes in: the provider's address and the browser on its way there and back. Goes out: a session for the user that a
signed, fresh token names. Never: a token whose signature, issuer, audience, time or nonce was not checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.responses import RedirectResponse, Response

from appliance.hub.people.roles import Role
from appliance.hub.settings import Oidc
from appliance.hub.web.changes import local_path, with_session
from appliance.hub.web.context import Ask, Hub, record
from appliance.hub.web.dispatch import Refused

COOKIE = "tercel_oidc"
_TIMEOUT_S = 10.0


def start(hub: Hub, ask: Ask) -> Response:
    """To the provider, with a note in a cookie to know the browser again by."""
    oidc = hub.settings.page.oidc
    provider = _provider(oidc)
    note = {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "next": local_path(ask.query.get("next", "/")),
    }
    challenge = base64.urlsafe_b64encode(hashlib.sha256(note["verifier"].encode()).digest()).rstrip(b"=").decode()
    query = urlencode(
        {
            "response_type": "code",
            "client_id": oidc.client_id,
            "redirect_uri": _back(ask),
            "scope": "openid profile email groups",
            "state": note["state"],
            "nonce": note["nonce"],
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    response = RedirectResponse(f"{provider['authorization_endpoint']}?{query}", 303)
    text = base64.urlsafe_b64encode(json.dumps(note).encode()).decode()
    response.set_cookie(
        COOKIE,
        text,
        max_age=600,
        path=ask.base or "/",
        secure=ask.origin.startswith("https"),
        httponly=True,
        samesite="lax",
    )
    return response


def finish(hub: Hub, ask: Ask) -> Response:
    """Back from the provider: a code for a token, a token for a user."""
    oidc = hub.settings.page.oidc
    note = _note(ask)
    if not note or not hmac.compare_digest(str(note.get("state", "")).encode(), ask.query.get("state", "").encode()):
        raise Refused(400, "this login was not started here, or took too long", "start again at the login page")
    if "code" not in ask.query:
        raise Refused(403, f"the provider refused: {ask.query.get('error', 'no reason given')[:200]}")
    provider = _provider(oidc)
    claims = _claims(oidc, provider, _token(oidc, provider, ask, str(note["verifier"])), str(note["nonce"]))
    name = str(claims.get(oidc.name_claim) or claims.get("sub") or "")
    role = role_of(oidc, claims)
    if role is None:
        record(hub, ask, "login refused", f"{name}: no role")
        raise Refused(403, "none of your groups has a role here", "ask an admin to add one to `page.oidc.roles`")
    user = hub.accounts.external(name, role, "oidc", ask.now_ns)
    if user is None:
        record(hub, ask, "login refused", name)
        raise Refused(403, f"`{name}` cannot log in", "there is a local user of this name, or the account is disabled")
    record(hub, ask, "login", f"{name} by OpenID Connect")
    response = with_session(hub, ask, user.name, str(note.get("next", "/")))
    response.delete_cookie(COOKIE, path=ask.base or "/")
    return response


def role_of(oidc: Oidc, claims: dict[str, Any]) -> Role | None:
    """The highest role that a group of the user gives; None where there is none."""
    groups = claims.get(oidc.roles_claim) or []
    given = [
        oidc.roles[g]
        for g in (groups if isinstance(groups, list) else [groups])
        if isinstance(g, str) and g in oidc.roles
    ]
    order = [role.value for role in Role]
    if given:
        return Role(max(given, key=order.index))
    return Role(oidc.default_role) if oidc.default_role else None


def _back(ask: Ask) -> str:
    return ask.origin + ask.url("/oidc/back")


def _note(ask: Ask) -> dict[str, Any]:
    for part in ask.headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            try:
                found = json.loads(base64.urlsafe_b64decode(value.strip('"')))
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def _provider(oidc: Oidc) -> dict[str, Any]:
    if not oidc.issuer:
        raise Refused(404, "login by OpenID Connect is not set up")
    found = _get(oidc.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != oidc.issuer:
        raise Refused(
            502, "the provider says it is another issuer", f"set `page.oidc.issuer` to `{found.get('issuer')}`"
        )
    return found


def _get(url: str) -> dict[str, Any]:
    try:
        said = httpx.get(url, timeout=_TIMEOUT_S)
        said.raise_for_status()
        value = said.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Refused(502, "the provider does not answer", str(error)[:300]) from None
    return value if isinstance(value, dict) else {}


def _token(oidc: Oidc, provider: dict[str, Any], ask: Ask, verifier: str) -> str:
    form = {
        "grant_type": "authorization_code",
        "code": ask.query["code"],
        "redirect_uri": _back(ask),
        "code_verifier": verifier,
    }
    try:
        said = httpx.post(
            str(provider["token_endpoint"]),
            data=form,
            auth=(oidc.client_id, str(oidc.client_secret)),
            timeout=_TIMEOUT_S,
        )
        value = said.json()
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Refused(502, "the provider does not answer", str(error)[:300]) from None
    if said.status_code != 200 or "id_token" not in value:
        raise Refused(403, "the provider did not take the code", str(value.get("error", said.status_code))[:300])
    return str(value["id_token"])


def _claims(oidc: Oidc, provider: dict[str, Any], token: str, nonce: str) -> dict[str, Any]:
    try:
        keys = KeySet.import_key_set(_get(str(provider["jwks_uri"])))  # type: ignore[arg-type]
        claims = jwt.decode(token, keys, algorithms=["RS256", "ES256", "PS256"]).claims
        jwt.JWTClaimsRegistry(
            leeway=60,
            iss={"essential": True, "value": oidc.issuer},
            aud={"essential": True, "value": oidc.client_id},
            exp={"essential": True},
        ).validate(claims)
    except (JoseError, ValueError, KeyError) as error:
        raise Refused(403, "the provider's token is not valid", str(error)[:300]) from None
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Refused(403, "the provider's token is not for this login")
    return dict(claims)
