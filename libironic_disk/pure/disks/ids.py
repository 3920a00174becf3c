"""Identities: every GUID and file system UUID follows from a seed, so that a plan can name them beforehand.

An identity is the first 16 bytes of ``HMAC-SHA256(key=seed, message="libironic_disk/1/" + purpose)``, marked as a
version 4 UUID (RFC 9562, sections 4.1 and 4.2). Shorter ones take the first bytes of the same digest. The purposes
are ``disk``, ``partition/<name>`` and ``filesystem/<name>``, ``<name>`` being the partition's name in the layout. A
layout without a seed gets a random one for each plan.
"""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID


def derive(seed: bytes, purpose: str) -> bytes:
    """Return the 32 bytes that every identity for ``purpose`` is cut from."""
    return hmac.new(seed, f"libironic_disk/1/{purpose}".encode(), hashlib.sha256).digest()


def guid(seed: bytes, purpose: str) -> UUID:
    """Return the version 4 UUID for ``purpose``."""
    return UUID(bytes=derive(seed, purpose)[:16], version=4)


def mbr_signature(seed: bytes) -> int:
    """Return the disk signature for an MBR; never 0, which means "none"."""
    return int.from_bytes(derive(seed, "disk")[:4], "little") or 1


def fat_volume_id(uuid: UUID) -> str:
    """Return the 32-bit volume ID of a FAT file system, as ``blkid`` writes it (``1A2B-3C4D``)."""
    digits = uuid.hex[:8].upper()
    return f"{digits[:4]}-{digits[4:]}"
