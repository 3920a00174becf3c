"""Asking one place for an image or for parts of it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from libironic_disk.errors import ServerRefused, SourceFailed
from libironic_disk.machine import http
from libironic_disk.machine.http import REDIRECTS, HttpPolicy, Passing
from libironic_disk.machine.images.http_line import Line
from libironic_disk.units import KIB

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_PIECE: Final = 512 * KIB
# RFC 9110, section 15.5.9; RFC 8470; RFC 6585: too slow, too early, too often. All else that is 4xx stays so.
_LATER: Final = frozenset({408, 425, 429})
_PATIENCE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Location:
    """One place where an image is: an HTTP or HTTPS URL, which may hold user and password, or else a bearer token.

    Neither of them, nor the URL's query, shows in ``repr`` or in errors, or goes to another server on a redirect.
    """

    url: str
    bearer_token: str | None = None

    @property
    def name(self) -> str:
        """What it is called in errors: the URL without credentials and query."""
        return http.redacted(self.url)

    @property
    def file_name(self) -> str:
        """The last component of the URL's path, which is what checksum files name."""
        return unquote(urlsplit(self.name).path.rpartition("/")[2])

    def __repr__(self) -> str:
        return f"Location({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where to ask, and what to prove there; ``url`` has no credentials, but may have a signature in its query."""

    url: str = field(repr=False)
    authorization: str | None = field(repr=False)

    @classmethod
    def of(cls, location: Location) -> _Target:
        parts = http.split_url(location.url)
        user, _, host = parts.netloc.rpartition("@")
        authorization = http.basic_authorization(user) if user else None
        if location.bearer_token is not None:
            if not _TOKEN.fullmatch(location.bearer_token):
                raise SourceFailed(source=location.name, reason="its bearer token has characters that can't be sent")
            authorization = f"Bearer {location.bearer_token}"
        return cls(url=urlunsplit(parts._replace(netloc=host, fragment="")), authorization=authorization)

    @property
    def origin(self) -> tuple[str, str | None, int | None]:
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname, parts.port

    def redirected(self, to: str) -> _Target:
        target = _Target(url=http.redirected(self.url, to), authorization=self.authorization)
        return target if target.origin == self.origin else _Target(url=target.url, authorization=None)


class Client:
    """Asks one location, over one line, for one answer at a time; where redirects lead is remembered."""

    def __init__(self, location: Location, policy: HttpPolicy, line: Line) -> None:
        self.name = location.name
        self._policy = policy
        self._line = line
        self._first = self._target = _Target.of(location)
        self._pool: urllib3.PoolManager | None = None
        self._connections: urllib3.HTTPConnectionPool | None = None
        self._origin: tuple[str, str | None, int | None] | None = None
        self._response: urllib3.BaseHTTPResponse | None = None

    def get(self, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Ask, and return an answer whose body is unread: 200, or if a range was asked for 206 or 416.

        Raises:
            Passing: another attempt may succeed.
            SourceFailed: it wouldn't.
            Cancelled: the line was cut.
        """
        with http.translated(self.name):
            remembered = self._target
            response = self._follow(remembered, headers)
            if 400 <= response.status < 500 and response.status != 416 and remembered is not self._first:
                # A temporary URL may have run out, while there would be another one now.
                response = self._follow(self._first, headers)
        expected = (200, 206, 416) if "Range" in headers else (200,)
        if response.status in expected:
            return response
        reason = f"the server answered {response.status}"
        if response.status >= 500 or response.status in _LATER:
            raise Passing(reason, wait=_retry_after(response))
        raise ServerRefused(source=self.name, reason=reason, status=response.status)

    def hang_up(self) -> None:
        """Close the connection, whatever is unread."""
        if self._response is not None:
            self._response.close()
        if self._connections is not None:
            self._connections.close()
        self._response = self._pool = self._connections = None
        self._line.hang_up()

    def _follow(self, target: _Target, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        for _ in range(self._policy.redirects + 1):
            response = self._ask(target, headers)
            to = response.headers.get("Location") if response.status in REDIRECTS else None
            if to is None:
                self._target = target if response.status in (200, 206) else self._first
                return response
            target = target.redirected(to)
        raise SourceFailed(source=self.name, reason=f"it redirects more than {self._policy.redirects} times")

    def _ask(self, target: _Target, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        self._line.check()
        if self._response is not None:
            self._response.close()
        if self._pool is None or self._origin != target.origin:
            self.hang_up()
            self._pool = http.pool_for(http.split_url(target.url), self._policy)
            self._line.carry(self._pool)
            # Kept, because a pool manager leaves it to the garbage collector to close connections.
            self._connections = self._pool.connection_from_url(target.url)
            self._origin = target.origin
        authorization = {"Authorization": target.authorization} if target.authorization else {}
        self._response = self._pool.request(
            "GET",
            target.url,
            headers={"Accept-Encoding": "identity", **headers, **authorization},
            timeout=urllib3.Timeout(connect=self._policy.connect_timeout, read=self._policy.read_timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        return self._response


class Body:
    """The body of an answer, read into buffers of the caller's.

    Args:
        client: who got the answer.
        response: the answer.
        length: how many bytes it has, None where its chunks say that.
    """

    def __init__(self, client: Client, response: urllib3.BaseHTTPResponse, length: int | None) -> None:
        self._name = client.name
        self._response = response
        self._left = length
        self._failure: Passing | SourceFailed | None = None

    def read_into(self, buffer: memoryview) -> int:
        """Read what comes within a moment, at least one byte, and return how many; none at the end.

        Raises:
            Passing: the connection failed, once all bytes that had come were returned.
            SourceFailed: so did something that would fail again.
        """
        if self._failure is not None:
            try:
                raise self._failure
            finally:
                # Its traceback holds this object from now on.
                self._failure = None
        filled = 0
        until = time.monotonic() + _PATIENCE_SECONDS
        try:
            with http.translated(self._name):
                while filled < len(buffer) and self._left != 0 and time.monotonic() < until:
                    filled += self._read_some(buffer[filled : filled + _PIECE])
        except (Passing, SourceFailed) as failure:
            if not filled:
                raise
            self._failure = failure
        return filled

    def read_whole(self, buffer: memoryview) -> int:
        """Read until the buffer is full or the body ends; it raises what :meth:`read_into` does."""
        filled = 0
        while filled < len(buffer) and (count := self.read_into(buffer[filled:])):
            filled += count
        return filled

    def _read_some(self, buffer: memoryview) -> int:
        most = len(buffer) if self._left is None else min(len(buffer), self._left)
        # urllib3's readinto would copy too, and what its read had taken is lost when a connection breaks.
        piece = self._response.read1(most)
        buffer[: len(piece)] = piece
        if self._left is not None:
            if not piece:
                raise Passing("the connection ended before the body did")
            self._left -= len(piece)
        elif not piece:
            self._left = 0
        return len(piece)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    # A number may have thousands of digits, and a date any year.
    with suppress(HTTPError, ValueError, OverflowError):
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    return 0.0
