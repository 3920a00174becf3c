"""What was published for one machine, so that exactly this can be taken back: also when only half of it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from libironic_disk.errors import DocumentInvalid, InvalidParameterValue
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.names import Purpose

_VERSION: Final = 1
_KIND: Final = "boot manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What serves one purpose: directories with the machine's own files, and loaders shared with other machines."""

    directories: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def __or__(self, other: Part) -> Part:
        """Return what is in either."""
        return Part(directories=_merged(self.directories, other.directories), shared=_merged(self.shared, other.shared))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything of one machine.

    Attributes:
        node: its name.
        macs: the addresses that nobody else may be given meanwhile.
        configs: configurations by MAC address: there is one of each, whatever the purpose.
        purpose: which the configurations serve; None if they are half those of one and half those of the other.
        parts: the rest, by purpose.
    """

    node: str
    macs: tuple[MacAddress, ...] = ()
    configs: tuple[str, ...] = ()
    purpose: Purpose | None = None
    parts: dict[Purpose, Part] = field(default_factory=dict)

    def with_part(self, purpose: Purpose, part: Part) -> Manifest:
        """Return the manifest with another part for a purpose."""
        return replace(self, parts={**self.parts, purpose: part})

    def without(self, purpose: Purpose) -> Manifest:
        """Return what stays when a purpose is done with."""
        parts = {each: part for each, part in self.parts.items() if each is not purpose}
        return replace(self, parts=parts, configs=() if self.purpose in {purpose, None} else self.configs)

    @property
    def shared(self) -> frozenset[str]:
        """The shared files that the machine needs for whatever purpose."""
        return frozenset(path for part in self.parts.values() for path in part.shared)


def to_json(manifest: Manifest) -> bytes:
    """Return the manifest as a file has it."""
    document = {
        "version": _VERSION,
        "node": manifest.node,
        "macs": [str(mac) for mac in manifest.macs],
        "configs": list(manifest.configs),
        "purpose": manifest.purpose,
        "parts": {
            purpose: {"directories": list(part.directories), "shared": list(part.shared)}
            for purpose, part in manifest.parts.items()
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def from_json(text: bytes) -> Manifest:
    """Read a manifest back.

    Raises:
        DocumentInvalid: it isn't one.
    """
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']!r}")
        return Manifest(
            node=_text(document["node"]),
            macs=tuple(MacAddress(mac) for mac in _texts(document["macs"])),
            configs=_texts(document["configs"]),
            purpose=None if document["purpose"] is None else Purpose(document["purpose"]),
            parts={
                Purpose(purpose): Part(directories=_texts(part["directories"]), shared=_texts(part["shared"]))
                for purpose, part in document["parts"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, InvalidParameterValue) as error:
        raise DocumentInvalid(kind=_KIND, problems=(repr(error),)) from error


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return tuple(_text(item) for item in value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _merged(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
