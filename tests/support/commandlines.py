"""How boot loaders and the kernel read a line, written down a second time: what the renderings are judged by.

Each function follows the loader's own source, not ours; tests/machines has the loaders themselves.
"""

from __future__ import annotations

import re
import shlex

from libironic_disk.pure.boot.loadersyntax import LoaderSyntax


def kernel_words(line: str) -> list[str]:
    """Split as next_arg() of lib/cmdline.c; for its isspace() the byte A0 is a space too."""
    words: list[bytes] = []
    word = b""
    inside = False
    for byte in line.encode():
        if byte in b" \t\n\r\v\f\xa0" and not inside:
            if word:
                words.append(word)
            word = b""
            continue
        inside ^= byte == ord('"')
        word += bytes([byte])
    if word:
        words.append(word)
    # Only quotes around the whole, or around the whole value, are taken off.
    return [re.sub(rb'^([^="]*=)?"(.*)"$', rb"\1\2", word, flags=re.DOTALL).decode() for word in words]


def handed_on(line: str, syntax: LoaderSyntax) -> str:
    """Return the command line that a kernel gets from what a loader's configuration has after the kernel's name."""
    match syntax:
        case LoaderSyntax.KERNEL:
            return line
        case LoaderSyntax.GRUB:
            return by_grub(line)
        case LoaderSyntax.SYSLINUX:
            return "" if line == "-" else line.partition("\n")[0].partition("\r")[0]
        case LoaderSyntax.IPXE:
            return by_ipxe(line)
        case LoaderSyntax.LOADER_ENTRY:
            # By systemd-boot; the other reader of them is GRUB.
            return line


def by_grub(line: str) -> str:
    """Read as a shell does, as far as both are alike, and write as grub_create_loader_cmdline() does."""
    words = []
    for word in shlex.split(line, comments=False, posix=True):
        escaped = re.sub(r"""([\\'"])""", r"\\\1", word)
        words.append(f'"{escaped}"' if " " in word else escaped)
    return " ".join(words)


def by_ipxe(line: str) -> str:
    """Split, end, expand and join as src/core/exec.c and src/core/settings.c do."""
    words: list[str] = []
    for word in re.split(r"[ \t\n\v\f\r]+", line.removesuffix("\\")):
        if word.startswith("#") or word in {"||", "&&", ";"}:
            break
        if word:
            words.append(re.sub(r"\$\{[^}]*\}", "", word))
    assert len(words) <= 254
    assert all(word.isascii() for word in words)
    return " ".join(words)
