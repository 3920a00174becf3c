"""Configurations of boot loaders: after a change, each kernel has the parameters that the change says, and no others.

Made twice it does no more than once. All that isn't a kernel's parameters is kept, and what GRUB's own parser took
before, it takes after.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from random import Random

from libironic_disk.errors import KernelParametersInvalid, LoaderConfigRefused
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.loaders.config import MOST_ENTRIES, ConfigKind
from libironic_disk.pure.loaders.reading import changed_config, read_config
from tests.fuzz.engine import Scramble
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, sampled
from tests.fuzz.targets.loaderentries import SEED as LOADER_ENTRY
from tests.unit.pure.boot.test_imagemenu import DEBIAN, SUSE

_KINDS = tuple(ConfigKind)
_ONE_IN = 100
_ISOLINUX = """\
serial 0 115200
default linux
append quiet vga=788
menu title Installer
include txt.cfg
label linux
\tmenu label ^Linux
\tkernel /live/vmlinuz
\tappend initrd=/live/initrd.img boot=live --- quiet
label memtest
\tkernel /memtest
label no
\tlinux /k
\tinitrd /i,/j
\tappend -
label disk
\tlocalboot 0x80
"""
_CHANGES = tuple(
    ParameterChange(append=KernelParameters.parse(append), replace=KernelParameters.parse(replace), delete=delete)
    for append, replace, delete in (
        ("", "", ()),
        ("ipa-api-url=http://[::1]:6385 quiet", "", ()),
        ("", "root=LABEL=x console=ttyS0,115200n8", ("quiet", "ro")),
        ('dyndbg="file a +p"', "boot=other", ("vga=788",)),
        ("a;b {x} $y #z", "", ("splash",)),
    )
)


class _Loaders(Plain):
    """The first byte of an input says which language it is in, the second which change is made."""

    refusals = (KernelParametersInvalid, LoaderConfigRefused)
    words = words_of(
        b"menuentry |submenu |set |linux |linuxefi |initrd | {\n|}\n|'|\"|\\|\\\n|$|${a}|${|#|;|&&|if |then|fi",
        b"function |source ",
        b"configfile |$prefix|($root)|blscfg|label |kernel |append |append -|initrd=|include |menu |localboot ",
        b".c32|--|---|\r\n",
        b"options |title |efi | |\t|\n|\0|\xff|\xc3\xa9|\xe2\x80\xa8|\xa0|quiet|root=|=|ipappend 2|ui |fdt |default ",
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        while True:
            for kind, text in ((0, DEBIAN), (0, SUSE), (1, _ISOLINUX), (2, LOADER_ENTRY)):
                yield bytes([kind, random.randrange(len(_CHANGES))]) + text.encode()

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        head, text = data[:2].ljust(2, b"\0"), data[2:]
        if random.random() < 0.2:
            return bytes([head[0], random.randrange(len(_CHANGES))]) + text
        return head + super().mutate(text, random, scramble)

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        return data[:2] + super().cross(data[2:], other[2:], random)

    def examine(self, data: bytes) -> str:
        head, text = data[:2].ljust(2, b"\0"), data[2:]
        kind, change = _KINDS[head[0] % len(_KINDS)], _CHANGES[head[1] % len(_CHANGES)]
        before = read_config(text, kind, prefix="/boot/grub")
        assert len(before.lines) <= MOST_ENTRIES
        for reference in before.references:
            assert not reference.resolvable or reference.path.startswith("/")
            assert not reference.resolvable or ".." not in reference.path.split("/")
        changed = changed_config(text, kind, change)
        after = read_config(changed, kind, prefix="/boot/grub")
        assert after.references == before.references
        assert [line.parameters for line in after.lines] == [change.applied(line.parameters) for line in before.lines]
        assert [(line.title, line.kernel) for line in after.lines] == [
            (line.title, line.kernel) for line in before.lines
        ]
        assert changed_config(changed, kind, change) == changed
        if not change:
            assert changed == text
        if kind is ConfigKind.GRUB and changed != text and sampled(data, _ONE_IN):
            assert _grub_takes(changed) or not _grub_takes(text)
        return f"{kind}, {min(len(before.lines), 3)} kernels"


def _grub_takes(text: bytes) -> bool:
    return not subprocess.run(["grub-script-check"], input=text, capture_output=True, check=False).returncode


TARGET = _Loaders()
