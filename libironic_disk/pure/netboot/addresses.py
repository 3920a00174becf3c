"""MAC addresses and URLs: checked once, because both end up in file names and in boot loaders' scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from libironic_disk.errors import InvalidParameterValue

_MAC: Final = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|[0-9a-f]{10})")
# RFC 3986's characters, less those that mean something to iPXE, GRUB or dnsmasq ($ ' & ; ( ) ! * ,) or begin a
# fragment.
_URL: Final = re.compile(r"[A-Za-z0-9._~:/?\[\]@+=%-]+")
_SCHEMES: Final = frozenset({"http", "https", "tftp"})
_LONGEST_URL: Final = 1024
_MULTICAST: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class MacAddress:
    """The address of one network card, an Ethernet's six octets; ``str()`` gives ``aa:bb:cc:dd:ee:ff``.

    Raises:
        InvalidParameterValue: the text isn't one: six octets in hexadecimal digits, with colons, hyphens or nothing
            between them; or it is nobody's: all zeros, or a multicast address.
    """

    text: str

    def __post_init__(self) -> None:
        plain = self.text.lower()
        digits = plain.replace(":", "").replace("-", "")
        if not _MAC.fullmatch(plain) or not int(digits, 16) or int(digits[:2], 16) & _MULTICAST:
            raise InvalidParameterValue(problems=(f"{self.text!r} is no network card's MAC address",))
        object.__setattr__(self, "text", ":".join(digits[at : at + 2] for at in range(0, 12, 2)))

    @classmethod
    def all_of(cls, *texts: str) -> tuple[Self, ...]:
        """Return several at once, for a task that is written down in a script."""
        return tuple(cls(text) for text in texts)

    def __str__(self) -> str:
        """Return the address with colons, in small letters."""
        return self.text

    @property
    def hyphenated(self) -> str:
        """The address with hyphens: ``aa-bb-cc-dd-ee-ff``, as iPXE's ``:hexhyp``."""
        return self.text.replace(":", "-")

    @property
    def with_type(self) -> str:
        """The address after its hardware type (RFC 1700: 1 is Ethernet), as PXELINUX and GRUB ask for files by it."""
        return f"01-{self.hyphenated}"


def url_problem(url: str) -> str:
    """Say what keeps a text from being a URL that boot loaders can be given; nothing if it is one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if parts.scheme not in _SCHEMES:
        return f"a URL must begin with one of {', '.join(sorted(f'{scheme}://' for scheme in _SCHEMES))}"
    if not host:
        return "it names no server"
    if "@" in parts.netloc:
        # It would be readable for everybody on the network, and in every error.
        return "it has credentials"
    if len(url) > _LONGEST_URL:
        return f"it has more than {_LONGEST_URL} characters"
    if not _URL.fullmatch(url):
        return "it has a character that a boot loader would take for its own; write it as %XX"
    return ""
