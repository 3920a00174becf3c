"""What a config drive tells the machine, and the files that say it.

The layout is OpenStack's (nova, "Config drives"), as Ironic's clients write it: the same files under ``latest`` and
under the oldest version, ``2012-08-10``. Both are complete, because a reader takes the newest *dated* version that it
finds (cloud-init, ``sources/helpers/openstack.py``) and never sees the other: what is missing under the old date
doesn't exist for it.

Contents stay out of every ``repr`` and every error, names of keys included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from libironic_disk.errors import ConfigDriveInvalid

VERSIONS: Final = ("2012-08-10", "latest")
_FIELDS: Final = ("meta_data", "user_data", "network_data", "vendor_data")

UserData = str | bytes | Mapping[str, object] | Sequence[object]
"""Text and bytes are written as they are, anything else as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Metadata:
    """The contents of a config drive.

    Attributes:
        meta_data: the instance's own data; readers expect at least ``uuid``.
        user_data: the user's script or configuration, if any.
        network_data: the network's description, if any.
        vendor_data: the operator's data, if any; written as ``vendor_data2.json``, as Ironic's clients do.
    """

    meta_data: Mapping[str, object]
    user_data: UserData | None = None
    network_data: Mapping[str, object] | None = None
    vendor_data: Mapping[str, object] | None = None

    def __repr__(self) -> str:
        given = [name for name in _FIELDS if getattr(self, name) is not None]
        return f"<Metadata: {', '.join(given)}>"

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Take the four fields from a mapping, such as Ironic's ``configdrive`` of JSON.

        Raises:
            ConfigDriveInvalid: meta_data is missing, a field has the wrong type, or there are other keys.
        """
        if not set(values) <= set(_FIELDS):
            raise ConfigDriveInvalid(reason=f"its keys aren't only {', '.join(_FIELDS)}")
        if values.get("meta_data") is None:
            raise ConfigDriveInvalid(reason="it has no meta_data")
        return cls(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


def files(metadata: Metadata) -> dict[str, bytes]:
    """Return the files of the drive by path. The same metadata gives the same bytes.

    Raises:
        ConfigDriveInvalid: a field has the wrong type or can't be written as JSON.
    """
    documents = {"meta_data.json": _mapping("meta_data", metadata.meta_data)}
    if metadata.user_data is not None:
        documents["user_data"] = _user_data(metadata.user_data)
    if metadata.network_data is not None:
        documents["network_data.json"] = _mapping("network_data", metadata.network_data)
    if metadata.vendor_data is not None:
        documents["vendor_data2.json"] = _mapping("vendor_data", metadata.vendor_data)
    return {f"openstack/{version}/{name}": content for version in VERSIONS for name, content in documents.items()}


def _mapping(name: str, value: object) -> bytes:
    if not isinstance(value, Mapping):
        raise ConfigDriveInvalid(reason=f"{name} is not a mapping but {type(value).__name__}")
    return _json(name, value)


def _user_data(value: object) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            with suppress(UnicodeEncodeError):
                return value.encode()
            raise ConfigDriveInvalid(reason="user_data is text that isn't Unicode; give it as bytes")
        case Mapping() | list() | tuple():
            return _json("user_data", value)
        case _:
            raise ConfigDriveInvalid(reason=f"user_data is neither text nor bytes but {type(value).__name__}")


def _json(name: str, value: object) -> bytes:
    # The encoder's exceptions quote the value, so ours must not have them as its context.
    with suppress(TypeError, ValueError, RecursionError):
        return json.dumps(_plain(value), allow_nan=False, sort_keys=True).encode()
    raise ConfigDriveInvalid(
        reason=f"{name} can't be written as JSON: keys have to be text, numbers finite, and values plain"
    )


def _plain(value: object) -> object:
    """Turn mappings and sequences of any class into those the encoder knows; it would accept keys that aren't text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            raise TypeError
