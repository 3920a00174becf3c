"""Make and read ISO 9660 images with Rock Ridge and Joliet, in memory, through pycdlib.

Nothing is mounted: the host's kernel may lack isofs, and mounting would let a stranger's image talk to the kernel.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

from pycdlib import PyCdlib
from pycdlib.dates import DirectoryRecordDate
from pycdlib.dr import DirectoryRecord

from libironic_disk.errors import ConfigDriveInvalid, DiskError
from libironic_disk.pure.drives import iso9660
from libironic_disk.pure.drives.filetree import FileTree, Harvest, by_directory, checked_name

_INTERCHANGE_LEVEL: Final = 3
_FOREIGN: Final = re.compile("[^A-Z0-9_.]")
_DIRECTORY_MODE: Final = 0o040555
_FILE_MODE: Final = 0o100444
_FIRST_DESCRIPTOR: Final = 16 * iso9660.SECTOR
_TERMINATOR: Final = 255
_DATES: Final = slice(813, 881)  # ECMA-119, 8.4.26 to 8.4.29
_NO_DATE: Final = b"0" * 16 + b"\0"


def make(files: FileTree, *, label: str) -> bytes:
    """Return an image of ``files``; the same files give the same bytes, at any time and in any time zone.

    The names have to differ in the form that ISO 9660 itself has room for, 30 upper-case letters, digits and
    underscores: this is for the fixed names of a config drive and not for any tree.
    """
    image = PyCdlib()
    image.new(interchange_level=_INTERCHANGE_LEVEL, joliet=3, rock_ridge="1.09", vol_ident=label)
    try:
        _, *directories = by_directory(files)
        for path in directories:
            image.add_directory(
                iso_path=_iso_path(path, is_file=False),
                rr_name=path.name,
                joliet_path=f"/{path}",
                file_mode=_DIRECTORY_MODE,
            )
        for name in sorted(files):
            path = PurePosixPath(name)
            image.add_fp(
                io.BytesIO(files[name]),
                len(files[name]),
                iso_path=_iso_path(path, is_file=True),
                rr_name=path.name,
                joliet_path=f"/{path}",
                file_mode=_FILE_MODE,
            )
        _date_records(image)
        written = io.BytesIO()
        image.write_fp(written)
        return _undated(written.getvalue())
    finally:
        image.close()


def read_files(data: bytes, *, limit: int) -> dict[str, bytes]:
    """Return every file of the image by its path, with Rock Ridge names, else Joliet's, else ISO 9660's own.

    Raises:
        ConfigDriveInvalid: the image is damaged, has symbolic links, or a name in it isn't a plain file name.
        ConfigDriveTooLarge: the files have more than ``limit`` bytes together.
    """
    volume = iso9660.recognise(data)
    # pycdlib would quietly shorten the files of a truncated image.
    if volume is None or len(data) < volume.size:
        raise ConfigDriveInvalid(reason="its ISO 9660 file system is truncated or has no valid descriptor")
    try:
        with _opened(data) as image:
            return _read(image, limit)
    except DiskError as refusal:
        error = refusal
    except Exception:
        # pycdlib meets damage with any exception, and some quote the image: none may become our error's context.
        error = ConfigDriveInvalid(reason="its ISO 9660 file system is damaged")
    raise error


def _iso_path(path: PurePosixPath, *, is_file: bool) -> str:
    """The name for readers that know neither Rock Ridge nor Joliet: upper case, and a version for files."""
    return "/" + "/".join(_FOREIGN.sub("_", part.upper()) for part in path.parts) + (";1" if is_file else "")


def _date_records(image: PyCdlib) -> None:
    """Give files and directories one fixed date: pycdlib takes the time of day and lets nobody choose."""
    epoch = DirectoryRecordDate.from_fields(70, 1, 1, 0, 0, 0, 0)
    for descriptor in filter(None, (image.pvd, image.joliet_vd)):
        waiting: list[DirectoryRecord] = [descriptor.root_directory_record()]
        while waiting:
            record = waiting.pop()
            record.date = epoch
            for entries in (record.rock_ridge.dr_entries, record.rock_ridge.ce_entries) if record.rock_ridge else ():
                if entries is not None and entries.tf_record is not None:
                    for name in ("access", "modification", "attribute_change"):
                        setattr(entries.tf_record, f"{name}_time", epoch)
            waiting.extend(record.children)


def _undated(data: bytes) -> bytes:
    """Set the volume's dates to "not specified" (ECMA-119, 8.4.26.1); pycdlib renews one of them as it writes."""
    undated = bytearray(data)
    at = _FIRST_DESCRIPTOR
    while data[at] != _TERMINATOR:
        undated[at + _DATES.start : at + _DATES.stop] = _NO_DATE * 4
        at += iso9660.SECTOR
    return bytes(undated)


@contextmanager
def _opened(data: bytes) -> Iterator[PyCdlib]:
    image = PyCdlib()
    image.open_fp(io.BytesIO(data))
    try:
        yield image
    finally:
        image.close()


def _read(image: PyCdlib, limit: int) -> dict[str, bytes]:
    tree = "joliet_path" if image.has_joliet() and not image.has_rock_ridge() else "iso_path"
    harvest = Harvest(limit)
    waiting = [("", "")]
    while waiting:
        directory, parent = waiting.pop()
        for record in image.list_children(**{tree: directory or "/"}):
            if record.is_dot() or record.is_dotdot():
                continue
            place = f"{directory}/{checked_name(_identifier(record, tree))}"
            path = harvest.path(parent, _name(record, tree))
            if record.is_dir():
                waiting.append((place, path))
            else:
                harvest.claim(record.get_data_length())
                harvest.files[path] = _content(image, record, tree, place)
    return harvest.files


def _identifier(record: DirectoryRecord, tree: str) -> str:
    identifier: bytes = record.file_identifier()
    return identifier.decode("utf-16-be" if tree == "joliet_path" else "utf-8")


def _name(record: DirectoryRecord, tree: str) -> str:
    if record.rock_ridge is not None and record.rock_ridge.name():
        name: bytes = record.rock_ridge.name()
        return name.decode(errors="surrogateescape")
    return _identifier(record, tree).split(";", 1)[0].removesuffix(".")


def _content(image: PyCdlib, record: DirectoryRecord, tree: str, place: str) -> bytes:
    if record.is_symlink() or record.data_continuation is not None:
        raise ConfigDriveInvalid(reason="a file in it is a symbolic link or is spread over several extents")
    if not record.get_data_length():
        return b""
    with image.open_file_from_iso(**{tree: place}) as file:
        return bytes(file.read())
