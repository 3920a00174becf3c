"""What tells one disk from another, and one state of it from the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libironic_disk.pure.disks.facts import DiskFacts, Fingerprint, Identity, Signature, Topology
from libironic_disk.units import GIB, MIB
from tests.support.planning import blank

EXT4 = Signature(kind="ext4", offset=MIB + 1080, partition=1, label="one", uuid="u1")


def fingerprint(identity: Identity | None = None) -> Fingerprint:
    return replace(blank(GIB), identity=identity or Identity(serial="S1")).fingerprint


def test_the_same_disk_has_no_differences() -> None:
    assert fingerprint().differences(fingerprint()) == ()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (replace(blank(2 * GIB)), "it had 1 GiB and has 2 GiB"),
        (
            blank(GIB, Topology(sector_size=4096, physical_sector_size=4096)),
            "its sectors had 512 bytes and have 4096",
        ),
        (replace(blank(GIB), table_digest="other"), "its partition table is another one"),
        (replace(blank(GIB), signatures=(EXT4,)), "other file systems or volumes are on it"),
        (replace(blank(GIB), identity=Identity(serial="S2")), "its serial was S1 and is S2"),
    ],
)
def test_what_changed_is_told(changed: DiskFacts, words: str) -> None:
    assert words in fingerprint().differences(changed.fingerprint)


@pytest.mark.parametrize(
    "other",
    [
        replace(EXT4, kind="ext3"),
        replace(EXT4, label="two"),
        replace(EXT4, uuid="u2"),
        replace(EXT4, offset=7),
        replace(EXT4, partition=2),
    ],
)
def test_every_property_of_a_signature_counts(other: Signature) -> None:
    before, after = (replace(blank(GIB), signatures=(each,)).fingerprint for each in (EXT4, other))
    assert before.differences(after) == ("other file systems or volumes are on it",)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        # udev may have learnt a serial number, or forgotten it; the kernel's sequence number tells then.
        (Identity(sequence="5"), Identity(sequence="5", serial="S"), True),
        (Identity(sequence="5", serial="S"), Identity(sequence="5"), True),
        (Identity(sequence="5"), Identity(sequence="6", serial="S"), False),
        # A serial number or a WWN outlives a reboot, the sequence number doesn't; a model proves nothing.
        (Identity(sequence="5", serial="S"), Identity(sequence="9", serial="S"), True),
        (Identity(sequence="5", wwn="W"), Identity(sequence="9", wwn="W"), True),
        (Identity(sequence="5", model="M"), Identity(sequence="9", model="M"), False),
        (Identity(sequence="5", model="M"), Identity(sequence="5", model="N"), False),
        (Identity(sequence="5", serial="S", wwn="W"), Identity(sequence="5", serial="S", wwn="X"), False),
        (Identity(), Identity(), True),
    ],
)
def test_a_disk_is_the_same_if_what_identifies_it_is(before: Identity, after: Identity, same: bool) -> None:
    assert (fingerprint(before).differences(fingerprint(after)) == ()) is same


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (EXT4, "ext4 labelled 'one' on partition 1"),
        (Signature(kind="LVM2_member", offset=0), "LVM2_member on the disk"),
        # A label comes from the disk: it must not reach a terminal as it is.
        (Signature(kind="xfs", offset=0, label="\x1b[2J"), r"xfs labelled '\x1b[2J' on the disk"),
    ],
)
def test_a_signature_says_what_it_is_and_where(signature: Signature, words: str) -> None:
    assert str(signature) == words


def test_signatures_are_found_by_their_partition() -> None:
    others = (replace(EXT4, partition=2), replace(EXT4, partition=0))
    facts = replace(blank(GIB), signatures=(EXT4, *others))
    assert facts.signatures_of(1) == (EXT4,)
    assert facts.signatures_of(0) == (others[1],)
    assert facts.signatures_of(3) == ()
