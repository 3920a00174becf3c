"""Every error this package raises, as one tree.

The sentence of an error is built from its fields, so a caller may show ``str(error)`` to an operator and act on the
fields without parsing text::

    DiskError
    ├── RequestError              the request can't be carried out as it stands
    │   ├── LayoutInvalid         the description contradicts itself
    │   ├── DescriptionInvalid    a description of several images that can't be carried out
    │   ├── DocumentInvalid       a JSON document that isn't what it should be
    │   ├── LayoutDoesNotFit      it needs more bytes than there are
    │   ├── VolumesDoNotFit       an array or a volume group has less than its contents need
    │   ├── NameTaken             another volume group on the machine has that name
    │   ├── TableLimit            the partition table can't express it
    │   ├── PreservationRefused   what should be kept isn't what is on the disk
    │   ├── ConfigDriveInvalid    not a config drive, or a malformed one
    │   ├── ConfigDriveTooLarge   larger than the limit, before or after decompression
    │   ├── ImageRefused          unsafe, damaged or unsupported image
    │   ├── ImageOrderUnsupported  its parts are in an order that takes more room than there is
    │   ├── FormatMismatch        the image isn't of the format it was declared to be
    │   ├── ImageTooLarge         it doesn't fit where it should be written
    │   ├── GeometryMismatch      the image's partition table counts in sectors of another size
    │   ├── ChecksumInvalid       not a checksum, or a checksum file that doesn't name the image's one
    │   ├── DiskNotFound          no disk is meant by a mark, or several are
    │   ├── EntryUnknown          no system is meant by a name, or several are
    │   ├── BootImpossible        firmware, table and disk can't boot together
    │   ├── KernelParametersInvalid  a kernel parameter that can't be passed on as it is
    │   ├── BootIsoRefused        a boot ISO that can't be changed as it was asked for
    │   ├── IsoInvalid            no ISO 9660 image, or one that is damaged or cut off
    │   ├── IsoUnsupported        an ISO 9660 image of a kind that can't be read or changed so
    │   ├── LoaderConfigRefused  a boot loader's configuration that can't be changed as wished
    │   ├── FatImageRefused      a file that can't be put into an image of a FAT file system
    │   ├── InvalidParameterValue  something in a boot task can't be used
    │   ├── MissingParameterValue  a boot task lacks something
    │   ├── LoaderMissing         a boot loader's file isn't installed; names its package
    │   ├── NotEnoughRoom         a file system has less free bytes than a file will need
    │   └── ToolMissing           a program isn't installed; names its package
    ├── DeviceError               something about a disk
    │   ├── NotABlockDevice
    │   ├── DeviceReadOnly
    │   ├── DeviceBusy            names every mount, swap area and holder
    │   ├── DeviceLocked          another process kept the lock until the deadline
    │   ├── PlanOutdated          the disk isn't the one that was planned for
    │   ├── TableInvalid          bytes that are no valid partition table
    │   ├── NodeMissing           the kernel never showed a partition
    │   └── DeviceFailed          the kernel reported an input/output error
    ├── ProgramError              a program that was run
    │   ├── ProgramFailed
    │   └── ProgramTimedOut
    ├── MultibootDamaged          a file of the multiboot partition isn't what was written there
    ├── BootTaskBusy              another task has the machine, or a network card of it
    ├── VirtualMediaFailed        a machine's controller didn't do what it was asked
    │   └── SlotRefused           it can't with this slot; another one may do
    ├── SwitchRefused             which system boots next can't be changed so
    ├── TemporaryFilesFailed      the directory of temporary files is full, or can't be used
    ├── PathFailed                something inside a file system isn't what it should be
    ├── ImageDamaged              the bytes of an image, once they came, were wrong
    ├── ChecksumMismatch          an image isn't the one that its owner described
    ├── SourceFailed              an image or config drive couldn't be read to its end
    │   ├── SourceChanged         it isn't what it was when it was inspected
    │   ├── SourceTimedOut        it wasn't finished in time
    │   └── ServerRefused         the server answered so, and would again
    └── Cancelled                 the caller's own wish
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import StrEnum

from libironic_disk.units import in_words


class DiskState(StrEnum):
    """In which state an operation on a whole disk left it when it failed."""

    UNCHANGED = "unchanged"
    """Not one byte was written."""
    INCOMPLETE = "incomplete"
    """A system was being made anew beside others: these boot as before, and it boots as a whole or not at all."""
    UNBOOTABLE = "unbootable"
    """Something was written, and the disk was then left so that it doesn't boot."""
    UNKNOWN = "unknown"
    """Something was written, and making the disk unbootable failed or would be too late; ``aftermath`` says why."""
    FINISHED = "finished"
    """The disk is as it was planned; what failed came after that."""


