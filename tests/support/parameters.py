"""Kernel parameters that are hard to hand on, for each loader that has to: a boot with one line proves them all.

Those with a dot in their name the kernel takes for a module's that isn't there, and does nothing. The others it hands
to init, up to 32 of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax

# What ends a command, begins a comment or a block, expands, or is a keyword, in one language or another.
_VALUES: Final = (
    *(";halt", "a;b", "a&&b", "a||b", "a|b", "a&b", "<a>", "{}", "{a,b}", "a}b{c", "[a]", "[[", "(hd0)/x", "a=b=c"),
    *(
        "$2G",
        "4M$2G",
        "$",
        "$$",
        "$root",
        "$?",
        "$(reboot)",
        "`reboot`",
        "%20",
        "%s%n",
        "!x",
        "^x",
        "~",
        "@",
        ",",
        "=x",
    ),
    *("*", "/*", "?", "/boot/*", "#", "#a", "a#b", "--", "-x", "--help", "", "a:b,c@d/e+f_g", "quiet", "hd:LABEL=A-B"),
    *("one two", "a ;b", "x #y z", " begins with a space", "ends with one ", "$a {b} (c)"),
)
_WORDS: Final = (
    ";x",
    "&&x",
    "x||",
    "{x",
    "x}",
    "#x#",
    "$x",
    "if",
    "fi",
    "do",
    "in",
    "function",
    "a b",
    "-",
    "<",
    "x>y",
)
_BEYOND_ASCII: Final = ("é", "ü漢字", "🙂", "é è")


def _line(values: tuple[str, ...], words: tuple[str, ...]) -> KernelParameters:
    named = tuple(f"nasty.{number}={value}" for number, value in enumerate(values))
    # The same name twice, in this order, and a separator with something behind it.
    twice = ("nasty.twice=2", "nasty.twice=1", "---", "nasty.twice=2")
    return KernelParameters(words=(*named, *words, *twice))


NASTY: Final[Mapping[LoaderSyntax, KernelParameters]] = MappingProxyType(
    {
        LoaderSyntax.KERNEL: _line(
            (*_VALUES, *_BEYOND_ASCII, "${x}", "\\x20", "it's", "two  spaces", "à", "\\"),
            (*_WORDS, ";", "&&", "#", "}"),
        ),
        LoaderSyntax.GRUB: _line(
            (*_VALUES, *_BEYOND_ASCII, "${x}", "two  spaces", "à la carte"), (*_WORDS, ";", "&&", "#", "}")
        ),
        LoaderSyntax.SYSLINUX: _line(
            (*_VALUES, *_BEYOND_ASCII, "${x}", "\\x20", "it's", "two  spaces", "à", "\\"),
            (*_WORDS, ";", "&&", "#", "}"),
        ),
        LoaderSyntax.IPXE: _line(
            (*(value for value in _VALUES if value != "x #y z"), "\\x20", "it's", "x y#", "$ {x}"),
            (*_WORDS, ";", "&&", "||", "#", "#comment", "}"),
        ),
        LoaderSyntax.LOADER_ENTRY: _line(
            (*(value for value in _VALUES if "$" not in value), *_BEYOND_ASCII, "two  spaces"),
            (*(word for word in _WORDS if "$" not in word), ";", "&&", "#", "}"),
        ),
    }
)
"""One command line for each syntax, all of which the loader can hand on."""

REFUSED: Final[Mapping[LoaderSyntax, tuple[str, ...]]] = MappingProxyType(
    {
        LoaderSyntax.GRUB: ("a\\x20b", "it's", "à", "x=Ġ"),
        LoaderSyntax.SYSLINUX: ("rd.initrd=x", "xinitrd=y"),
        LoaderSyntax.IPXE: ("${net0/mac}", "a${", "two  spaces", "é", "a ; b", "a #b", "x # y", "a || b", "ends\\"),
        LoaderSyntax.LOADER_ENTRY: ("$x", "a\\x20b", "it's", "à"),
    }
)
"""Parameters that the loader would change or drop."""
