"""What a DHCP server has to tell a machine that boots from the network, as values.

Sources: RFC 2132 (options 60, 66, 67), RFC 5859 (150), RFC 4578 and RFC 5970 with IANA's list "Processor Architecture
Types" (93; DHCPv6 option 61), RFC 3004 (77), RFC 5970 (DHCPv6 option 59), UEFI 2.10 section 24.7 (HTTP boot), iPXE's
manual (175).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.roles import Architecture, Firmware

LONGEST_VALUE: Final = 255
"""Octets: the length of an option is one octet (RFC 2132, section 2)."""
HTTP_CLIENT: Final = "HTTPClient"
"""By which a firmware that boots from HTTP knows an answer that is meant for it."""


class IpVersion(StrEnum):
    """DHCP or DHCPv6: their options have different numbers."""

    V4 = "4"
    V6 = "6"


class OptionName(StrEnum):
    """The options by their names in IANA's lists; ``next-server`` is the field ``siaddr`` of the message itself."""

    BOOT_FILE = "bootfile-name"
    TFTP_SERVER_NAME = "tftp-server-name"
    TFTP_SERVER_ADDRESS = "tftp-server-address"
    NEXT_SERVER = "next-server"
    VENDOR_CLASS = "vendor-class"
    BOOT_FILE_URL = "bootfile-url"


CODES: Final[dict[OptionName, int]] = {
    OptionName.VENDOR_CLASS: 60,
    OptionName.TFTP_SERVER_NAME: 66,
    OptionName.BOOT_FILE: 67,
    OptionName.TFTP_SERVER_ADDRESS: 150,
    OptionName.BOOT_FILE_URL: 59,
}
"""Their numbers: of DHCPv6 for ``bootfile-url``, else of DHCP. ``next-server`` has none."""


class Client(StrEnum):
    """Which program asks: the machine's firmware, or the iPXE that it has loaded."""

    ANY = "any"
    FIRMWARE = "firmware"
    IPXE = "ipxe"


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpOption:
    """One option, and to whom it may be given.

    Attributes:
        name: which it is.
        value: its text; addresses in their usual form.
        version: of DHCP.
        client: iPXE shows itself by the user class ``iPXE`` (77) and its own option 175.
        architectures: the client architectures (option 93) that it is meant for; empty for all.

    Raises:
        InvalidParameterValue: the value is empty, not printable ASCII, or has more than 255 octets.
    """

    name: OptionName
    value: str
    version: IpVersion = IpVersion.V4
    client: Client = Client.ANY
    architectures: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        problem = _problem(self.value)
        if problem:
            raise InvalidParameterValue(problems=(f"the DHCP option {self.name} {problem}: {self.value!r}",))

    @property
    def code(self) -> int | None:
        """The option's number; None for a field of the message."""
        return CODES.get(self.name)


def _problem(value: str) -> str:
    if not value:
        return "is empty"
    if not (value.isascii() and value.isprintable()):
        return "is not printable ASCII"
    if len(value) > LONGEST_VALUE:
        return f"has {len(value)} octets of at most {LONGEST_VALUE}"
    return ""


# IANA, "Processor Architecture Types". Firmware for x86-64 says 7; some says 9, as RFC 4578 had it before its erratum.
PXE_ARCHITECTURES: Final[Mapping[tuple[Firmware, Architecture], tuple[int, ...]]] = {
    (Firmware.BIOS, Architecture.X86_64): (0,),
    (Firmware.UEFI, Architecture.X86_64): (7, 9),
    (Firmware.UEFI, Architecture.AARCH64): (11,),
}
HTTP_ARCHITECTURES: Final[Mapping[Architecture, tuple[int, ...]]] = {
    Architecture.X86_64: (16,),
    Architecture.AARCH64: (19,),
}


def pxe_options(
    server: str, boot_file: str, *, client: Client = Client.ANY, architectures: tuple[int, ...] = ()
) -> tuple[DhcpOption, ...]:
    """Return the options by which a firmware finds a file on a TFTP server.

    Args:
        server: its IP address or its name. By IPv4's only the address, an IPv6 firmware gets nothing.
        boot_file: the file's path there.
        client: who may be given them.
        architectures: of those clients.
    """
    version = _version(server)
    values: list[tuple[OptionName, str]] = []
    if version is not IpVersion.V6:
        values += [(OptionName.BOOT_FILE, boot_file), (OptionName.TFTP_SERVER_NAME, server)]
    if version is IpVersion.V4:
        values += [(OptionName.TFTP_SERVER_ADDRESS, server), (OptionName.NEXT_SERVER, server)]
    if version is not IpVersion.V4:
        values.append((OptionName.BOOT_FILE_URL, f"tftp://{f'[{server}]' if version else server}/{boot_file}"))
    return tuple(_option(name, value, client, architectures) for name, value in values)


def url_options(url: str, *, client: Client, architectures: tuple[int, ...] = ()) -> tuple[DhcpOption, ...]:
    """Return the options that name a URL to iPXE, or to a firmware that boots from HTTP."""
    names = (OptionName.BOOT_FILE, OptionName.BOOT_FILE_URL)
    options = tuple(_option(name, url, client, architectures) for name in names)
    if client is Client.IPXE:
        return options
    return (*options, _option(OptionName.VENDOR_CLASS, HTTP_CLIENT, client, architectures))


def _option(name: OptionName, value: str, client: Client, architectures: tuple[int, ...]) -> DhcpOption:
    version = IpVersion.V6 if name is OptionName.BOOT_FILE_URL else IpVersion.V4
    return DhcpOption(name=name, value=value, version=version, client=client, architectures=architectures)


def _version(server: str) -> IpVersion | None:
    """Return which address a text is; None for a name."""
    try:
        return IpVersion(str(ip_address(server).version))
    except ValueError:
        return None
