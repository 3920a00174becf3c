"""A server for a WSGI application that machines and benchmarks fetch from: threads, and connections that are kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import IO, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from lab.listening import answering

_LONGEST = 65536


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind without asking a name server for our name, which WSGIServer does."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that has seen enough hangs up."""


class _Exchange(SimpleHandler):
    """One request and its answer; whether the connection may be used again is known afterwards."""

    http_version = "1.1"
    is_whole = True

    def log_exception(self, exc_info: object) -> None:
        """Remember that the answer is cut off, which closing the connection tells the client."""
        self.is_whole = False


class _Requests(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Send small answers at once, not when the last was acknowledged."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        """Answer until the client closes, as WSGIRequestHandler's own doesn't."""
        while True:
            self.raw_requestline = self.rfile.readline(_LONGEST)
            if not self.raw_requestline or not self.parse_request():
                return
            assert isinstance(self.server, WSGIServer)
            application = self.server.get_app()
            assert application is not None
            streams = cast("tuple[IO[bytes], IO[bytes]]", (self.rfile, self.wfile))
            exchange = _Exchange(*streams, self.get_stderr(), self.get_environ())
            exchange.run(application)
            if not exchange.is_whole or self.close_connection:
                return

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: whoever asks says enough."""


@contextmanager
def running(port: int = 0) -> Iterator[tuple[str, WSGIServer]]:
    """Listen on this machine alone; give the URL and the server, whose ``set_app`` says what is served."""
    with _Server(("127.0.0.1", port), _Requests) as server, answering(server):
        yield f"http://127.0.0.1:{server.server_port}", server


@contextmanager
def served(application: WSGIApplication) -> Iterator[str]:
    """Serve an application to this machine alone; give its URL."""
    with running() as (url, server):
        server.set_app(application)
        yield url
