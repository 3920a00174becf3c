"""Whether servers have the files that machines are to fetch from them by themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import urllib3

from libironic_disk.errors import SourceFailed
from libironic_disk.machine import http

_POLICY: Final = http.HttpPolicy(connect_timeout=5.0, read_timeout=10.0, attempts=1)
# A server needn't know HEAD (RFC 9110 section 9.1): then it has answered, and nobody knows more.
_NO_HEAD: Final = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


def problem_of(url: str) -> str:
    """Ask a web server for a file's headers; say why a machine wouldn't get it, or nothing if it would.

    What isn't HTTP isn't asked for. A redirection counts as an answer, for it is the machine that has to follow it.
    """
    if urlsplit(url).scheme not in http.SCHEMES:
        return ""
    timeout = urllib3.Timeout(connect=_POLICY.connect_timeout, read=_POLICY.read_timeout)
    try:
        with http.translated(url), http.pool_for(http.split_url(url), _POLICY) as pool:
            status = pool.request("HEAD", url, retries=False, redirect=False, timeout=timeout).status
    except http.Passing as error:
        return f"{http.redacted(url)} can't be reached: {error}"
    except SourceFailed as error:
        return f"{http.redacted(url)} can't be reached: {error.reason}"
    if status >= HTTPStatus.BAD_REQUEST and status not in _NO_HEAD:
        return f"{http.redacted(url)} isn't there: the server answers {status}"
    return ""
