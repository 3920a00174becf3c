"""An image on a web server that does wrong whatever a web server can do wrong, one fault for each request."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler

from tests.support.webserver import WebServer, answer

PAST = "Wed, 01 Jan 2020 00:00:00 GMT"
NEW_TAG = '"another"'


class Kind(StrEnum):
    """What goes wrong."""

    NONE = "nothing"
    DROP = "the connection ends in the body"
    RESET = "the connection is reset in the body"
    STALL = "the body stalls"
    SILENCE = "no answer comes"
    HANG_UP = "the connection ends instead of an answer"
    GARBAGE = "the answer isn't HTTP"
    UNAVAILABLE = "503"
    NOT_FOUND = "404"
    REDIRECT = "302 to where it works"
    CLOSE = "the connection ends after the answer"
    WHOLE = "200 with everything though a part was asked for"
    REFUSED = "416"
    REFUSED_AND_SHORTER = "416 with another total"
    WRONG_START = "206 with another part"
    WRONG_TOTAL = "206 of another total"
    NO_RANGE = "206 that doesn't say of what"
    NO_TAG = "206 without the tag"
    LONGER = "a length that is too long"
    SHORTER = "a length that is too short"
    CHANGED = "another version, with another tag"
    ENCODED = "an encoding that nobody asked for"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong; in the body, after so many bytes of it."""

    kind: Kind
    after: int = 0


@dataclass(kw_only=True)
class ImageServer:
    """Serves ``body``. The n-th request meets the n-th fault, and all later ones none.

    Attributes:
        server: where.
        body: what.
        faults: what goes wrong.
        path: under which path.
        parts: whether it knows ranges.
        etag: its tag, quotes included; None for none.
        modified: the date of its last change; None for none.
        chunked: whether the length is left open.
    """

    server: WebServer
    body: bytes
    faults: Iterable[Fault] = ()
    path: str = "/disk.img"
    parts: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    chunked: bool = False

    def __post_init__(self) -> None:
        self.url = self.server.url + self.path
        self.ranges: list[str | None] = []
        self.clients: set[tuple[str, int]] = set()
        self._coming = iter(self.faults)
        self.server.pages[self.path] = self.server.pages[f"{self.path}.moved"] = self._answer

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.ranges.append(request.headers.get("Range"))
        self.clients.add(request.client_address)
        fault = next(self._coming, Fault(kind=Kind.NONE))
        request.protocol_version = "HTTP/1.1"
        request.close_connection = fault.kind in (Kind.CLOSE, Kind.HANG_UP, Kind.GARBAGE)
        match fault.kind:
            case Kind.SILENCE:
                wait_for_the_end(request.connection)
            case Kind.HANG_UP:
                pass
            case Kind.GARBAGE:
                request.wfile.write(b"\x00\x01\x02 no such protocol\r\n\r\n")
            case Kind.UNAVAILABLE:
                answer(request, 503, b"busy", Retry_After="0")
            case Kind.NOT_FOUND:
                answer(request, 404, b"gone")
            case Kind.REDIRECT:
                answer(request, 302, b"elsewhere", Location=f"{self.path}.moved?signature=hunter2")
            case Kind.REFUSED:
                answer(request, 416, Content_Range=f"bytes */{len(self.body)}")
            case Kind.REFUSED_AND_SHORTER:
                answer(request, 416, Content_Range=f"bytes */{len(self.body) - 1}")
            case _:
                self._serve(request, fault)

    def _serve(self, request: BaseHTTPRequestHandler, fault: Fault) -> None:
        kind, total = fault.kind, len(self.body)
        etag = NEW_TAG if kind is Kind.CHANGED else self.etag
        part = None if kind is Kind.WHOLE else self._part(request, etag)
        if part is not None and part.start >= total:
            answer(request, 416, Content_Range=f"bytes */{total}")
            return
        if part is not None and kind is Kind.WRONG_START:
            part = range(part.start - 1 if part.start else 1, part.stop)
        request.send_response(206 if part else 200)
        if part and kind is not Kind.NO_RANGE:
            named = total + 7 if kind is Kind.WRONG_TOTAL else total
            request.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{named}")
        headers = {
            "ETag": None if part and kind is Kind.NO_TAG else etag,
            "Last-Modified": self.modified,
            "Content-Encoding": "gzip" if kind is Kind.ENCODED else None,
        }
        for name, value in headers.items():
            if value is not None:
                request.send_header(name, value)
        self._send(request, self.body[part.start : part.stop] if part else self.body, fault)

    def _part(self, request: BaseHTTPRequestHandler, etag: str | None) -> range | None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range")
        if not (self.parts and wanted and self.body) or condition not in (None, etag or self.modified):
            return None
        return range(int(wanted[1]), min(int(wanted[2] or len(self.body)) + 1, len(self.body)))

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        lie = {Kind.LONGER: 5, Kind.SHORTER: -min(5, len(body))}.get(fault.kind, 0)
        if self.chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(len(body) + lie))
        request.end_headers()
        stops = fault.kind in (Kind.DROP, Kind.RESET, Kind.STALL)
        sent = body[: fault.after] if stops else body
        if self.chunked and sent:
            request.wfile.write(b"%x\r\n" % len(body) + sent + (b"" if stops else b"\r\n"))
        else:
            request.wfile.write(sent)
        if self.chunked and not stops:
            request.wfile.write(b"0\r\n\r\n")
        match fault.kind:
            case Kind.DROP | Kind.LONGER | Kind.SHORTER:
                request.close_connection = True
            case Kind.RESET:
                reset(request.connection)
            case Kind.STALL:
                wait_for_the_end(request.connection)
                request.close_connection = True


def wait_for_the_end(connection: socket.socket) -> None:
    """Wait until the other side closes the connection."""
    with suppress(OSError):
        while connection.recv(1000):
            pass


def reset(connection: socket.socket) -> None:
    """End a connection so that the other side gets ECONNRESET instead of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
