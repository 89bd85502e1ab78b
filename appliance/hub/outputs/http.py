"""HTTP outputs: a row says how a batch becomes a request and what an answer means; this module speaks HTTP.

Comes in: batches. Goes out: requests over TLS where the URL says so. Never: a redirect followed, a proxy of the
environment's, an answer read beyond a bound or unpacked, or a retry.

The engine's deadline cancels `send` as a whole: a peer that drips one byte a second gets no more time than a silent
one.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from appliance import __version__
from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert
from appliance.hub.options import option
from appliance.hub.outputs.base import Answer, Client, Outcome, Request, Verdict
from appliance.hub.outputs.table import Kind
from appliance.model.text import printable

ANSWER_BYTES = 64 << 10
_RETRY_AFTER_MAX_S = 86_400.0
# of the client's errors, those about what was sent: the same again gets the same answer (RFC 9110, 15.5)
REFUSED = frozenset({400, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 424, 428, 431})


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What every HTTP output takes; the options of a row extend it."""

    headers: Mapping[str, Secret] = option({}, "Headers added to each request.")
    checkcert: bool = option(True, "Verify the certificate of the service.")
    ca_file: Path | None = option(None, "PEM file with authorities to trust in place of the system's.")
    client_cert: Path | None = option(None, "PEM file with a client certificate and its chain.")
    client_key: Path | None = option(None, "PEM file with its private key; without it the key is in `client_cert`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One HTTP output.

    `build(batch, options)` makes one request for the whole batch; or exactly one for each alert of it, in its order;
    or, for a batch of one, several that must all be accepted. `judge(answer, count)` says what an answer means for the
    `count` alerts of its request. `options` extends `HttpOptions`. `batch` and `batch_max` are those of `Kind`: a row
    that makes a request for each alert has 1 for both, because one deadline bounds the whole of `send`. `answer_bytes`
    is how much of an answer is read.
    """

    name: str
    title: str
    category: str
    doc: str
    delivered: str
    options: type[HttpOptions]
    build: Callable[[Sequence[HubAlert], Any], Sequence[Request]]
    judge: Callable[[Answer, int], Outcome]
    batch: Callable[[Any], int] = lambda options: 1
    batch_max: Callable[[Any], int] = lambda options: 10_000
    answer_bytes: int = ANSWER_BYTES


def kind_of(row: Row) -> Kind:
    """A row as an entry of the table of all outputs."""
    return Kind(
        name=row.name, title=row.title, category=row.category, doc=row.doc, delivered=row.delivered,
        options=row.options, connect=lambda options: HttpClient(row, options), batch=row.batch, batch_max=row.batch_max,
    )  # fmt: skip


def by_status(answer: Answer, count: int) -> Outcome:
    """What most services mean: 2xx is done; a refusal of the request itself is for ever; all else may pass."""
    if 200 <= answer.status < 300:
        return Outcome((Verdict.DONE,) * count)
    return Outcome(
        (Verdict.NEVER if answer.status in REFUSED else Verdict.AGAIN,) * count,
        f"answer {answer.status}: {excerpt(answer.body)}".rstrip(": "),
        retry_after(answer.headers),
    )


def excerpt(body: bytes) -> str:
    """The beginning of an answer, safe for a log."""
    return printable(" ".join(body[:300].decode(errors="replace").split()))[:200]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or a date (RFC 9110, 10.2.3); None without it."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), _RETRY_AFTER_MAX_S)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), _RETRY_AFTER_MAX_S)
    except ValueError:
        return None


class HttpClient(Client):
    """Keeps connections open between requests."""

    def __init__(self, row: Row, options: HttpOptions) -> None:
        self._row = row
        self._options = options
        self._client: httpx.AsyncClient | None = None

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Send a batch: one request for it, or one for each alert until one of them fails."""
        requests = self._row.build(batch, self._options)
        if len(requests) == 1:
            return self._row.judge(await self._exchange(requests[0]), len(batch))
        if len(batch) == 1:
            return await self._send_to_all(requests)
        if len(requests) != len(batch):
            raise AssertionError(f"{self._row.name}: {len(requests)} requests for {len(batch)} alerts")
        verdicts: list[Verdict] = []
        reason, after_s = "", None
        for request in requests:
            try:
                outcome = self._row.judge(await self._exchange(request), 1)
            except (OSError, httpx.HTTPError) as error:
                if not verdicts:
                    raise
                outcome = Outcome((Verdict.AGAIN,), f"{type(error).__name__}: {error}")
            verdicts += outcome.verdicts
            reason, after_s = outcome.reason or reason, outcome.retry_after_s
            if outcome.verdicts[0] is Verdict.AGAIN:
                break
        verdicts += [Verdict.AGAIN] * (len(batch) - len(verdicts))
        return Outcome(tuple(verdicts), reason, after_s)

    async def _send_to_all(self, requests: Sequence[Request]) -> Outcome:
        """Several requests for one alert: delivered when all of them are."""
        for request in requests:
            outcome = self._row.judge(await self._exchange(request), 1)
            if outcome.verdicts[0] is not Verdict.DONE:
                return outcome
        return Outcome((Verdict.DONE,))

    async def _exchange(self, request: Request) -> Answer:
        client = self._client or self._connect()
        headers = {"user-agent": f"tercel/{__version__}", "accept-encoding": "identity"}
        headers |= {name.lower(): value for name, value in request.headers.items()}
        headers |= {name.lower(): str(value) for name, value in self._options.headers.items()}
        async with client.stream(request.method, request.url, headers=headers, content=request.body) as answer:
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) >= self._row.answer_bytes:  # leaving the block closes the connection
                    break
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status_code, told, bytes(body[: self._row.answer_bytes]))

    def _connect(self) -> httpx.AsyncClient:
        self._client = httpx.AsyncClient(
            verify=tls_context(self._options),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  (the engine bounds the whole exchange)
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
        )
        return self._client

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


@functools.cache
def _usual_context() -> ssl.SSLContext:
    """The system's authorities, shared by all outputs that have none of their own: to read them takes 20 to 120 ms, in
    which no output goes on."""
    return ssl.create_default_context()


def tls_context(options: HttpOptions) -> ssl.SSLContext:
    """How to meet the other end. Raises OSError for a file that is missing or no certificate."""
    if options.ca_file is None and options.client_cert is None and options.checkcert:
        return _usual_context()
    context = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
    if not options.checkcert:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.client_cert is not None:
        context.load_cert_chain(options.client_cert, options.client_key)
    return context
