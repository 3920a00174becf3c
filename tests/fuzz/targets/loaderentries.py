"""Loader entries (Boot Loader Specification) and kernel command lines: what is read of them is one again."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot import imagemenu
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.osrelease import pretty_name
from libironic_disk.pure.boot.references import replace_uuid
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain
from tests.fuzz.targets.menus import ENVIRONMENT, UUID, check_own, rendered

SEED = f"""\
title Fedora Linux (6.5) 39
version 6.5.0
linux /vmlinuz-6.5.0
initrd /initramfs-6.5.0.img $tuned_initrd
options root=UUID={UUID} ro $kernelopts dyndbg="file a +p" -- init
grub_class fedora
"""
_RELEASE = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nPRETTY_NAME='a'b\n"
_OTHER = "c7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"


class _LoaderEntries(Plain):
    refusals = (KernelParametersInvalid,)
    words = words_of(
        b'title |version |linux |initrd |options |efi |devicetree |architecture |#|\n|\r\n| |\t|"|\\',
        b"$kernelopts|${odd}|$",
        b"PRETTY_NAME=|'|root=|--|\xff|\xe2\x80\xa8|\0",
        UUID.encode(),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        yield from (SEED.encode(), _RELEASE.encode(), b'quiet dyndbg="file foo +p" -- x')
        while True:
            lines = [*SEED.splitlines(keepends=True), *_RELEASE.splitlines(keepends=True)]
            yield "".join(random.sample(lines, random.randint(1, len(lines)))).encode()

    def examine(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        assert "\n" not in pretty_name(text)
        moved = replace_uuid(text, UUID, _OTHER)
        assert replace_uuid(moved, UUID, _OTHER) == moved
        assert len(moved) == len(text)
        entry = imagemenu.from_loader_entry(text, ENVIRONMENT)
        if entry is not None:
            assert entry.kernel
            assert "\n" not in entry.kernel
            check_own(entry.parameters)
            rendered((entry,))
        parameters = KernelParameters.parse(text.strip())
        assert KernelParameters.parse(str(parameters)) == parameters
        return "a command line"


TARGET = _LoaderEntries()
