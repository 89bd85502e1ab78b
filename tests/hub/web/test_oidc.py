"""Login by a provider: a small real one, with keys, codes and PKCE; and what a false one is refused for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from appliance.hub.people.roles import Role
from tests.hub.web.conftest import Page


@dataclass
class Provider:
    """Answers as OpenID Connect says; `claims` are put over what its tokens say, `key` signs them."""

    port: int = 0
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    signer: RSAKey | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def authorize(self, url: str) -> tuple[str, str]:
        """What the user's browser does there: (code, state)."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        self.codes["code1"] = query
        return "code1", query["state"]

    def token(self, form: dict[str, list[str]]) -> dict[str, Any] | None:
        asked = self.codes.pop(form["code"][0], None)
        if asked is None:
            return None
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": asked["client_id"],
            "sub": "77",
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
            "preferred_username": "zoe",
            "groups": ["soc"],
            **self.claims,
        }
        return {"id_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signer or self.key)}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.endswith("openid-configuration"):
                names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
                self.answer({"issuer": made.issuer} | {name: made.issuer + path for name, path in names.items()})
            else:
                self.answer({"keys": [made.key.as_dict(private=False)]})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            told = made.token(form)
            self.answer(told or {"error": "invalid_grant"}, 200 if told else 400)

        def log_message(self, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(make_page: Callable[[str], Page], provider: Provider) -> Page:
    return make_page(
        "page: {oidc: {client_id: hub, client_secret: s3cret, roles: {soc: analyst}, issuer: '"
        + provider.issuer
        + "'}}"
    )


def come_back(page: Page, provider: Provider, *, code: str = "", state: str = "") -> tuple[int, Any]:
    client = page.client()
    sent = client.get("/oidc/start?next=/alerts")
    assert sent.status_code == 303
    given, known = provider.authorize(sent.headers["location"])
    said = client.get(f"/oidc/back?code={code or given}&state={state or known}")
    return said.status_code, client


def test_a_user_of_the_provider_comes_in_with_their_role(page: Page, provider: Provider) -> None:
    status, client = come_back(page, provider)
    assert status == 303
    assert client.get("/alerts").status_code == 200
    user = page.hub.accounts.user("zoe")
    assert user is not None
    assert (user.role, user.origin) == (Role.ANALYST, "oidc")
    assert page.hub.accounts.check_password("zoe", "", page.hub.now_ns()) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://elsewhere"},
        {"aud": "other"},
        {"exp": 1},
        {"nonce": "other"},
        {"groups": ["sales"]},
        {"groups": None},
        {"preferred_username": "ann"},
        {"preferred_username": "../x"},
    ],
    ids=str,
)
def test_what_the_token_must_say(page: Page, provider: Provider, claims: dict[str, Any]) -> None:
    provider.claims = claims
    status, client = come_back(page, provider)
    assert status == 403
    assert client.get("/alerts").status_code == 303


def test_a_token_of_another_key_is_refused(page: Page, provider: Provider) -> None:
    provider.signer = RSAKey.generate_key(2048, {"kid": "one"})
    assert come_back(page, provider)[0] == 403


def test_a_login_that_was_not_started_here_is_refused(page: Page, provider: Provider) -> None:
    assert come_back(page, provider, state="other")[0] == 400
    assert page.client().get("/oidc/back?code=code1&state=x").status_code == 400
    assert come_back(page, provider, code="guess")[0] == 403


def test_without_a_provider_there_is_no_such_login(make_page: Callable[[str], Page]) -> None:
    assert make_page("").client().get("/oidc/start").status_code == 404
