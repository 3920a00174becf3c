"""Connections that somebody else can cut: while one is made, while TLS is agreed on, while an answer stalls.

A thread that waits for a socket can't look at anything else, and a timeout short enough to do so between waits loses
what a buffered read had already taken. So a second thread looks, and shuts the connection down under the first.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation
from libironic_disk.machine import http
from libironic_disk.machine.http import HttpPolicy

_POLL_SECONDS: Final = 0.1


class Line:
    """What one reader is connected through, one connection at a time; a ``with`` around it is its time.

    Args:
        source: what is read, in errors.
        policy: its ``total_timeout`` runs from here on.
        cancel: whose throwing cuts the connection.
    """

    def __init__(self, source: str, policy: HttpPolicy, cancel: Cancellation | None) -> None:
        self._source = source
        self._policy = policy
        self._cancel = cancel
        self._deadline = time.monotonic() + policy.total_timeout
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._watch = threading.Thread(target=self._run, name="libironic_disk-line", daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watch.join()
        self.hang_up()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def stop(self) -> None:
        """End whatever waits, now and from now on; from any thread."""
        self._stopped.set()

    def check(self) -> None:
        """Check that there is a reason to go on.

        Raises:
            Cancelled: the caller wished so, or the line was stopped.
            SourceTimedOut: the deadline has passed.
        """
        if self._cancel is not None:
            self._cancel.check("image")
        if self._stopped.is_set():
            raise Cancelled(during="image")
        if self.remaining <= 0:
            raise http.out_of_time(self._source, self._policy)

    def pause(self, seconds: float) -> None:
        """Wait, as long as there is a reason to; it raises what :meth:`check` does."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            self._stopped.wait(min(left, _POLL_SECONDS))
            self.check()

    def carry(self, pool: urllib3.PoolManager) -> None:
        """Let all connections that ``pool`` will make be this line's."""
        line = self

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return line._connect(self)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return line._connect(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def hang_up(self) -> None:
        """Forget the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self, connection: HTTPConnection) -> socket.socket:
        """Do what urllib3 does here, with the socket known before it is connected."""
        failure = OSError("it has no address")
        host = connection._dns_host
        try:
            addresses = socket.getaddrinfo(host, connection.port, 0, socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(connection.host, connection, socket.gaierror(str(error))) from error
        for family, kind, protocol, _, address in addresses:
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(self._policy.connect_timeout)
                self._hold(made)
                for option in connection.socket_options or ():
                    made.setsockopt(*option)
                made.connect(address)
                self.check()
            except OSError as error:
                made.close()
                self.hang_up()
                self.check()
                failure = error
            except BaseException:
                made.close()
                raise
            else:
                return made
        raise NewConnectionError(connection, f"no connection: {failure.strerror or failure}")

    def _hold(self, made: socket.socket) -> None:
        # A duplicate: TLS takes the original over, and once that is closed its number may be anybody's.
        duplicate = made.dup()
        self.hang_up()
        with self._lock:
            self._connection = duplicate
        self.check()

    def _run(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                self.check()
            except Exception:  # whoever waits finds out the reason by himself
                self._cut()

    def _cut(self) -> None:
        with self._lock, suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
