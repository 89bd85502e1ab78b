"""gRPC on a unix socket: one question with one answer, or one question with a stream of them.

Comes in: a method's name and a message. Goes out: messages. Never: more than its bounds; a peer may hang or talk
nonsense. HTTP/2 itself (frames, header compression, flow control) is the `h2` library's. Source: the gRPC project's
PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from appliance.sources.docker_api import EngineError, connect_unix, shut

_MESSAGE_MAX = 16 * 1024 * 1024
_CHUNK = 65_536
NOT_FOUND, UNIMPLEMENTED = 5, 12


class GrpcError(EngineError):
    """The peer answered with a status other than 0. `code` is that status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"status {code}: {text}")
        self.code = code


class Call:
    """One call on a connection of its own. `messages` gives the answers; `shut`, from any thread, ends it."""

    def __init__(
        self,
        path: Path,
        method: str,
        request: bytes,
        *,
        timeout_s: float,
        owner: int | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Connect and ask. Raises `EngineError`."""
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._status: tuple[int, str] | None = None
        self._ended = False
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        try:
            self._sock = connect_unix(path, owner, timeout_s)
        except OSError as error:
            raise EngineError(str(error)) from error
        headers = [
            (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "localhost"),
            ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "tercel"), *metadata,
        ]  # fmt: skip
        try:
            self._http.initiate_connection()
            self._http.send_headers(1, headers)
            self._http.send_data(1, struct.pack(">BI", 0, len(request)) + request, end_stream=True)
            self._send()
        except (OSError, h2.exceptions.H2Error) as error:
            self._sock.close()
            raise EngineError(str(error)) from error

    def messages(self, *, patience_s: float | None) -> Iterator[bytes]:
        """The answers in order. `patience_s` bounds the wait for all of them; None waits for ever between two.
        Raises `EngineError`, `GrpcError` for a status other than 0."""
        deadline = None if patience_s is None else time.monotonic() + patience_s
        try:
            while True:
                yield from self._whole_messages()
                if self._ended:
                    break
                self._receive(deadline)
        except (OSError, h2.exceptions.H2Error, ValueError) as error:
            raise EngineError(str(error)) from error
        if self._status is None:
            raise EngineError("an answer without a status")
        if self._status[0] != 0:
            raise GrpcError(*self._status)

    def shut(self) -> None:
        """End `messages`, wherever it waits."""
        shut(self._sock)

    def close(self) -> None:
        """Give the connection back."""
        self._sock.close()

    def _whole_messages(self) -> Iterator[bytes]:
        while len(self._buffer) >= 5:
            compressed, size = struct.unpack_from(">BI", self._buffer)
            if compressed or size > _MESSAGE_MAX:
                raise EngineError(f"a message of {size} bytes, or a compressed one")
            if len(self._buffer) < 5 + size:
                return
            message = bytes(self._buffer[5 : 5 + size])
            del self._buffer[: 5 + size]
            yield message

    def _receive(self, deadline: float | None) -> None:
        if deadline is None:
            self._sock.settimeout(None)
        else:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EngineError("answer too slow")
            self._sock.settimeout(left)
        data = self._sock.recv(_CHUNK)
        if not data:
            self._ended = True
            return
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._buffer += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self._note_status({_text(name): _text(value) for name, value in event.headers})
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                self._ended = True
        self._sock.settimeout(self._timeout_s)
        self._send()

    def _note_status(self, headers: dict[str, str]) -> None:
        if headers.get(":status", "200") != "200":
            raise EngineError(f"HTTP status {headers[':status']}")
        if "grpc-status" in headers:
            self._status = int(headers["grpc-status"]), headers.get("grpc-message", "")

    def _send(self) -> None:
        if data := self._http.data_to_send():
            self._sock.sendall(data)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def ask(
    path: Path,
    method: str,
    request: bytes,
    *,
    timeout_s: float,
    owner: int | None = None,
    metadata: Sequence[tuple[str, str]] = (),
) -> bytes:
    """One question, one answer. Raises `EngineError`, `GrpcError`."""
    call = Call(path, method, request, timeout_s=timeout_s, owner=owner, metadata=metadata)
    try:
        answers = list(call.messages(patience_s=timeout_s))
    finally:
        call.close()
    if len(answers) != 1:
        raise EngineError(f"{len(answers)} answers to one question")
    return answers[0]
