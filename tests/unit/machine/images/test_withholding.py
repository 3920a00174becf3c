"""A target of which some ranges stay in memory: a byte is either there or here, whatever is written how."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.machine.images.withholding import Withheld
from libironic_disk.pure.ranges import ByteRange

SIZE = 200


class Memory:
    """A target in memory, full of old bytes, that remembers what it was asked."""

    def __init__(self) -> None:
        self.bytes = bytearray(b"\xaa" * SIZE)
        self.calls: list[str] = []

    @property
    def name(self) -> str:
        return "/dev/memory"

    @property
    def capacity(self) -> int:
        return SIZE

    def write(self, offset: int, data: memoryview) -> None:
        assert data
        self.bytes[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        assert length
        self.bytes[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        self.calls.append("flush")

    def scratch(self, offset: int, data: memoryview) -> None:
        self.calls.append("scratch")
        self.bytes[offset : offset + len(data)] = data

    def recall(self, offset: int, length: int) -> bytes:
        return bytes(self.bytes[offset : offset + length])


ranges = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda edges: ByteRange(min(edges), max(edges)))


@given(
    withheld=st.lists(ranges, max_size=4),
    jobs=st.lists(st.tuples(ranges, st.none() | st.integers(1, 255)), max_size=12),
)
def test_what_is_withheld_and_what_is_written_are_the_image_together(
    withheld: Sequence[ByteRange], jobs: Sequence[tuple[ByteRange, int | None]]
) -> None:
    memory = Memory()
    target = Withheld(memory, withheld)
    model = bytearray(b"\xaa" * SIZE)
    kept = {at for span in withheld for at in range(span.start, span.end)}
    for at in kept:
        model[at] = 0
    for span, value in jobs:
        model[span.start : span.end] = bytes([value or 0]) * span.size
        if value is None:
            target.zero(span.start, span.size)
        else:
            data = bytearray([value]) * span.size
            target.write(span.start, memoryview(data))
            # The memory may be used again at once.
            data[:] = b"\xee" * span.size
    assert all(memory.bytes[at] == (0xAA if at in kept else model[at]) for at in range(SIZE))
    extents = target.extents()
    assert [extent.offset for extent in extents] == sorted(extent.offset for extent in extents)
    found = {extent.offset + at: byte for extent in extents for at, byte in enumerate(extent.data)}
    assert found == {at: model[at] for at in kept}


def test_the_rest_passes_through() -> None:
    memory = Memory()
    target = Withheld(memory, [ByteRange(0, 10), ByteRange(190, 200)])
    assert (target.name, target.capacity) == ("/dev/memory", SIZE)
    target.flush()
    target.scratch(10, memoryview(b"aside"))
    assert target.recall(10, 5) == b"aside"
    assert memory.calls == ["flush", "scratch"]


@pytest.mark.parametrize("at", [9, 186, 195, 0])
def test_nothing_is_put_aside_where_something_is_withheld(at: int) -> None:
    memory = Memory()
    target = Withheld(memory, [ByteRange(0, 10), ByteRange(190, 200)])
    with pytest.raises(ValueError, match="withheld in part"):
        target.scratch(at, memoryview(b"aside"))
    with pytest.raises(ValueError, match="withheld in part"):
        target.recall(at, 5)
    assert memory.bytes == b"\xaa" * SIZE