def _rebuild(
    kind: type[DiskError], values: dict[str, object], disk: DiskState | None, aftermath: list[str]
) -> DiskError:
    error = kind(**values)
    error.disk = disk
    error.aftermath.extend(aftermath)
    return error


def shown(text: str) -> str:
    r"""Return a text from outside so that it can be printed: what can't be shown is written as ``\n`` or ``\udcff`` is.

    A name in an image may have line ends, a terminal's commands, and bytes that are no text.
    """
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def add_aftermath(error: BaseException, words: str) -> None:
    """Add to an error, of whatever kind, in which state it left things or what else went wrong on the way out."""
    if isinstance(error, DiskError):
        error.aftermath.append(words)
    else:
        error.add_note(words)


def reason_of(error: OSError | ValueError) -> str:
    """Return why a path can't be used; a ValueError is Python's own answer to one with a NUL in it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def leaving(state: DiskState) -> Iterator[None]:
    """Say in every error that passes, unless it says so already, that the disk was left in this state."""
    try:
        yield
    except DiskError as error:
        error.disk = error.disk or state
        raise


@dataclass(kw_only=True, eq=False)
class DiskError(Exception):
    """Root of the tree: catching it catches whatever this package raises on purpose.

    ``disk`` is the state in which the disk was left, where the operation was one on a whole disk. ``aftermath`` says
    so in words, and names errors of cleaning up: they never replace the first.
    """

    disk: DiskState | None = field(default=None, init=False, repr=False)

    aftermath: list[str] = field(default_factory=list, init=False, repr=False)

    def __str__(self) -> str:
        return "; ".join([self._sentence(), *self.aftermath])

    def _sentence(self) -> str:
        return type(self).__name__

    def __reduce__(self) -> tuple[Callable[..., DiskError], tuple[object, ...]]:
        # Exception's own pickling passes positional arguments, which keyword-only fields refuse.
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return _rebuild, (type(self), values, self.disk, self.aftermath)


@dataclass(kw_only=True, eq=False)
class RequestError(DiskError):
    """The request can't be carried out as it stands.

    It is found before the first write, but for what only a written image can show: that a stream is damaged or too
    large, or that nothing in it can be booted.
    """


@dataclass(kw_only=True, eq=False)
class LayoutInvalid(RequestError):
    """The description contradicts itself; ``problems`` lists every defect, not only the first."""

    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"the layout is invalid: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class DescriptionInvalid(RequestError):
    """A description of several images contradicts itself; ``problems`` has every defect, each after its path."""

    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"the description of the images can't be carried out: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class DocumentInvalid(RequestError):
    """A JSON document isn't the layout or plan it should be; ``problems`` names each defect with its path."""

    kind: str
    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"not a valid {self.kind} document: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class LayoutDoesNotFit(RequestError):
    """The layout needs ``wanted`` bytes where only ``available`` are usable."""

    device: str
    wanted: int
    available: int
    detail: str = ""

    def _sentence(self) -> str:
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"the layout needs {in_words(self.wanted)} but {self.device} has {in_words(self.available)} usable{more}; "
            "take a larger disk or smaller partitions"
        )


@dataclass(kw_only=True, eq=False)
class VolumesDoNotFit(RequestError):
    """An array, a volume group or a volume needs ``wanted`` bytes, and its members give only ``available``."""

    name: str
    wanted: int
    available: int
    detail: str = ""

    def _sentence(self) -> str:
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.name!r} needs {in_words(self.wanted)} but its members give {in_words(self.available)}{more}; take "
            "larger members or smaller volumes"
        )


