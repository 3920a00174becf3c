"""Base64 and gzip, the wrappings that a config drive travels in: strict, and bounded before anything is unpacked.

Errors are raised outside of the handlers here: an exception caught in one would become the new error's context, and
those of the codecs carry what they choked on.
"""

from __future__ import annotations

import binascii
import zlib
from contextlib import suppress
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge

GZIP_MAGIC: Final = b"\x1f\x8b\x08"  # RFC 1952 section 2.3.1: magic number, then "deflate"
_WHITESPACE: Final = b" \t\r\n\v\f"
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
_PIECE: Final = 64 * 1024
_MOST_MEMBERS: Final = 4096


def encoded_limit(limit: int) -> int:
    """Return how many bytes of base64, in lines of any usual length, can hold ``limit`` bytes."""
    return limit * 3 // 2 + _PIECE


def decode_base64(text: bytes, *, hint: str = "") -> bytes:
    """Decode standard base64 (RFC 4648 section 4) strictly; white space anywhere is no part of it.

    ``hint`` is put at the end of the error's reason.

    Raises:
        ConfigDriveInvalid: any other foreign byte, wrong padding, or nothing at all.
    """
    # The lenient decoder skips what it doesn't know, and so finds base64 in nearly every binary file.
    stripped = text.translate(None, _WHITESPACE)
    # Even the strict one takes more padding than there is room for.
    if stripped and len(stripped) % 4 == 0 and not stripped.endswith(b"==="):
        with suppress(binascii.Error):
            return binascii.a2b_base64(stripped, strict_mode=True)
    raise ConfigDriveInvalid(reason=f"it is neither an ISO 9660 or FAT image nor gzip nor base64{hint}")


def gunzip(data: bytes, *, limit: int) -> bytes:
    """Decompress gzip, of one member or several (RFC 1952 section 2.2), producing no more than ``limit`` + 1 bytes.

    Zero bytes after the last member are padding, as for gzip(1).

    Raises:
        ConfigDriveInvalid: it is truncated, damaged, or followed by something else.
        ConfigDriveTooLarge: it holds more than ``limit`` bytes.
    """
    with suppress(zlib.error):
        return _gunzip(data, limit)
    raise ConfigDriveInvalid(reason="its gzip stream is damaged")


def _gunzip(data: bytes, limit: int) -> bytes:
    unpacked = bytearray()
    at = 0
    for _ in range(_MOST_MEMBERS):
        at = _member(data, at, unpacked, limit)
        if not data[at : at + 1].strip(b"\0") and not data[at:].strip(b"\0"):
            return bytes(unpacked)
        if not data.startswith(GZIP_MAGIC, at):
            raise ConfigDriveInvalid(reason="its gzip stream is followed by something else")
    raise ConfigDriveInvalid(reason=f"it has more than {_MOST_MEMBERS} gzip members")


def _member(data: bytes, at: int, unpacked: bytearray, limit: int) -> int:
    """Append what the member at ``at`` holds and return where it ends."""
    member = zlib.decompressobj(wbits=_GZIP_WINDOW)
    while not member.eof:
        # In pieces: what follows a member comes back as a copy, once for each member.
        piece = member.unconsumed_tail
        if not piece:
            piece = data[at : at + _PIECE]
            at += len(piece)
        produced = member.decompress(piece, limit + 1 - len(unpacked))
        unpacked += produced
        if len(unpacked) > limit:
            raise ConfigDriveTooLarge(limit=limit, found=len(unpacked))
        if not piece and not produced and not member.eof:
            raise ConfigDriveInvalid(reason="its gzip stream is truncated")
    return at - len(member.unused_data)
