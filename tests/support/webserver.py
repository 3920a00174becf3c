"""A web server of the standard library on a port of its own, and a certificate for it."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.listening import answering

Answer = Callable[[BaseHTTPRequestHandler], None]


class WebServer:
    """What it answers is up to ``pages``, by path without query; ``seen`` are the requests as they came."""

    def __init__(self, port: int, scheme: str) -> None:
        self.pages: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.host = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{self.host}"

    def page(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> str:
        """Put a body under ``path`` and return its URL."""
        self.pages[path] = lambda request: answer(request, status, body, **headers)
        return self.url + path


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Send a whole answer; a ``_`` in the name of a header is a ``-``."""
    request.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[WebServer]:
    """Serve until the end of the block; with a certificate (key included) over TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = server.pages.get(self.path.split("?")[0])
            if page is None:
                answer(self, 404)
            else:
                page(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients of these tests hang up on purpose."""

    with Quiet(("127.0.0.1", 0), Handler) as listener:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        server = WebServer(listener.server_port, "https" if certificate else "http")
        with answering(listener):
            yield server


def make_certificate(directory: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    made = directory / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made), "-out", str(directory / "only.pem")),
        ],
        check=True,
        capture_output=True,
    )
    with made.open("a") as file:
        file.write((directory / "only.pem").read_text())
    return made
