r"""Kernel parameters as each boot loader's configuration has to write them.

What a loader can't hand to a kernel as it is, is refused: a loader drops, splits or expands it and says nothing.

- The kernel (lib/cmdline.c, next_arg; lib/ctype.c) splits at spaces outside of double quotes, and keeps
  :data:`MAX_COMMAND_LINE` bytes.
- GRUB 2.06 knows no special character in single quotes (grub-core/script/yylex.l). Its ``linux`` puts words with a
  space in double quotes, and a backslash before ``\``, ``'`` and ``"``; what is too long for the kernel it leaves out
  in silence (grub-core/lib/cmdline.c).
- SYSLINUX 6 (com32/elflink/ldlinux/readconfig.c, kernel.c) hands on the rest of a line as it is. A line has up to 4095
  bytes, ``-`` alone stands for nothing, and what follows the first ``initrd=`` anywhere is a file to load.
- iPXE (src/core/exec.c, src/image/script.c) has no quotes. It splits at white space and joins with one space, expands
  ``${}``, ends a command at the words ``||``, ``&&`` and ``;`` and at a word that begins with ``#``, joins lines at a
  backslash, and takes up to 255 words (include/ipxe/parseopt.h). Under UEFI it hands each byte to the kernel as one
  character.
- Loader entries are read by systemd-boot, which hands on the line as it is (src/boot/efi/boot.c), and by Fedora's GRUB,
  which reads it as its script language. Only what both take for the same can be written.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters, quoted_for_kernel

MAX_COMMAND_LINE: Final = 2047
"""Bytes of command line that the kernels of x86 and arm64 keep (COMMAND_LINE_SIZE, less the closing NUL)."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:,=@%+-]+")
_IPXE_WORDS: Final = 254
_IPXE_ENDS: Final = frozenset({"||", "&&", ";"})


class LoaderSyntax(StrEnum):
    """Who reads the line."""

    KERNEL = "kernel"
    GRUB = "grub"
    SYSLINUX = "syslinux"
    IPXE = "ipxe"
    LOADER_ENTRY = "loader-entry"


def rendered(parameters: KernelParameters, syntax: LoaderSyntax, *, limit: int = MAX_COMMAND_LINE) -> str:
    """Return parameters as they follow the kernel's name on a loader's line, without a blank before them.

    Args:
        parameters: of the kernel.
        syntax: of the loader.
        limit: bytes of command line that the kernel keeps for them.

    Raises:
        KernelParametersInvalid: the loader wouldn't hand exactly these on.
    """
    check(parameters, syntax, limit=limit)
    return " ".join(rendered_word(word, syntax) for word in parameters.words)


def check(parameters: KernelParameters, syntax: LoaderSyntax, *, limit: int = MAX_COMMAND_LINE) -> None:
    """Find what a loader can't hand to a kernel unchanged.

    Raises:
        KernelParametersInvalid: for the first such parameter, or a command line of more than ``limit`` bytes.
    """
    for word in parameters.words:
        if reason := _obstacle(word, syntax):
            raise KernelParametersInvalid(parameter=word, reason=reason)
    line = str(parameters)
    if (length := len(line.encode())) > limit:
        reason = f"together they have {length} bytes, and the kernel would keep {limit} of them"
        raise KernelParametersInvalid(parameter=line, reason=reason)
    if syntax is LoaderSyntax.SYSLINUX and line == "-":
        raise KernelParametersInvalid(parameter=line, reason="to SYSLINUX it stands for no parameters, if it is alone")
    if syntax is LoaderSyntax.IPXE and (count := len(line.split(" "))) > _IPXE_WORDS:
        reason = f"together they have {count} words, and iPXE takes {_IPXE_WORDS}"
        raise KernelParametersInvalid(parameter=line, reason=reason)


def rendered_word(word: str, syntax: LoaderSyntax) -> str:
    """Return one parameter as a loader's line has it.

    Raises:
        KernelParametersInvalid: the loader wouldn't hand exactly this on.
    """
    if reason := _obstacle(word, syntax):
        raise KernelParametersInvalid(parameter=word, reason=reason)
    match syntax:
        case LoaderSyntax.GRUB:
            return grub_quoted(word)
        case LoaderSyntax.IPXE if _ends_ipxe_command(word):
            # The kernel takes the quotes off again, and iPXE has no idea what they are.
            return f'"{word}"'
        case LoaderSyntax.LOADER_ENTRY if not _PLAIN.fullmatch(word):
            return f'"{word}"'
        case _:
            return quoted_for_kernel(word)


def grub_quoted(text: str) -> str:
    """Return ``text`` as one word of GRUB's script language."""
    return "'" + text.replace("'", "'\\''") + "'"


def _obstacle(word: str, syntax: LoaderSyntax) -> str:
    """Return why a loader can't hand a parameter on; nothing if it can."""
    match syntax:
        case LoaderSyntax.KERNEL:
            return ""
        case LoaderSyntax.GRUB:
            return _obstacle_to_grub(word)
        case LoaderSyntax.SYSLINUX:
            if "initrd=" in word[1:]:
                return "SYSLINUX would load the file that is named after initrd="
            return ""
        case LoaderSyntax.IPXE:
            return _obstacle_to_ipxe(word)
        case LoaderSyntax.LOADER_ENTRY:
            if "$" in word:
                return "some readers of loader entries expand a dollar sign"
            return _obstacle_to_grub(word)


def _obstacle_to_grub(word: str) -> str:
    if "\\" in word or "'" in word:
        return "GRUB can't pass on a backslash or a single quote"
    if " " not in word and quoted_for_kernel(word) != word:
        return "GRUB doesn't quote it, and the kernel would split it at the byte A0"
    return ""


def _obstacle_to_ipxe(word: str) -> str:
    if not word.isascii():
        return "iPXE can't pass on what isn't ASCII"
    if "${" in word:
        return "iPXE expands ${...}"
    if "  " in word:
        return "iPXE would make one space of two"
    if word.endswith("\\") and " " not in word:
        return "iPXE takes a backslash at the end for a line that goes on"
    # Only the first and the last piece of a parameter with a space have a quote that hides what they are.
    if any(_ends_ipxe_command(piece) for piece in word.split(" ")[1:-1]) or (
        " " in word and word.split(" ")[-1].startswith("#")
    ):
        return "iPXE takes it for the end of a command"
    return ""


def _ends_ipxe_command(piece: str) -> bool:
    return piece in _IPXE_ENDS or piece.startswith("#")
