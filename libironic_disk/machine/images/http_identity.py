"""What an HTTP answer says about the image behind it: which version, how long, and which part of it this is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import urllib3

from libironic_disk.errors import SourceChanged, SourceFailed

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})", re.ASCII)
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of an image as its server tells it apart; RFC 9110 section 8.8. None where it doesn't.

    ``dated`` is whether the date is one that only one version can have, because it was over when the server answered.
    """

    size: int | None
    etag: str | None
    modified: str | None
    dated: bool

    @property
    def condition(self) -> str | None:
        """What a request may name in If-Range to get a part of this very version; RFC 9110 section 13.1.5."""
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return self.modified if self.dated else None

    def check_same(self, found: Version, *, source: str, offset: int | None = None) -> None:
        """Check that an answer is about the same version, as far as both say.

        Raises:
            SourceChanged: it isn't.
        """
        differences = [
            f"{what} was {before} and is {now}"
            for what, before, now in (
                ("its size", self.size, found.size),
                ("its ETag", self.etag, found.etag),
                # Servers that share the work often agree on the tag alone.
                ("its date", *((None, None) if self.etag else (self.modified, found.modified))),
            )
            if before is not None and now is not None and before != now
        ]
        if differences:
            raise SourceChanged(source=source, reason=f"it was changed: {'; '.join(differences)}", offset=offset)


def version(response: urllib3.BaseHTTPResponse) -> Version:
    """Return which version a 200 or a 206 is about."""
    headers = response.headers
    part = part_of(response) if response.status == 206 else None
    size = None if "Transfer-Encoding" in headers or response.status != 200 else _length(response)
    modified = headers.get("Last-Modified")
    return Version(
        size=part.total if part else size,
        etag=headers.get("ETag"),
        modified=modified,
        dated=_is_past(modified, headers.get("Date")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes from ``start`` up to, not including, ``end`` of ``total``."""

    start: int
    end: int
    total: int


def part_of(response: urllib3.BaseHTTPResponse) -> Part | None:
    """Return which part a 206 says it is; None where it doesn't, or says what can't be."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None:
        return None
    part = Part(start=int(match[1]), end=int(match[2]) + 1, total=int(match[3]))
    if not part.start < part.end <= part.total or _length(response) not in (None, part.end - part.start):
        return None
    return part


def total_of_refused(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return how long a 416 says the image is, None if it doesn't; RFC 9110 section 15.5.17."""
    match = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def check_plain(response: urllib3.BaseHTTPResponse, *, source: str) -> None:
    """Check that a body is the image's own bytes and that its end can be known.

    Raises:
        SourceFailed: it is encoded, though that wasn't asked for, or it ends where the connection does.
    """
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        # What it was before is anybody's guess: the file, or the file already compressed once.
        raise SourceFailed(source=source, reason=f"the server sends it with the content encoding {coding!r}")
    chunked = response.headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
    if not chunked and ("Transfer-Encoding" in response.headers or _length(response) is None):
        reason = "the server says neither its length nor its end, so a part of it would look like all of it"
        raise SourceFailed(source=source, reason=reason)


def _length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if _LENGTH.fullmatch(text) else None


def _is_past(modified: str | None, now: str | None) -> bool:
    """Whether the server's clock had left the second of a change; RFC 9110 section 8.8.2.2."""
    try:
        return bool(modified and now) and parsedate_to_datetime(str(modified)) < parsedate_to_datetime(str(now))
    except (ValueError, TypeError, OverflowError):
        return False
