"""The headers of a tar archive that somebody else made: sound, bounded, and with an end.

Python's tarfile was made for archives that mean well.
"""

from __future__ import annotations

import re
import tarfile
from typing import Final, Protocol

from libironic_disk.units import KIB, MIB

_LONGEST_HEADER: Final = MIB
_MOST_HEADERS: Final = 16
_LONGEST_OF_ALL: Final = 64 * KIB
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) [^=\n]{1,512}=")
_TOO_MANY_DIGITS: Final = re.compile(rb"[0-9]{512}")
_LINE_END: Final = ord("\n")
_MEMBER_OF_HEADERS: Final = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_PAX: Final = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})


class Archive(tarfile.TarFile):
    """Counts what a member's headers are preceded by, and what all of them say of all members together."""

    headers_in_a_row = 0
    of_all_members = 0

    def forget(self) -> None:
        """Forget the members that were read: it remembers all of them, and an archive may have millions."""
        self.members: list[tarfile.TarInfo] = []


class Member(tarfile.TarInfo):
    """A member whose headers are bounded and sound, as tarfile itself doesn't see to.

    It reads a header into memory as a whole, goes one call deeper for each that precedes a member, keeps what is said
    of all members for ever, and takes a header that is damaged for the archive's end.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Member:
        """Read the next member's headers."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            # A block of zeros: the proper end.
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a member or its end should be") from error

    def _proc_member(self, archive: Archive) -> tarfile.TarInfo:
        if self.type in _MEMBER_OF_HEADERS:
            self._check_header(archive)
        else:
            archive.headers_in_a_row = 0
        file = archive.fileobj
        archive.fileobj = _Headers(file, is_pax=self.type in _PAX)  # type: ignore[assignment]
        try:
            member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
            return member
        finally:
            archive.fileobj = file

    def _check_header(self, archive: Archive) -> None:
        if not 0 <= self.size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        archive.headers_in_a_row += 1
        if archive.headers_in_a_row > _MOST_HEADERS:
            raise tarfile.ReadError(f"more than {_MOST_HEADERS} headers of one member")
        if self.type == tarfile.XGLTYPE:
            archive.of_all_members += self.size
            if archive.of_all_members > _LONGEST_OF_ALL:
                raise tarfile.ReadError(f"more than {_LONGEST_OF_ALL} bytes said of all members")


class _File(Protocol):
    def read(self, size: int) -> bytes: ...
    def tell(self) -> int: ...


class _Headers:
    """What a member's headers may be read from: not more than they need, and pax records only where they are sound."""

    def __init__(self, file: _File, *, is_pax: bool) -> None:
        self._file = file
        self._is_pax = is_pax
        self._left = 2 * _LONGEST_HEADER

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError("a list of a sparse file's parts without end")
        data = self._file.read(size)
        if len(data) < size:
            raise tarfile.ReadError("unexpected end of a header")
        if self._is_pax:
            self._is_pax = False
            _check_pax(data)
        return data

    def tell(self) -> int:
        return self._file.tell()


def _check_pax(data: bytes) -> None:
    """Check that records follow each other (POSIX.1-2017, pax, "pax Extended Header"): ``LENGTH KEYWORD=VALUE`` lines.

    tarfile (Python 3.11) lets records overlap, each with a megabyte of its own, and looks for digits in a time that is
    the square of how many there are.
    """
    at = 0
    while at < len(data) and data[at]:
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != _LINE_END:
            raise tarfile.ReadError("a pax header that is none")
        at = end
    if any(data[at:]) or _TOO_MANY_DIGITS.search(data):
        raise tarfile.ReadError("a pax header that is none")
