"""The control socket: people and systemd ask the running appliance.

Comes in: a connection to a Unix socket, one JSON object a line (`{"do": "reload"}`). Goes out: one JSON object a line.
Never: an answer to another user than root and the appliance's own, or more than a few askers at once.

The socket's file belongs to the appliance's user (mode 0600), and the kernel says who is at the other end
(SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from appliance.host.faults import Faults
from appliance.model.diagnostic import Diagnostic, Severity, Span, TercelError
from appliance.model.text import json_safe, why

log = logging.getLogger(__name__)

_LINE_MAX = 64 << 10
_ANSWER_MAX = 16 << 20
_CLIENTS_MAX = 16
_IDLE_S = 60.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

Json = dict[str, Any]
Handler = Callable[[Mapping[str, Any]], Json]


class ControlError(TercelError):
    """The appliance cannot be asked: it does not run, or another user's."""


class ControlServer:
    """Answers on a socket. `path` is where; `handlers` maps the value of `do` to who answers."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], faults: Faults | None = None) -> None:
        self._faults = Faults() if faults is None else faults
        self._over = threading.Event()
        self.path = path
        self._handlers = dict(handlers)
        self._room = threading.BoundedSemaphore(_CLIENTS_MAX)
        self._socket: socket.socket | None = None
        self._inode = (0, 0)

    def start(self) -> None:
        """Listen. Raises `ControlError` where that is not possible: another appliance listens there, no right."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            if self.path.is_socket():
                if _somebody_listens(self.path):
                    raise ControlError(f"another appliance listens on {self.path}")
                self.path.unlink()
            listener.bind(os.fspath(self.path))
            self.path.chmod(0o600)
            listener.listen(_CLIENTS_MAX)
            at = self.path.stat()
        except OSError as error:
            listener.close()
            raise ControlError(f"cannot listen on {self.path}: {why(error)}") from error
        except ControlError:
            listener.close()
            raise
        self._inode = at.st_dev, at.st_ino
        self._socket = listener
        try:
            self._over = threading.Event()
            self._faults.thread("control", partial(self._accept, listener), self._over).start()
        except RuntimeError as error:
            self.stop()
            raise ControlError(f"cannot listen on {self.path}: cannot start a thread") from error

    def stop(self) -> None:
        """Listen no more, and take the socket's file away if it is still ours."""
        if self._socket is None:
            return
        listener, self._socket = self._socket, None
        self._over.set()
        with contextlib.suppress(OSError):
            at = self.path.stat()
            if (at.st_dev, at.st_ino) == self._inode:
                self.path.unlink()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._socket is listener:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._socket is not listener:
                    return
                log.warning("the control socket could not take a connection", exc_info=True)
                threading.Event().wait(0.5)  # descriptors are short: not at once again
                continue
            if not self._room.acquire(blocking=False):
                _refuse(connection, "too many connections")
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), name="control client", daemon=True).start()
            except RuntimeError:
                self._room.release()
                _refuse(connection, "cannot start a thread")

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(_IDLE_S)
            uid = _peer_uid(connection)
            if uid not in (0, os.geteuid()):
                log.warning("the control socket refused uid %d", uid)
                _refuse(connection, "only root and the appliance's own user may ask")
                return
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(_LINE_MAX):
                    answer = self._answer(line)
                    connection.sendall(json.dumps(_safe(answer)).encode() + b"\n")
                    if not line.endswith(b"\n"):
                        return
        except (OSError, ValueError):  # gone, or too slow
            return
        finally:
            self._room.release()

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "a request is one JSON object on a line"}
        handler = self._handlers.get(str(request.get("do"))) if isinstance(request, dict) else None
        if handler is None:
            return {"error": f"a request has `do`, one of: {', '.join(sorted(self._handlers))}"}
        try:
            return handler(request)
        except Exception as error:
            self._faults.caught("answering the control socket")
            return {"error": f"internal error: {type(error).__name__}"}


def _safe(value: object) -> object:
    """The same value with undecodable bytes escaped in its texts, for strict JSON parsers behind `--json`."""
    if isinstance(value, str):
        return json_safe(value)
    if isinstance(value, Mapping):
        return {json_safe(str(key)): _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    return value


def _refuse(connection: socket.socket, why: str) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.sendall(json.dumps({"error": why}).encode() + b"\n")


def _peer_uid(connection: socket.socket) -> int:
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


class ControlClient:
    """The asking side. A context manager; `ask` may be called again and again."""

    def __init__(self, path: Path, *, timeout_s: float = 120.0) -> None:
        """Connect. Raises `ControlError` with what to do."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(os.fspath(path))
        except PermissionError as error:
            self._socket.close()
            raise ControlError(f"{path} may be asked by root only: use sudo") from error
        except OSError as error:
            self._socket.close()
            raise ControlError(
                f"no appliance answers on {path} ({why(error)}); is it running, and with this configuration (-c)?"
            ) from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, do: str, **more: object) -> Json:
        """One request, one answer. Raises `ControlError` where there is none or the request was refused."""
        try:
            with contextlib.suppress(BrokenPipeError):  # it has refused already, and why can be read
                self._socket.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
            line = self._lines.readline(_ANSWER_MAX)
            answer = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError) as error:
            raise ControlError(f"the appliance did not answer: {error}") from error
        if not isinstance(answer, dict):
            raise ControlError("the appliance closed the connection: it has ended, or is about to")
        if "error" in answer:
            raise ControlError(f"the appliance refused: {answer['error']}")
        return answer


def diagnostic_to_json(diagnostic: Diagnostic) -> Json:
    """A diagnostic as the socket carries it."""
    span = diagnostic.span
    return {
        "name": diagnostic.name,
        "severity": diagnostic.severity.value,
        "message": diagnostic.message,
        "place": None if span is None else [span.file, span.line, span.column, span.length],
        "source_line": diagnostic.source_line,
        "hint": diagnostic.hint,
    }


def diagnostic_from_json(told: Mapping[str, Any]) -> Diagnostic:
    """The other way."""
    place = told["place"]
    return Diagnostic(
        told["name"],
        told["message"],
        None if place is None else Span(*place),
        told["hint"],
        Severity(told["severity"]),
        told["source_line"],
    )
