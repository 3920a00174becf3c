"""Identities, computed here a second time from the formula in the documentation."""

from __future__ import annotations

import hashlib
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.disks import ids

PURPOSES = st.sampled_from(["disk", "partition/root", "filesystem/root", "partition/größe"]) | st.text(
    st.characters(exclude_categories=["Cs"])
)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, section 2, without the library's own implementation."""
    if len(key) > 64:
        key = hashlib.sha256(key).digest()
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


@given(st.binary(max_size=200), PURPOSES)
def test_an_identity_follows_from_the_documented_formula(seed: bytes, purpose: str) -> None:
    digest = hmac_sha256(seed, b"libironic_disk/1/" + purpose.encode())
    assert ids.derive(seed, purpose) == digest
    marked = bytearray(digest[:16])
    marked[6] = marked[6] & 0x0F | 0x40
    marked[8] = marked[8] & 0x3F | 0x80
    assert ids.guid(seed, purpose).bytes == bytes(marked)
    assert (ids.guid(seed, purpose).version, ids.guid(seed, purpose).variant) == (4, RFC_4122)
    disk = hmac_sha256(seed, b"libironic_disk/1/disk")
    assert ids.mbr_signature(seed) in {int.from_bytes(disk[:4], "little"), 1}


def test_identities_stay_the_same_from_one_release_to_the_next() -> None:
    # A deployed machine's fstab and boot entries name them. The digests are those of `openssl dgst -sha256 -hmac`.
    assert str(ids.guid(b"node 1", "disk")) == "068f4b3e-0852-4318-a88d-871ea2fa4a33"
    assert str(ids.guid(b"node 1", "partition/root")) == "4ca34171-2b1a-49c7-a360-b4460446d025"
    assert ids.mbr_signature(b"node 1") == 0x3E4B8F06
    assert ids.fat_volume_id(ids.guid(b"node 1", "filesystem/esp")) == "CE9D-5D4B"


def test_the_signature_of_an_mbr_is_never_the_one_that_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # No seed is known whose digest begins so: it would take 2^32 attempts to find one.
    monkeypatch.setattr(ids, "derive", lambda seed, purpose: bytes(4) + b"\xff" * 28)
    assert ids.mbr_signature(b"") == 1


@given(st.uuids())
def test_a_fat_volume_id_is_written_as_blkid_writes_it(uuid: UUID) -> None:
    words = ids.fat_volume_id(uuid)
    assert len(words) == 9
    assert words == words.upper()
    assert words[4] == "-"
    assert bytes.fromhex(words.replace("-", "")) == uuid.bytes[:4]