@dataclass(kw_only=True, eq=False)
class NameTaken(RequestError):
    """Another volume group on this machine has the name already; ``users`` are its devices."""

    name: str
    users: tuple[str, ...]

    def _sentence(self) -> str:
        return (
            f"there already is a volume group {self.name!r}, on {', '.join(self.users)}, which isn't among the disks "
            "of the request; take another name"
        )


@dataclass(kw_only=True, eq=False)
class TableLimit(RequestError):
    """The kind of partition table can't express what was asked for."""

    device: str
    limit: str

    def _sentence(self) -> str:
        return f"{self.device}: {self.limit}"


@dataclass(kw_only=True, eq=False)
class PreservationRefused(RequestError):
    """A partition should be kept, but the table on the disk isn't the one the layout describes."""

    device: str
    differences: tuple[str, ...]

    def _sentence(self) -> str:
        return (
            f"nothing on {self.device} was changed: the partition to keep can't be proven to be there: "
            f"{'; '.join(self.differences)}"
        )


@dataclass(kw_only=True, eq=False)
class ConfigDriveInvalid(RequestError):
    """Not a config drive. Its contents are never part of the message."""

    reason: str

    def _sentence(self) -> str:
        return f"the config drive is malformed: {self.reason}"


@dataclass(kw_only=True, eq=False)
class ConfigDriveTooLarge(RequestError):
    """The config drive passes ``limit`` bytes; ``found`` is how far it was read."""

    limit: int
    found: int

    def _sentence(self) -> str:
        return (
            f"the config drive has at least {in_words(self.found)}, the limit is {in_words(self.limit)}; "
            "raise the limit if that is wanted"
        )


@dataclass(kw_only=True, eq=False)
class ImageRefused(RequestError):
    """The image is unsafe, damaged or of a kind that this package doesn't write."""

    image: str
    reason: str

    def _sentence(self) -> str:
        return f"image {self.image} is refused: {self.reason}"


@dataclass(kw_only=True, eq=False)
class ImageOrderUnsupported(RequestError):
    """A stream has its tables so late that what came before them has no room, neither in memory nor elsewhere."""

    image: str
    budget: int
    offset: int

    def _sentence(self) -> str:
        return (
            f"image {self.image} can't be decoded as it comes: the tables for byte {self.offset} come later, and there "
            f"is {in_words(self.budget)} of memory and no other room to keep it; give the image as a file or by a "
            "server that answers range requests, or rewrite it with qemu-img convert"
        )


@dataclass(kw_only=True, eq=False)
class FormatMismatch(RequestError):
    """The image was declared as one format and is another."""

    image: str
    declared: str
    found: str

    def _sentence(self) -> str:
        return f"image {self.image} was declared as {self.declared} but its bytes are {self.found}"


@dataclass(kw_only=True, eq=False)
class ImageTooLarge(RequestError):
    """The image has ``wanted`` bytes, its target only ``available``."""

    image: str
    target: str
    wanted: int
    available: int

    def _sentence(self) -> str:
        return (
            f"image {self.image} unpacks to {in_words(self.wanted)}, {self.target} has {in_words(self.available)}; "
            "it needs a larger one"
        )


@dataclass(kw_only=True, eq=False)
class GeometryMismatch(RequestError):
    """The table of a whole-disk image counts in sectors of ``made_for`` bytes, and the disk has other ones."""

    image: str
    device: str
    made_for: int
    sector_size: int

    def _sentence(self) -> str:
        return (
            f"image {self.image} was made for sectors of {self.made_for} bytes, {self.device} has sectors of "
            f"{self.sector_size}: its partitions would not be found"
        )


@dataclass(kw_only=True, eq=False)
class ChecksumInvalid(RequestError):
    """What should be a checksum isn't one, or ``source``, a checksum file, leaves open which one is meant."""

    source: str
    reason: str

    def _sentence(self) -> str:
        return f"no checksum can be taken from {self.source}: {self.reason}"


@dataclass(kw_only=True, eq=False)
class BootImpossible(RequestError):
    """Firmware, partition table, disk and image can't boot together; ``reason`` says which of them and why."""

    device: str
    reason: str

    def _sentence(self) -> str:
        return f"{self.device} could not boot: {self.reason}"


