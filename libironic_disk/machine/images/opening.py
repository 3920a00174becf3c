"""From whatever a caller calls an image to a source that can be inspected and read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from libironic_disk.errors import ImageRefused
from libironic_disk.events import Cancellation
from libironic_disk.machine import http
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import IMAGE_POLICY, HttpImage, http_image
from libironic_disk.machine.images.sources.file import LocalFile, local_file
from libironic_disk.machine.images.sources.stream import Pieces, Readable, StreamSource

ImageSource = str | Path | Location | Sequence[str | Location] | Readable | Iterable[bytes]
"""A path; a URL (``http``, ``https``, ``file``); several URLs of one image; an open stream; pieces of bytes."""

InspectableSource = LocalFile | HttpImage | StreamSource

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KINDS: Final = "a path, a URL, a list of URLs, an open stream or an iterable of bytes is wanted"


def open_source(
    source: ImageSource,
    *,
    name: str = "stream",
    size: int | None = None,
    policy: HttpPolicy = IMAGE_POLICY,
    cancel: Cancellation | None = None,
) -> InspectableSource:
    """Find an image: look at its file, ask its server for the first bytes, or take its stream.

    Args:
        source: what the caller has. A text without a scheme is a path.
        name: what a stream is called in errors.
        size: how many bytes a stream, or a server that doesn't say that, gives, where that is known.
        policy: how patient to be with servers.
        cancel: asked all the time.

    Raises:
        ImageRefused: it is nothing that an image can be, or a path to something else than a regular file.
        SourceFailed: it can't be read.
        Cancelled: the caller wished so.
    """
    problem = unusable(source)
    if problem is not None:
        raise ImageRefused(image=_called(source), reason=problem)
    match _located(source):
        case Path() as path:
            return local_file(path)
        case tuple() as locations:
            image = http_image(*locations, policy=policy, cancel=cancel)
            return image if image.size is not None else replace(image, size=size)
    if isinstance(source, Readable):
        return StreamSource(source, name=name, size=size)
    return StreamSource(Pieces(source), name=name, size=size)  # type: ignore[arg-type] # unusable() looked at it


def unusable(source: object) -> str | None:
    """Say why an image can't be had from ``source``, whatever it leads to; None if it is of a right kind."""
    match source:
        case str():
            return _unusable_text(source)
        case bytes() | bytearray() | memoryview():
            # Iterating over them would give numbers.
            return f"it is given as {type(source).__name__}: wrap the bytes in io.BytesIO, and a path in pathlib.Path"
        case Path() | Location() | Readable():
            return None
        case list() | tuple():
            return _unusable_row(source)
        case Iterable():
            return None
    return f"it is given as {type(source).__name__}: {_KINDS}"


def place(text: str) -> Path | Location | None:
    """Return where a URL leads; None for a text that isn't one.

    Raises:
        ImageRefused: its scheme isn't one that is read.
    """
    match = _SCHEME.match(text)
    if match is None:
        return None
    problem = _unusable_text(text)
    if problem is not None:
        raise ImageRefused(image=_called(text), reason=problem)
    return Location(url=text) if http.is_url(text) else Path(unquote(urlsplit(text).path))


def file_name(source: InspectableSource) -> str:
    """Return what checksum files call an image."""
    match source:
        case LocalFile():
            return str(source.path)
        case HttpImage():
            return source.locations[0].file_name
    return source.name


def _located(source: ImageSource) -> Path | tuple[Location, ...] | None:
    """Return the path or the URLs that ``source`` is, None if it is neither."""
    match source:
        case Path():
            return source
        case Location():
            return (source,)
        case str():
            found = place(source) or Path(source)
            return found if isinstance(found, Path) else (found,)
        case list() | tuple() if _is_url(source[0]):
            return tuple(each if isinstance(each, Location) else Location(url=each) for each in source)
    return None


def _unusable_text(text: str) -> str | None:
    match = _SCHEME.match(text)
    if match is None:
        if "\0" in text:
            return "its path has a zero byte"
        return None if text else "it is an empty text"
    scheme = match[1].lower()
    if scheme in http.SCHEMES:
        return None
    if scheme != "file":
        return f"URLs of the kind {scheme} are not read; http, https and file are"
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        return "a file URL is file:// and an absolute path, with any special character as %XX"
    return None


def _unusable_row(row: Sequence[object]) -> str | None:
    if not row:
        return "it is an empty list"
    if all(_is_url(each) for each in row) or all(isinstance(each, bytes | bytearray | memoryview) for each in row):
        return None
    wrong = next(each for each in row if not _is_url(each))
    what = "a text that is no http or https URL" if isinstance(wrong, str) else type(wrong).__name__
    return f"it is a list with {what}: several places of one image are http or https URLs, all of them"


def _is_url(each: object) -> bool:
    return isinstance(each, Location) or (isinstance(each, str) and http.is_url(each))


def _called(source: object) -> str:
    """Return what something that can't be an image is called in errors; a URL without credentials."""
    if isinstance(source, str):
        return http.redacted(source) if _SCHEME.match(source) else repr(source)
    return "as given"
