"""The page's server: files of the package and JSON answers, on the loopback interface only.

A request is answered only if it names this server in its Host header and, if it has an Origin header, comes
from this page, so that no other page in the same browser can use the server.  Nothing is written to disk.

Verified by ``tests/play/test_server.py`` and ``test_server_clients.py``.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import Any

from reptile_np.errors import UsageError, whole
from reptile_np.play.answers import Answer, Handler

__all__ = ["ADDRESS", "PAGE", "Server"]

ADDRESS = "127.0.0.1"
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/ask.js": ("ask.js", "text/javascript; charset=utf-8"),
    "/pad.js": ("pad.js", "text/javascript; charset=utf-8"),
    "/characters.js": ("characters.js", "text/javascript; charset=utf-8"),
    "/player.js": ("player.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/waves.js": ("waves.js", "text/javascript; charset=utf-8"),
    "/moves.js": ("moves.js", "text/javascript; charset=utf-8"),
}
"""Address ↦ file of the package and its type; no other file is ever read."""
MOST_BYTES = 4_000_000
"""Of a request's body: 30 drawings of 2,000 points, two numbers of 24 characters each, are below 3.2 MB."""
SECONDS = 10
"""Within which a whole request must have arrived, and its answer must have been taken."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the browser may load for the page: only what this server sends."""


class _Refused(Exception):
    """A request that is answered with an error: status and reason."""


class _Arriving(io.RawIOBase):
    """What a client sends within `SECONDS`; then reading raises TimeoutError."""

    def __init__(self, client: socket.socket) -> None:
        self._client, self._end = client, time.monotonic() + SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._client.settimeout(left)
        return self._client.recv_into(buffer)


class _Request(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "reptile-np", ""

    def setup(self) -> None:
        """Limit the time in which the request must arrive; the base class ends one whose headers are late."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Arriving(self.connection))

    def do_GET(self) -> None:
        """Answer with a file of the page."""
        try:
            self._check_source()
            if self.path not in PAGE:
                raise _Refused(404, "no such page")
            name, kind = PAGE[self.path]
            self._send(200, kind, files("reptile_np.play").joinpath("page", name).read_bytes())
        except _Refused as refused:
            self._refuse(*refused.args)

    def do_POST(self) -> None:
        """Answer a question of the page."""
        try:
            self._check_source()
            if self.path not in self.server.handlers:
                raise _Refused(404, "no such question")
            answer = self.server.handlers[self.path](self._body())
            self._send(200, "application/json", _json(answer))
        except _Refused as refused:
            self._refuse(*refused.args)
        except UsageError as error:
            self._refuse(400, str(error))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer malformed requests and unsupported methods with the same JSON as every other error."""
        self._refuse(code, message or "not a request of this page")

    def _check_source(self) -> None:
        port = self.server.server_port
        hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        if port == 80:  # which browsers leave out
            hosts |= {ADDRESS, "localhost"}
        if self.headers.get("Host") not in hosts:
            raise _Refused(403, "the Host header does not name this server")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            raise _Refused(403, "the request comes from another page")

    def _body(self) -> Any:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "the request must be application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise _Refused(411, "the request must state its Content-Length")
        if len(length) > 18 or int(length) > MOST_BYTES:  # int refuses thousands of digits
            raise _Refused(413, f"the request is larger than {MOST_BYTES:,} bytes")
        try:
            return json.loads(self.rfile.read(int(length)))
        except TimeoutError:
            raise _Refused(408, f"the request took more than {SECONDS} seconds") from None
        except (ValueError, RecursionError):
            raise _Refused(400, "the request is not JSON") from None

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True  # the body may not have been read
        self._send(status, "application/json", json.dumps({"error": reason}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.connection.settimeout(SECONDS)
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing: the terminal stays as it was."""


def _json(answer: Answer) -> bytes:
    try:
        return json.dumps(answer, allow_nan=False).encode()
    except ValueError:
        raise _Refused(500, "the answer has numbers that are not finite; ask with other numbers") from None


class Server(ThreadingHTTPServer):
    """The server of the page on a port of the loopback interface; port 0 takes any that is free.

    Raises
    ------
    UsageError
        If the port is no whole number, not allowed, or taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # Windows would share a port with the program that has it

    def __init__(self, handlers: Mapping[str, Handler], port: int = 0) -> None:
        self.handlers = handlers
        if whole("port", port, 0) >= 2**16:
            raise UsageError(f"port {port}: give 0 to {2**16 - 1}")
        try:
            super().__init__((ADDRESS, port), _Request)
        except OSError as error:
            raise UsageError(f"port {port}: cannot be used ({error}); choose another with --port") from None

    def server_bind(self) -> None:
        """Take the port, without asking the network for this machine's name as the base class does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that goes away in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"