@dataclass(kw_only=True, eq=False)
class KernelParametersInvalid(RequestError):
    """A kernel parameter, or all of them together, can't be passed on as it is."""

    parameter: str
    reason: str

    def _sentence(self) -> str:
        return f"kernel parameter {self.parameter!r} is refused: {self.reason}"


@dataclass(kw_only=True, eq=False)
class BootIsoRefused(RequestError):
    """A boot ISO has nothing to boot, or can't be changed as it was asked for; nothing was written."""

    iso: str
    reason: str

    def _sentence(self) -> str:
        return f"boot ISO {self.iso} is refused: {self.reason}"


@dataclass(kw_only=True, eq=False)
class InvalidParameterValue(RequestError):
    """Something in a boot task can't be used; ``problems`` has every defect."""

    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"the machine can't be booted so: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class MissingParameterValue(RequestError):
    """A boot task lacks something; ``names`` has all that is missing."""

    names: tuple[str, ...]

    def _sentence(self) -> str:
        return f"the boot task lacks {', '.join(self.names)}"


@dataclass(kw_only=True, eq=False)
class LoaderMissing(RequestError):
    """A file of a boot loader isn't where the distribution puts it."""

    path: str
    package: str

    def _sentence(self) -> str:
        return f"{self.path} is missing; it comes with the package {self.package}"


@dataclass(kw_only=True, eq=False)
class NotEnoughRoom(RequestError):
    """The file system of ``directory`` has only ``available`` free bytes where ``wanted`` will be written."""

    directory: str
    wanted: int
    available: int

    def _sentence(self) -> str:
        return (
            f"{self.directory} has {in_words(self.available)} free, and {in_words(self.wanted)} are needed; free some "
            "or take another directory"
        )


@dataclass(kw_only=True, eq=False)
class IsoInvalid(RequestError):
    """Bytes that are no ISO 9660 image, or one that is damaged or was cut off."""

    iso: str
    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"{self.iso} is no valid ISO 9660 image: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class IsoUnsupported(RequestError):
    """An ISO 9660 image of a kind that can't be read here, or can't be changed so without breaking something."""

    iso: str
    reason: str

    def _sentence(self) -> str:
        return f"{self.iso} isn't supported: {self.reason}"


@dataclass(kw_only=True, eq=False)
class LoaderConfigRefused(RequestError):
    """A boot loader's configuration can't be changed as wished, or isn't one; ``entry`` is the title of the entry."""

    kind: str
    entry: str
    reason: str

    def _sentence(self) -> str:
        where = f", entry {self.entry!r}" if self.entry else ""
        return f"configuration of kind {self.kind}{where}: {self.reason}"


@dataclass(kw_only=True, eq=False)
class FatImageRefused(RequestError):
    """A file can't be put into an image of a FAT file system; nothing was changed."""

    path: str
    reason: str

    def _sentence(self) -> str:
        return f"{self.path} in the FAT image: {self.reason}"


@dataclass(kw_only=True, eq=False)
class ToolMissing(RequestError):
    """A program that the work needs isn't installed."""

    tool: str
    package: str

    def _sentence(self) -> str:
        return f"{self.tool} is not installed; it comes with the package {self.package}"


@dataclass(kw_only=True, eq=False)
class DeviceError(DiskError):
    """Something about the disk at ``device``."""

    device: str


@dataclass(kw_only=True, eq=False)
class NotABlockDevice(DeviceError):
    """The path leads to nothing, or to something else; ``found`` says what it is."""

    found: str

    def _sentence(self) -> str:
        return f"{self.device} {self.found}; a block device is wanted"


@dataclass(kw_only=True, eq=False)
class DiskNotFound(RequestError):
    """No disk of this machine has a mark, or all of ``matching`` have; ``present`` are all that there are."""

    wanted: str
    matching: tuple[str, ...]
    present: tuple[str, ...]

    def _sentence(self) -> str:
        which = f"{', '.join(self.matching)} have" if self.matching else "no disk has"
        return f"{which} the {self.wanted}, and one is wanted; this machine has {', '.join(self.present) or 'none'}"


