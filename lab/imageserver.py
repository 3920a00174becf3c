"""A web server for the images of a directory, as a deployment finds them: the files and their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.listening import answering

CHECKSUMS = "SHA256SUMS"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: whoever asks says enough."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that has seen enough of a file hangs up."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve the files of a directory to this machine alone; give the URL that their names are appended to."""
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(directory))) as server, answering(server):
        yield f"http://127.0.0.1:{server.server_port}/"


def write_checksums(directory: Path, *names: str) -> None:
    """Write a checksum file beside some images, as ``sha256sum`` does."""
    lines = []
    for name in names:
        with (directory / name).open("rb") as image:
            lines.append(f"{hashlib.file_digest(image, 'sha256').hexdigest()}  {name}\n")
    (directory / CHECKSUMS).write_text("".join(lines))
