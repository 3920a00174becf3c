"""Images from servers that do wrong whatever they can: the right bytes on the disk, or an error that says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.errors import ServerRefused, SourceChanged, SourceFailed
from libironic_disk.images import HttpPolicy, Proof
from libironic_disk.machine.images import http_mirrors
from libironic_disk.units import KIB, MIB
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.disks import LoopDisk
from tests.support.qcow2_images import raw_image
from tests.support.qcow2_layouts import SIZE, Shelf
from tests.support.used_disks import UsedDisk, fill, put, used_disks
from tests.support.webserver import WebServer

pytestmark = pytest.mark.loopdevice

CAPACITY = 18 * MIB
POLICY = HttpPolicy(attempts=5, connect_timeout=5, read_timeout=0.25, total_timeout=60)
DROPPED = 2 * MIB

FINAL: dict[str, dict[Kind, type[SourceFailed]]] = {
    "when it is looked at": {
        Kind.NOT_FOUND: ServerRefused,
        Kind.CHANGED: SourceChanged,
        Kind.ENCODED: SourceFailed,
        Kind.WRONG_TOTAL: SourceChanged,
    },
    "when it is read": {
        Kind.NOT_FOUND: ServerRefused,
        Kind.REFUSED: ServerRefused,
        Kind.REFUSED_AND_SHORTER: ServerRefused,
        Kind.CHANGED: SourceChanged,
        Kind.LONGER: SourceChanged,
        Kind.SHORTER: SourceChanged,
        Kind.ENCODED: SourceFailed,
    },
    "when it is resumed": {
        Kind.NOT_FOUND: ServerRefused,
        Kind.REFUSED_AND_SHORTER: SourceChanged,
        Kind.WRONG_TOTAL: SourceChanged,
        Kind.CHANGED: SourceChanged,
        Kind.ENCODED: SourceFailed,
    },
}
"""What ends in which error. Everything else passes, or is made up for."""

BEFORE = {
    "when it is looked at": [],
    "when it is read": [Fault(kind=Kind.NONE)],
    "when it is resumed": [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=DROPPED)],
}


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[int, LoopDisk]]:
    with used_disks(CAPACITY + MIB) as disks:
        yield disks


@pytest.fixture
def used(disks: dict[int, LoopDisk]) -> Iterator[UsedDisk]:
    """A disk; nothing behind the capacity may change."""
    used = fill(disks[512], CAPACITY + MIB)
    yield used
    assert used.is_untouched(CAPACITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An image, and what must be on the disk."""

    body: bytes
    disk: bytes

    @property
    def checksum(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A raw image, and one of qcow2 that has tables behind what they map."""
    folder = tmp_path_factory.mktemp("images")
    raw = raw_image(folder / "raw", size=SIZE).read_bytes()
    shelf = Shelf(folder)
    late = "used after a snapshot, small clusters"
    return {
        "raw": Case(body=raw, disk=raw),
        "qcow2": Case(body=shelf.image(late).read_bytes(), disk=shelf.disk(late)),
    }


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("when", BEFORE)
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_fault_is_made_up_for_or_has_a_name(
    used: UsedDisk, cases: dict[str, Case], server: WebServer, form: str, when: str, kind: Kind
) -> None:
    case = cases[form]
    served = ImageServer(server=server, body=case.body, faults=[*BEFORE[when], Fault(kind=kind, after=MIB)])
    expected = FINAL[when].get(kind)
    if expected is None:
        image = images.inspect(served.url, checksum=case.checksum, policy=POLICY)
        written = images.write_image(image, used.node, capacity=CAPACITY)
        assert (written.proof, written.bytes_read) == (Proof.CHECKSUM, len(case.body))
        assert used.contents(0, SIZE) == case.disk
        return
    with pytest.raises(expected) as failed:
        image = images.inspect(served.url, checksum=case.checksum, policy=POLICY)
        images.write_image(image, used.node, capacity=CAPACITY)
    assert type(failed.value) is expected
    assert failed.value.source == served.url
    assert failed.value.offset == (DROPPED if when == "when it is resumed" else 0)
    assert when == "when it is resumed" or used.is_untouched()


NOT_CONTINUED = (Kind.WHOLE, Kind.REFUSED, Kind.WRONG_START, Kind.NO_RANGE, Kind.NO_TAG, Kind.LONGER, Kind.SHORTER)


@pytest.mark.parametrize("kind", NOT_CONTINUED)
def test_without_a_checksum_nobody_could_say_that_what_is_read_again_is_the_same(
    used: UsedDisk, cases: dict[str, Case], server: WebServer, kind: Kind
) -> None:
    faults = [*BEFORE["when it is resumed"], Fault(kind=kind)]
    served = ImageServer(server=server, body=cases["qcow2"].body, faults=faults)
    with pytest.raises(SourceFailed, match="doesn't give the rest of it any more") as failed:
        images.write_image(images.inspect(served.url, policy=POLICY), used.node, capacity=CAPACITY)
    assert failed.value.offset == DROPPED


AHEAD: dict[Kind, type[SourceFailed]] = {
    Kind.NOT_FOUND: ServerRefused,
    Kind.WHOLE: SourceFailed,
    Kind.REFUSED: SourceChanged,
    Kind.REFUSED_AND_SHORTER: SourceChanged,
    Kind.WRONG_START: SourceFailed,
    Kind.WRONG_TOTAL: SourceChanged,
    Kind.NO_RANGE: SourceFailed,
    Kind.LONGER: SourceFailed,
    Kind.SHORTER: SourceFailed,
    Kind.CHANGED: SourceChanged,
}
"""What ends in which error when tables are read ahead."""


@pytest.mark.parametrize("kind", Kind)
def test_a_fault_while_tables_are_read_ahead_is_made_up_for_or_has_a_name(
    used: UsedDisk, cases: dict[str, Case], server: WebServer, kind: Kind
) -> None:
    case = cases["qcow2"]
    served = ImageServer(
        server=server, body=case.body, faults=[*[Fault(kind=Kind.NONE)] * 3, Fault(kind=kind, after=5)]
    )
    image = images.inspect(served.url, checksum=case.checksum, policy=POLICY)
    expected = AHEAD.get(kind)
    if expected is None:
        put(image, used.node, capacity=CAPACITY, budget=0)
        assert used.contents(0, SIZE) == case.disk
    else:
        with pytest.raises(expected) as failed:
            put(image, used.node, capacity=CAPACITY, budget=0)
        assert type(failed.value) is expected
    assert len(served.ranges) > 3


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_another_place_takes_over_where_the_first_one_left_off(
    used: UsedDisk, cases: dict[str, Case], server: WebServer, form: str
) -> None:
    case = cases[form]
    faults = [*BEFORE["when it is resumed"], Fault(kind=Kind.NOT_FOUND)]
    first = ImageServer(server=server, body=case.body, faults=faults)
    second = ImageServer(server=server, body=case.body, path="/copy.img", etag='"theirs"')
    images.write_image(images.inspect([first.url, second.url], policy=POLICY), used.node, capacity=CAPACITY)
    assert used.contents(0, SIZE) == case.disk
    assert (len(first.ranges), len(second.ranges)) == (3, 1)


@pytest.mark.parametrize("parts", [True, False])
def test_a_connection_that_breaks_at_any_byte_costs_nothing_but_time(
    used: UsedDisk, cases: dict[str, Case], server: WebServer, parts: bool
) -> None:
    case = cases["qcow2"]
    random = Random(parts)
    faults = [Fault(kind=random.choice([Kind.DROP, Kind.RESET]), after=random.randrange(1, 3 * MIB)) for _ in range(6)]
    served = ImageServer(server=server, body=case.body, faults=[Fault(kind=Kind.NONE), *faults], parts=parts)
    image = images.inspect(served.url, policy=replace(POLICY, attempts=10))
    put(image, used.node, capacity=CAPACITY, budget=100 * KIB)
    assert used.contents(0, SIZE) == case.disk
