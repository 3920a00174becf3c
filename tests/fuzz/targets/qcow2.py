"""The decoder of qcow2 streams: what it accepts, qemu-img reads alike; all else is a typed error.

An input is a file and how it is read: the decoder's settings and the sizes of the pieces. All of it is packed, so
that an image of mostly zeros is short.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from libironic_disk.errors import DiskError, ImageDamaged, ImageOrderUnsupported, ImageRefused, SourceChanged
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.units import MIB
from tests.fuzz.engine import Scramble
from tests.fuzz.limits import limited
from tests.fuzz.qcow2.case import SETTINGS, Case, Unreadable
from tests.fuzz.qcow2.decoding import NAME, Disk, DiskFull, decode
from tests.fuzz.qcow2.mutations import crossed, mutated, sound
from tests.fuzz.qcow2.reference import QemuImg, difference, has_wide_window, without_extras

# What Python keeps for later, and a cluster of at most 1 MiB in a few places at once.
_MEMORY = 24 * MIB
_SECONDS = 1.0
_SECONDS_PER_BYTE = 2e-6
_TYPED = (ImageRefused, ImageDamaged, ImageOrderUnsupported, SourceChanged)
_FRESH = 0.01


class _Qcow2:
    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._ours = Path(self._directory.name) / "ours.raw"
        self._qemu = QemuImg(Path(self._directory.name))
        self._outcomes = Counter[str]()

    def seeds(self, random: Random) -> Iterator[bytes]:
        while True:
            yield Case(random.randbytes(SETTINGS), sound(random)).packed()

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        try:
            case = Case.unpacked(data)
        except Unreadable:
            return next(self.seeds(random))
        if random.random() < _FRESH:
            return next(self.seeds(random))
        settings, file = bytearray(case.settings), case.file
        if random.random() < 0.3:
            settings[random.randrange(SETTINGS)] = random.randrange(256)
        if random.random() < 0.9:
            file = mutated(file, random, scramble)
        return Case(bytes(settings), file).packed()

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        try:
            one, two = Case.unpacked(data), Case.unpacked(other)
        except Unreadable:
            return data
        return Case(random.choice([one, two]).settings, crossed(one.file, two.file, random)).packed()

    def check(self, data: bytes) -> bool:
        try:
            case = Case.unpacked(data)
        except Unreadable:
            return False
        try:
            self._decode(case)
        except DiskFull:
            self._outcomes["too large for this machine"] += 1
            return False
        except DiskError as error:
            self._check_refusal(case, error)
            self._outcomes[type(error).__name__] += 1
            return True
        try:
            self._outcomes[self._compare(case.file)] += 1
        except AssertionError as error:
            error.add_note(str(case))
            raise
        return True

    def summary(self) -> str:
        return ", ".join(f"{outcome} {count}" for outcome, count in self._outcomes.most_common()) or "nothing"

    def _decode(self, case: Case) -> None:
        disk: Disk | None = None

        def seconds() -> float:
            return _SECONDS + _SECONDS_PER_BYTE * (len(case.file) + (disk.written if disk else 0))

        with limited(seconds=seconds, memory=_MEMORY + 4 * len(case.file)):
            disk = decode(case, self._ours)

    def _check_refusal(self, case: Case, error: DiskError) -> None:
        assert isinstance(error, _TYPED), f"{type(error).__name__} says nothing of the image"
        assert NAME in str(error)
        assert case.changed or not isinstance(error, SourceChanged), "nothing changed"
        kept = case.spill or case.access is MetadataAccess.EAGER
        assert not (kept and isinstance(error, ImageOrderUnsupported)), "there was a place for everything"

    def _compare(self, file: bytes) -> str:
        """Assert that qemu-img reads the same; return in which way it does."""
        outcome = "as qemu-img"
        disk = self._qemu.read(file)
        if isinstance(disk, str):
            outcome = "as qemu-img without extras"
            disk = self._qemu.read(without_extras(file))
        if isinstance(disk, str) and has_wide_window(file):
            return "a window wider than qemu-img's"
        assert isinstance(disk, Path), f"accepted, and qemu-img says: {disk}"
        differs = difference(self._ours, disk)
        assert differs is None, f"byte {differs} isn't qemu-img's"
        return outcome


TARGET = _Qcow2()
