"""What servers answer: an image comes whole and as it was sent, or there is an error, and no server learns too much.

An input is a row of answers, one for each connection, as they would come over the wire. What is read of the last one is
held against the standard library's reader. User and password go only to the server that they were given for.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from random import Random
from unittest.mock import patch

from urllib3.connection import HTTPConnection

from libironic_disk.errors import SourceFailed
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_line import Line
from libironic_disk.machine.images.http_source import HttpImage, http_image
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB, MIB
from tests.fuzz.engine import Scramble
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, repeated

_BETWEEN = b"\n-----\n"
_HOST, _USER, _SECRET = "images.example", "user", "hunter2"
_URL = f"http://{_USER}:{_SECRET}@{_HOST}/disk.img?signature={_SECRET}"
_POLICY = HttpPolicy(attempts=2, redirects=3, connect_timeout=5, read_timeout=5, total_timeout=20)
_HEAD = 64
_MOST = 40 * KIB
_BODY = bytes(range(256)) * 2
_DATES = b"Date: Wed, 01 Jan 2025 00:00:10 GMT\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n"


class _Wire:
    """Gives each connection the next answer, and keeps what was asked."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = iter(answers)
        self.given: list[bytes] = []
        self.peers: list[tuple[str, socket.socket]] = []

    def connect(self, line: Line, connection: HTTPConnection) -> socket.socket:
        line.check()
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        answer = next(self._answers, b"")
        theirs.setblocking(False)
        answer = answer[: theirs.send(answer)] if answer else b""
        theirs.shutdown(socket.SHUT_WR)
        self.given.append(answer)
        self.peers.append((f"{connection.host}:{connection.port}", theirs))
        line._hold(ours)
        return ours

    def asked(self) -> Iterator[tuple[str, bytes]]:
        """Give what was asked of each host, once it is over."""
        for host, peer in self.peers:
            request = b""
            try:
                while piece := peer.recv(64 * KIB):
                    request += piece
            except OSError:
                pass
            yield host, request

    def close(self) -> None:
        for _, peer in self.peers:
            peer.close()