@dataclass(kw_only=True, eq=False)
class EntryUnknown(RequestError):
    """No system has a name, or several have: ``reason`` is ``unknown`` or ``ambiguous``.

    ``candidates`` are all systems in the first case and those with the name in the second, each by the id of its menu
    entry, or its number where it has no id.
    """

    key: str
    reason: str
    candidates: tuple[str, ...]

    def _sentence(self) -> str:
        return f"the system {self.key!r} is {self.reason}; there are {', '.join(self.candidates) or 'none'}"


@dataclass(kw_only=True, eq=False)
class DeviceReadOnly(DeviceError):
    """The kernel refuses writes to the disk."""

    def _sentence(self) -> str:
        return f"{self.device} is read-only; clear its write protection first"


@dataclass(kw_only=True, eq=False)
class DeviceBusy(DeviceError):
    """Somebody uses the disk or a part of it; ``users`` names each."""

    users: tuple[str, ...]

    def _sentence(self) -> str:
        return f"{self.device} is in use: {'; '.join(self.users)}"


@dataclass(kw_only=True, eq=False)
class DeviceLocked(DeviceError):
    """Another process held the lock on the whole disk until the deadline."""

    waited: float
    holders: tuple[str, ...]

    def _sentence(self) -> str:
        by = f" by {', '.join(self.holders)}" if self.holders else ""
        return f"{self.device} is locked{by}; gave up after {self.waited:g} s"


@dataclass(kw_only=True, eq=False)
class PlanOutdated(DeviceError):
    """The disk changed after it was planned for; nothing was written."""

    differences: tuple[str, ...]

    def _sentence(self) -> str:
        return f"{self.device} changed since it was planned for: {'; '.join(self.differences)}; observe and plan again"


@dataclass(kw_only=True, eq=False)
class TableInvalid(DeviceError):
    """Bytes that are no valid partition table; ``problems`` says what is wrong with them."""

    problems: tuple[str, ...]

    def _sentence(self) -> str:
        return f"{self.device}: no valid partition table: {'; '.join(self.problems)}"


@dataclass(kw_only=True, eq=False)
class NodeMissing(DeviceError):
    """The kernel didn't show a partition as it was planned; ``found`` says what it showed instead."""

    number: int
    waited: float
    found: str

    def _sentence(self) -> str:
        return f"partition {self.number} of {self.device} did not appear within {self.waited:g} s: {self.found}"


@dataclass(kw_only=True, eq=False)
class DeviceFailed(DeviceError):
    """The kernel refused an operation on the disk."""

    action: str
    reason: str
    offset: int | None = None

    def _sentence(self) -> str:
        where = f" at byte {self.offset}" if self.offset is not None else ""
        return f"{self.action} {self.device}{where} failed: {self.reason}"


@dataclass(kw_only=True, eq=False)
class ProgramError(DiskError):
    """A program that was run; ``argv`` and its last words in ``stderr`` are kept."""

    argv: tuple[str, ...]
    stderr: str


@dataclass(kw_only=True, eq=False)
class ProgramFailed(ProgramError):
    """The program ended with another exit status than the one expected."""

    exit_code: int

    def _sentence(self) -> str:
        said = self.stderr.strip() or "it said nothing"
        return f"`{shlex.join(self.argv)}` ended with status {self.exit_code}: {said}"


@dataclass(kw_only=True, eq=False)
class ProgramTimedOut(ProgramError):
    """The program ran longer than ``timeout`` seconds and was killed."""

    timeout: float

    def _sentence(self) -> str:
        said = f": {self.stderr.strip()}" if self.stderr.strip() else ""
        return f"`{shlex.join(self.argv)}` was killed after {self.timeout:g} s{said}"


@dataclass(kw_only=True, eq=False)
class TemporaryFilesFailed(DiskError):
    """Temporary files can't be made, written, read or removed in ``directory``."""

    directory: str
    reason: str

    def _sentence(self) -> str:
        return (
            f"temporary files can't be kept in {self.directory}: {self.reason}; make room there, or name another "
            "directory in TMPDIR"
        )


