"""DHCP options of one machine as lines for dnsmasq's configuration (dnsmasq(8)).

``dhcp-boot`` sets the message's own fields and the options 66 and 67 alike, whatever the client reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.dhcp import Client, DhcpOption, IpVersion, OptionName

_IPXE_TAG: Final = "ipxe"
# No comma, no quote, no backslash, no blank and no hash: each means something to dnsmasq.
_VALUE: Final = re.compile(r"[A-Za-z0-9._~:/?\[\]@+=%-]+")
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def render(node: str, macs: Sequence[MacAddress], options: Iterable[DhcpOption]) -> str:
    """Return the lines that give a machine its options; those of several machines can be joined.

    Args:
        node: the machine's name, for a tag.
        macs: its network cards.
        options: as :attr:`Prepared.dhcp` has them.

    Raises:
        InvalidParameterValue: the name or a value can't be written there.
    """
    options = tuple(options)
    problems = [f"dnsmasq can't be given {option.value!r}" for option in options if not _VALUE.fullmatch(option.value)]
    if not _TAG.fullmatch(node):
        problems.append(f"{node!r} can't be a tag of dnsmasq")
    if problems:
        raise InvalidParameterValue(problems=tuple(problems))
    return "".join(f"{line}\n" for line in _lines(f"boot-{node}", macs, options))


def _lines(tag: str, macs: Sequence[MacAddress], options: Sequence[DhcpOption]) -> Iterator[str]:
    for mac in macs:
        yield f"dhcp-mac=set:{tag},{mac}"
    if any(option.client is not Client.ANY for option in options):
        yield f"dhcp-match=set:{_IPXE_TAG},175"
        yield f"dhcp-userclass=set:{_IPXE_TAG},iPXE"
    for number in sorted({number for option in options for number in option.architectures}):
        yield f"dhcp-match=set:client-{number},option:client-arch,{number}"
    address = next((option.value for option in options if option.name is OptionName.NEXT_SERVER), "")
    for option in options:
        for condition in _conditions(tag, option):
            if line := _line(option, address):
                yield line.format(condition=condition)


def _conditions(tag: str, option: DhcpOption) -> Iterator[str]:
    tags = [f"tag:{tag}"]
    if option.client is not Client.ANY:
        tags.append(f"tag:{'!' * (option.client is Client.FIRMWARE)}{_IPXE_TAG}")
    # Tags of one line must all be there, so each architecture has a line of its own.
    for number in option.architectures or (None,):
        yield ",".join(tags if number is None else [*tags, f"tag:client-{number}"])


def _line(option: DhcpOption, address: str) -> str:
    """Return the line of an option with a place for its condition; nothing where another line says it too."""
    match option.name:
        case OptionName.BOOT_FILE if "://" in option.value or not address:
            return f"dhcp-boot={{condition}},{option.value}"
        case OptionName.BOOT_FILE:
            return f"dhcp-boot={{condition}},{option.value},,{address}"
        case OptionName.NEXT_SERVER:
            return ""
        case _ if option.version is IpVersion.V6:
            return f"dhcp-option={{condition}},option6:{option.name},{option.value}"
        case _:
            return f"dhcp-option-force={{condition}},{option.code},{option.value}"
