"""Menus of images, ``grub.cfg`` and ``/etc/default/grub``: what is read of one, our own menu says again.

An entry's title, kernel and parameters, as far as they are still right on another disk, go into a menu of ours; read
back, they are the same, and GRUB's own parser takes that menu.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from random import Random

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot import grubcfg, imagemenu
from libironic_disk.pure.boot.grubcfg import Menu, MenuEntry
from libironic_disk.pure.boot.imagemenu import ImageEntry, own_parameters
from libironic_disk.pure.boot.kernelparams import KernelParameters
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, sampled
from tests.unit.pure.boot.test_imagemenu import DEBIAN, SUSE

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"
ENVIRONMENT = {"kernelopts": "root=UUID=1 ro quiet", "tuned_initrd": "", "a": "$a", "odd": "x y"}
DEFAULTS = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nexport GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX a=b"\n'
_ONE_IN = 200


def check_own(words: tuple[str, ...]) -> KernelParameters | None:
    """Assert that what is taken over can be a kernel's; None where it is too long for one."""
    parameters = KernelParameters(words=own_parameters(words))
    try:
        MenuEntry(id="a", title="", root_uuid=UUID, kernel="/k", initrd="", parameters=parameters)
    except KernelParametersInvalid as error:
        assert "together" in str(error), str(error)
        return None
    return parameters


def rendered(entries: tuple[ImageEntry, ...]) -> tuple[str, list[ImageEntry]]:
    """Return a menu of ours with these, and what has to be read of it."""
    ours, expected = [], []
    for number, entry in enumerate(entries):
        parameters = check_own(entry.parameters)
        if parameters is None:
            continue
        title, initrd = grubcfg.title(entry.title), entry.initrds[0] if entry.initrds else ""
        words = parameters.words
        expected.append(
            ImageEntry(title=title, kernel=entry.kernel, initrds=(initrd,) if initrd else (), parameters=words)
        )
        ours.append(
            MenuEntry(
                id=f"e{number}",
                title=title,
                root_uuid=UUID,
                kernel=entry.kernel,
                initrd=initrd,
                parameters=parameters,
            )
        )
    return (grubcfg.render(Menu(entries=tuple(ours), default=ours[0].id)) if ours else ""), expected


class _Menus(Plain):
    words = words_of(
        b"menuentry|submenu|set |linux|linux16|linuxefi|initrd|initrdefi| {\n|}\n|'|\"|\\|\\\n|$|${a}",
        b"$kernelopts|$odd|#|;",
        b"&&|if [ |fi|root=UUID=1|--class|=|set a=$a$a\n|GRUB_CMDLINE_LINUX|GRUB_CMDLINE_LINUX_DEFAULT+=",
        b"export |\xff",
        b"\xe2\x80\xa8|\r\n|\0",
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        for text in (DEBIAN, SUSE, DEFAULTS, DEBIAN + SUSE):
            yield text.encode()
        while True:
            lines = (DEBIAN + SUSE).splitlines(keepends=True)
            start = random.randrange(len(lines))
            yield "".join(lines[start : start + random.randint(1, 30)]).encode()

    def examine(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        check_own(imagemenu.kernel_parameters_of(text))
        entries = imagemenu.from_grub_cfg(text, ENVIRONMENT)
        assert all(entry.kernel for entry in entries)
        assert len(entries) <= text.count("menuentry") + text.count("menu") + 1
        menu, expected = rendered(entries)
        assert list(imagemenu.from_grub_cfg(menu)) == expected
        if menu and sampled(data, _ONE_IN):
            subprocess.run(["grub-script-check"], input=menu.encode(), check=True, capture_output=True)
        return f"{min(len(entries), 3)} entries"


TARGET = _Menus()
