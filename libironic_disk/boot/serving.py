"""A WSGI application (PEP 3333) that serves what is published, with ranges: a thousand names may lie over one base.

Any WSGI server runs it, threaded or not: it keeps nothing between requests and reads in pieces. Controllers of machines
read a medium as a disk is read, a few sectors here and there, so HEAD and Range are what matters (RFC 9110 sections
13 and 14).

A file that was changed after it was published isn't served: the answer is 503, and an answer that was under way ends
short of its length, which no client takes for the whole.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final
from wsgiref.types import StartResponse, WSGIEnvironment

from libironic_disk.boot.publishing import checked_name
from libironic_disk.boot.readables import PublishedContent, Readable, ReadableFile, opened
from libironic_disk.errors import DiskError, SourceChanged, SourceFailed
from libironic_disk.pure.netboot.httpranges import (
    Span,
    Unsatisfiable,
    is_same,
    matches_strongly,
    matches_weakly,
    wanted_bytes,
)
from libironic_disk.units import KIB

_CHUNK: Final = 256 * KIB
"""Bytes of one read: the memory that an answer takes."""

_TYPE: Final = "application/octet-stream"
_METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A status line, what the headers say, and which bytes follow."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


class ServedMedia:
    """A publisher whose files are served by this process: bytes stay where they are, and nothing is copied.

    It is itself the WSGI application. What is published is forgotten when the process ends, and is there again, under
    the same URLs, when the same boots are prepared again.

    Args:
        base_url: where machines find the application, such as ``http://192.0.2.1:8080/media``.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._published: dict[str, Readable] = {}
        self._files: weakref.WeakValueDictionary[str, ReadableFile] = weakref.WeakValueDictionary()
        self._changing = threading.Lock()

    def publish(self, name: str, content: PublishedContent) -> str:
        """Serve the content under a name; return its URL.

        Answers that are under way are still those of what had the name before.

        Raises:
            InvalidParameterValue: the name isn't one.
            SourceFailed: the content can't be read.
        """
        checked_name(name)
        with self._changing:
            self._published[name] = self._shared(content) if isinstance(content, Path) else opened(content)
        return f"{self._base_url}/{name}"

    def withdraw(self, name: str) -> None:
        """Serve a name no longer; if it isn't served, nothing happens.

        Raises:
            InvalidParameterValue: the name isn't one.
        """
        checked_name(name)
        with self._changing:
            self._published.pop(name, None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._answer(environ)
        # An answer of 304 is about a body that isn't sent (section 15.4.5): these would be said of that.
        always = {} if answer.status is HTTPStatus.NOT_MODIFIED else {"Content-Type": _TYPE, "Content-Length": "0"}
        start_response(f"{answer.status} {answer.status.phrase}", list((always | dict(answer.headers)).items()))
        return answer.body

    def _shared(self, path: Path) -> ReadableFile:
        """Return an open file, the same one for all names of the same bytes."""
        found = ReadableFile(path)
        return self._files.setdefault(found.etag, found)

    def _answer(self, environ: WSGIEnvironment) -> _Answer:
        method = str(environ["REQUEST_METHOD"])
        if method not in _METHODS:
            return _Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        # Only whole names are known, so there is no path that could lead elsewhere.
        content = self._published.get(str(environ.get("PATH_INFO", "")).removeprefix("/"))
        if content is None:
            return _Answer(status=HTTPStatus.NOT_FOUND)
        answer = _conditional(environ, content)
        if answer is not None:
            return answer
        try:
            return _whole(content) if method == "HEAD" else _got(environ, content)
        except (DiskError, OSError) as error:
            environ["wsgi.errors"].write(f"{environ.get('PATH_INFO')}: {error}\n")
            return _Answer(status=HTTPStatus.SERVICE_UNAVAILABLE)


def _conditional(environ: WSGIEnvironment, content: Readable) -> _Answer | None:
    """Answer where If-Match or If-None-Match decide, in the order of RFC 9110 section 13.2.2."""
    match, none_match = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
    if match is not None and not matches_strongly(match, content.etag):
        return _Answer(status=HTTPStatus.PRECONDITION_FAILED)
    if none_match is not None and matches_weakly(none_match, content.etag):
        return _Answer(status=HTTPStatus.NOT_MODIFIED, headers=_validators(content))
    return None


def _whole(content: Readable) -> _Answer:
    """Answer HEAD, for which Range has no meaning (section 14.2), after a look whether the bytes are still there."""
    _piece(content, 0, min(1, content.size))
    return _Answer(status=HTTPStatus.OK, headers=_described(content, content.size))


def _got(environ: WSGIEnvironment, content: Readable) -> _Answer:
    tag = environ.get("HTTP_IF_RANGE")
    ranges = environ.get("HTTP_RANGE") if tag is None or is_same(tag, content.etag) else None
    match wanted_bytes(ranges, content.size):
        case Unsatisfiable():
            described = _validators(content) | {"Content-Range": f"bytes */{content.size}"}
            return _Answer(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=described)
        case Span(start=start, stop=stop):
            described = _described(content, stop - start) | {
                "Content-Range": f"bytes {start}-{stop - 1}/{content.size}"
            }
            return _Answer(status=HTTPStatus.PARTIAL_CONTENT, headers=described, body=_read(content, start, stop))
        case _:
            described = _described(content, content.size)
            return _Answer(status=HTTPStatus.OK, headers=described, body=_read(content, 0, content.size))


def _read(content: Readable, start: int, stop: int) -> Iterable[bytes]:
    """Read the first piece now, while an error can still be the answer, and the others as they are sent."""
    first = _piece(content, start, stop)
    if start + len(first) == stop:
        return (first,)
    return _pieces(content, first, start, stop)


def _pieces(content: Readable, first: bytes, start: int, stop: int) -> Iterator[bytes]:
    position = start
    piece = first
    while True:
        position += len(piece)
        yield piece
        if position == stop:
            return
        piece = _piece(content, position, stop)


def _piece(content: Readable, position: int, stop: int) -> bytes:
    wanted = min(_CHUNK, stop - position)
    try:
        found = content.read_at(position, wanted)
    except ValueError as error:
        raise SourceFailed(source="what is published", reason=str(error), offset=position) from error
    if len(found) != wanted:
        raise SourceChanged(source="what is published", reason="it became shorter", offset=position)
    return found


def _described(content: Readable, length: int) -> dict[str, str]:
    return _validators(content) | {"Content-Length": str(length)}


def _validators(content: Readable) -> dict[str, str]:
    return {"Accept-Ranges": "bytes", "ETag": f'"{content.etag}"'}