class _Http(Plain):
    refusals = (SourceFailed,)
    seconds = (2.0, 20e-6)
    memory = 24 * MIB
    words = words_of(
        b"HTTP/1.1 200 OK\r\n|HTTP/1.1 206 Partial Content\r\n|HTTP/1.0 |HTTP/1.1 302 x\r\n",
        b"HTTP/1.1 416 x\r\n|HTTP/1.1 503 x\r\n|HTTP/1.1 100 Continue\r\n\r\n",
        b"Content-Length: |Content-Range: bytes |0-63/512|64-511/512|bytes */512",
        b"Transfer-Encoding: chunked\r\n|200\r\n|\r\n0\r\n\r\n|0\r\n\r\n",
        b"Location: |http://other.example/|https://images.example/|//other.example|/x|http://[",
        b'http://images.example:0/|ETag: "one"\r\n|W/"one"',
        b"Content-Encoding: gzip\r\n|Retry-After: |Last-Modified: |\r\n|\r\n\r\n|;ext=1|-1",
        b"99999999999999999999|0x10|+5|\xff|\0|\r| ",
        _BETWEEN,
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        return repeated(lambda: _BETWEEN.join(_answers(random)))

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        if random.random() < 0.7:
            return super().mutate(data, random, scramble)
        answers = data.split(_BETWEEN)
        at = random.randrange(len(answers) + 1)
        match random.randrange(4):
            case 0:
                answers.insert(at, random.choice(_answers(random)))
            case 1:
                answers[at : at + 1] = []
            case 2:
                answers.insert(at, random.choice(answers or [b""]))
            case _:
                answers[at : at + 1] = (
                    [answers[at][: random.randrange(len(answers[at]) + 1)]] if at < len(answers) else []
                )
        return _BETWEEN.join(answers)

    def examine(self, data: bytes) -> str:
        wire = _Wire(data.split(_BETWEEN)[:12])
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with (
            closing(wire),
            patch.object(Line, "_connect", lambda line, connection: wire.connect(line, connection)),
            patch.object(Line, "pause", lambda line, seconds: line.check()),
            patch.dict(os.environ, environment, clear=True),
        ):
            try:
                outcome = self._read(wire)
            except SourceFailed as error:
                assert _SECRET not in str(error)
                assert _USER not in str(error)
                raise
            finally:
                self._check_secrets(wire)
        return outcome

    def _read(self, wire: _Wire) -> str:
        image = http_image(Location(url=_URL), policy=_POLICY, head_size=_HEAD, max_bytes=_MOST)
        assert len(image.head) <= _HEAD
        assert image.size is None or image.size <= _MOST
        read = self._whole(image)
        assert read.startswith(image.head)
        assert image.size is None or len(read) == image.size
        _check_last(wire.given[-1], read, size_known=image.size is not None)
        if image.random_access:
            self._parts(image, read)
        return f"{len(wire.given)} answers, {'parts' if image.random_access else 'no parts'}"

    def _whole(self, image: HttpImage) -> bytes:
        parts: list[bytes] = []
        buffer = memoryview(bytearray(5000))
        with image.opened() as source:
            while piece := source.fill(buffer):
                assert piece.offset == sum(map(len, parts))
                parts.append(bytes(piece.data))
                assert len(parts) * 5000 <= 2 * _MOST + 64 * KIB or len(b"".join(parts)) <= _MOST
        return b"".join(parts)

    def _parts(self, image: HttpImage, whole: bytes) -> None:
        with image.opened() as source:
            wanted = [ByteRange(0, 10), ByteRange(len(whole) // 2, len(whole) + 5)]
            found = source.read_ranges(wanted)
            assert [len(each) for each in found] == [len(whole[each.start : each.end]) for each in wanted]

    def _check_secrets(self, wire: _Wire) -> None:
        for host, request in wire.asked():
            if host != f"{_HOST}:80":
                assert b"authorization" not in request.lower()
            assert _SECRET.encode() not in request or b"signature=" in request
            assert request.count(b"\r\n\r\n") <= 1


def _check_last(answer: bytes, read: bytes, *, size_known: bool) -> None:
    """Assert that the standard library reads the same body."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        theirs.send(answer)
        theirs.close()
        with closing(http.client.HTTPResponse(ours, method="GET")) as response:
            response.begin()
            try:
                body = response.read()
            except http.client.IncompleteRead as error:
                # How it ends doesn't matter once the size that was known is there.
                assert size_known
                body = error.partial
            assert read == body if response.status == 200 else read.endswith(body)


def _answers(random: Random) -> list[bytes]:
    """Return what a server says to whoever looks at an image and then reads it."""
    tag = random.choice([b'ETag: "one"\r\n', b'ETag: W/"one"\r\n', b"", _DATES])
    body = _BODY[: random.choice([512, 512, 60, 0, 1])]
    length = len(body)
    whole = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (tag, length, body)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 100]), body[at : at + 100]) for at in range(0, length, 100))
    chunked = b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (tag, chunks)
    plain = random.choice([whole, whole, chunked])
    first, end = random.choice([0, 0, 10]), min(_HEAD, length)
    part = b"HTTP/1.1 206 Partial Content\r\n%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%s" % (
        *(tag, first, end - 1, length, end - first, body[first:end]),
    )
    cut = 200
    rest = b"HTTP/1.1 206 Partial Content\r\n%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%s" % (
        *(tag, cut, length - 1, length, max(0, length - cut), body[cut:]),
    )
    broken = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (tag, length, body[:cut])
    away = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % random.choice(
        [
            b"/other",
            b"http://other.example/x?y",
            b"//third.example/",
            b"https://images.example/x",
            b"http://images.example:81/",
        ]
    )
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    looked = random.choice([[part], [part], [plain], [away, part], [busy, part], [part, whole]])
    begun = random.choice([[plain], [plain], [away, plain], [broken, rest], [broken, plain], [broken, busy, rest]])
    return [*looked, *begun, part, rest]


TARGET = _Http()
