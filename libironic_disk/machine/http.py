"""Read over HTTP and HTTPS, once: bounded in size, in time and in what a server may talk us into.

Every call has connections of its own and leaves none behind. Proxies come from the environment, which is read and never
changed. Redirects are followed here and not by the HTTP library, so that each step is checked: it may not leave HTTPS,
and it takes no credentials along. What an error says about a URL has neither its credentials nor its query, because a
query is how temporary URLs are signed.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urljoin, urlsplit, urlunsplit

# The stubs lack the second one.
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ProxyError, SSLError, TimeoutError

from libironic_disk.errors import SourceFailed, SourceTimedOut

SCHEMES: Final = ("http", "https")
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PIECE: Final = 64 * 1024
_FIRST_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPolicy:
    """How patient and how trusting a reader is.

    Attributes:
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds to wait for the next bytes.
        total_timeout: seconds for everything, all attempts and pauses between them included.
        attempts: how often to try when the connection or the server (5xx) fails; what the client did wrong (4xx) and
            bad certificates are final.
        redirects: how many to follow.
        ca_file: certificates to trust instead of the system's.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    total_timeout: float = 300.0
    attempts: int = 4
    redirects: int = 5
    ca_file: Path | None = None


DEFAULT_POLICY: Final = HttpPolicy()


def is_url(text: str) -> bool:
    """Whether ``text`` is meant for this module."""
    return text.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def redacted(url: str) -> str:
    """Return ``url`` without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed URL"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


class Passing(Exception):
    """A failure that may be gone at the next attempt; it never reaches a caller of the package.

    ``wait`` is how many seconds the server wants to be left alone.
    """

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def out_of_time(source: str, policy: HttpPolicy) -> SourceTimedOut:
    """Return the error for a reading whose time is up."""
    reason = f"it wasn't finished within {policy.total_timeout:g} s"
    return SourceTimedOut(source=source, reason=reason, timeout=policy.total_timeout)


def pool_for(parts: SplitResult, policy: HttpPolicy) -> urllib3.PoolManager:
    """Return new connections for a URL, through the environment's proxy where it names one."""
    ca_certs = str(policy.ca_file) if policy.ca_file else None
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return urllib3.PoolManager(ca_certs=ca_certs)
    proxy_parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    user, _, host = proxy_parts.netloc.rpartition("@")
    return urllib3.ProxyManager(
        urlunsplit(proxy_parts._replace(netloc=host)),
        proxy_headers={"Proxy-Authorization": basic_authorization(user)} if user else None,
        ca_certs=ca_certs,
    )


def basic_authorization(user: str) -> str:
    """Return what proves ``user``, a URL's user and password, to a server; RFC 7617."""
    # Not urllib3's: it knows Latin-1 alone, and its error holds what it can't encode.
    return f"Basic {base64.b64encode(unquote_to_bytes(user)).decode()}"


def split_url(url: str, *, base: str = "") -> SplitResult:
    """Split a URL, which may be relative to ``base``.

    Raises:
        SourceFailed: not an HTTP URL with a host.
    """
    try:
        parts = urlsplit(urljoin(base, url))
        if parts.scheme in SCHEMES and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise SourceFailed(source=redacted(url), reason="it isn't a URL that can be read")


def redirected(here: str, target: str) -> str:
    """Where ``target`` leads from ``here``; user and password stay with the server that they were given for.

    Raises:
        SourceFailed: it isn't a URL, or leaves HTTPS.
    """
    old = split_url(here)
    new = split_url(target, base=here)
    if old.scheme == "https" and new.scheme != "https":
        raise SourceFailed(source=redacted(here), reason="it redirects from HTTPS to plain HTTP")
    user = old.netloc.rpartition("@")[0]
    host = new.netloc.rpartition("@")[2]
    same = (old.scheme, old.hostname, old.port) == (new.scheme, new.hostname, new.port)
    return urlunsplit(new._replace(netloc=f"{user}@{host}" if user and same else host))


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn urllib3's errors, some of which quote the whole URL, into ours.

    Raises:
        Passing: another attempt may succeed.
        SourceFailed: it wouldn't.
    """
    try:
        yield
    except HTTPError as error:
        passing, reason = _passing(error), _reason(error)
    else:
        return
    if passing:
        raise Passing(reason)
    raise SourceFailed(source=redacted(url), reason=reason)


def _passing(error: HTTPError) -> bool:
    if isinstance(error, SSLError):  # a certificate stays bad; a connection that ended may be had again
        return bool(error.args) and isinstance(error.args[0], ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return isinstance(error, NewConnectionError | TimeoutError | ProtocolError | ProxyError)


def _reason(error: HTTPError) -> str:
    match error:
        # First, because urllib3 derives it from a timeout.
        case NewConnectionError() | SSLError():
            return str(error).rpartition(": ")[2]
        case TimeoutError():
            return "there was no answer in time"
        case ProtocolError():
            return "the connection ended before the body did"
        case ProxyError():
            return "the proxy failed"
        case _:
            return type(error).__name__
