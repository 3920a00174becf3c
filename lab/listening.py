"""Servers that answer in a thread of their own, for as long as somebody needs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer

_POLL_SECONDS = 0.02


@contextmanager
def answering(server: BaseServer) -> Iterator[None]:
    """Have a server answer until the ``with`` ends; the caller closes it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