@dataclass(kw_only=True, eq=False)
class PathFailed(DiskError):
    """A path in the file system on ``tree`` is missing, leads out of it, is of another kind, or can't be written."""

    tree: str
    path: str
    reason: str

    @classmethod
    def of(cls, tree: str, path: str, error: OSError | ValueError) -> PathFailed:
        """Say what the kernel said of a path, with what was added to that since."""
        failed = cls(tree=tree, path=path, reason=reason_of(error))
        failed.aftermath += getattr(error, "__notes__", ())
        return failed

    def _sentence(self) -> str:
        return f"{shown(self.path)} in the file system on {self.tree}: {shown(self.reason)}"


@dataclass(kw_only=True, eq=False)
class MultibootDamaged(DiskError):
    """A file of the multiboot partition, such as GRUB's environment block, isn't what GRUB or this library wrote."""

    path: str
    reason: str

    def _sentence(self) -> str:
        return f"{self.path} on the multiboot partition is damaged: {shown(self.reason)}; deploy or refresh it anew"


@dataclass(kw_only=True, eq=False)
class BootTaskBusy(DiskError):
    """Another task has ``subject``, a node or a MAC address; ``holder`` says who. Nothing was changed."""

    subject: str
    holder: str

    def _sentence(self) -> str:
        return f"the boot of {self.subject} can't be changed now: {self.holder} has it"


@dataclass(kw_only=True, eq=False)
class VirtualMediaFailed(DiskError):
    """The controller of ``node`` didn't do ``operation``; ``reason`` is what it answered, ``slot`` where, if at one."""

    node: str
    operation: str
    reason: str
    slot: str = ""

    def _sentence(self) -> str:
        where = f" at {self.slot}" if self.slot else ""
        return f"the controller of {self.node} failed to {self.operation}{where}: {self.reason}"


@dataclass(kw_only=True, eq=False)
class SlotRefused(VirtualMediaFailed):
    """The controller can't do so with this slot, and wouldn't the next time; another slot may do."""


@dataclass(kw_only=True, eq=False)
class SwitchRefused(DiskError):
    """Which system boots next can't be changed so; nothing was changed."""

    wanted: str
    reason: str

    def _sentence(self) -> str:
        return f"{self.wanted} is refused: {self.reason}"


@dataclass(kw_only=True, eq=False)
class ImageDamaged(DiskError):
    """The bytes of an image are truncated or wrong; ``offset`` is how many bytes of it were taken before that."""

    image: str
    reason: str
    offset: int

    def _sentence(self) -> str:
        return f"image {self.image} is damaged at byte {self.offset}: {shown(self.reason)}"


@dataclass(kw_only=True, eq=False)
class ChecksumMismatch(DiskError):
    """The image was read to its end and isn't the one that its owner described."""

    image: str
    algorithm: str
    wanted: str
    found: str

    def _sentence(self) -> str:
        return (
            f"image {self.image} has the {self.algorithm} checksum {self.found} instead of {self.wanted}; "
            "check which of the two is out of date"
        )


@dataclass(kw_only=True, eq=False)
class SourceFailed(DiskError):
    """An image or a config drive couldn't be read to its end; ``source`` never contains credentials."""

    source: str
    reason: str
    offset: int | None = None

    def _sentence(self) -> str:
        where = f" at byte {self.offset}" if self.offset is not None else ""
        return f"reading {self.source} failed{where}: {self.reason}"


@dataclass(kw_only=True, eq=False)
class SourceChanged(SourceFailed):
    """The source isn't what it was when it was inspected, or when the reading began."""


@dataclass(kw_only=True, eq=False)
class SourceTimedOut(SourceFailed):
    """The reading wasn't finished within ``timeout`` seconds, attempts and pauses included."""

    timeout: float


@dataclass(kw_only=True, eq=False)
class ServerRefused(SourceFailed):
    """An HTTP server answered with ``status``, and would do so again."""

    status: int


@dataclass(kw_only=True, eq=False)
class Cancelled(DiskError):
    """The caller cancelled the work; ``during`` is the phase that was interrupted."""

    during: str

    def _sentence(self) -> str:
        return f"cancelled during: {self.during}"
