from __future__ import annotations

import re
import subprocess

import pytest

from libironic_disk.errors import KernelParametersInvalid
from libironic_disk.pure.boot.grubcfg import (
    FIRST_LINE,
    Menu,
    MenuEntry,
    SerialConsole,
    early_config,
    render,
    title,
)
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import MAX_COMMAND_LINE

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"


def entry(
    *, id: str = "linux-6.1", title: str = "Debian 12", root_uuid: str = UUID, initrd: str = "/boot/initrd.img-6.1"
) -> MenuEntry:
    words = ("root=UUID=" + UUID, "ro", "dyndbg=file foo +p")
    parameters = KernelParameters(words=words)
    kernel = "/boot/vmlinuz-6.1"
    return MenuEntry(id=id, title=title, root_uuid=root_uuid, kernel=kernel, initrd=initrd, parameters=parameters)


def test_a_whole_menu() -> None:
    menu = Menu(entries=(entry(), entry(id="b", title="it's $b", initrd="")), default="b", serial=SerialConsole(unit=1))
    text = render(menu)
    assert text == (
        f"{FIRST_LINE}\n"
        "serial --unit=1 --speed=115200\n"
        "terminal_input console serial\n"
        "terminal_output console serial\n"
        "set default='b'\n"
        "set timeout=5\n"
        "\n"
        "menuentry 'Debian 12' --id 'linux-6.1' {\n"
        f"  search --no-floppy --fs-uuid --set=root {UUID}\n"
        f"  linux '/boot/vmlinuz-6.1' 'root=UUID={UUID}' 'ro' 'dyndbg=file foo +p'\n"
        "  initrd '/boot/initrd.img-6.1'\n"
        "}\n"
        "\n"
        "menuentry 'it'\\''s $b' --id 'b' {\n"
        f"  search --no-floppy --fs-uuid --set=root {UUID}\n"
        f"  linux '/boot/vmlinuz-6.1' 'root=UUID={UUID}' 'ro' 'dyndbg=file foo +p'\n"
        "}\n"
    )
    subprocess.run(["grub-script-check"], input=text, text=True, check=True)


def test_early_config_is_a_script() -> None:
    text = early_config(UUID)
    assert re.search(rf"^search .* {UUID}$", text, re.MULTILINE)
    assert text.endswith("set prefix=($root)/boot/grub\n")
    subprocess.run(["grub-script-check"], input=text, text=True, check=True)


@pytest.mark.parametrize("word", ["a\\b", "a'b"])
def test_refuses_what_grub_would_change(word: str) -> None:
    with pytest.raises(KernelParametersInvalid, match="GRUB"):
        MenuEntry(id="a", title="", root_uuid=UUID, kernel="/k", initrd="", parameters=KernelParameters(words=(word,)))


def test_refuses_a_command_line_that_the_kernel_would_cut() -> None:
    def of_length(length: int) -> MenuEntry:
        parameters = KernelParameters(words=("x" * length,))
        return MenuEntry(id="a", title="", root_uuid=UUID, kernel="/k", initrd="", parameters=parameters)

    assert of_length(MAX_COMMAND_LINE)
    with pytest.raises(KernelParametersInvalid, match="2048 bytes"):
        of_length(MAX_COMMAND_LINE + 1)


@pytest.mark.parametrize("id", ["", "a b", "a>b", "-a", "a'b", "x" * 201])
def test_refuses_ids_that_grub_reads_otherwise(id: str) -> None:
    with pytest.raises(ValueError, match="menu entry id"):
        entry(id=id)


@pytest.mark.parametrize("uuid", ["", "a b", "x;halt", "a\nb"])
def test_refuses_uuids_that_are_none(uuid: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        entry(root_uuid=uuid)
    with pytest.raises(ValueError, match="UUID"):
        early_config(uuid)


@pytest.mark.parametrize(("ids", "default"), [(("a", "b"), "c"), (("a", "a"), "a"), ((), "a")])
def test_refuses_a_menu_that_would_boot_another_entry(ids: tuple[str, ...], default: str) -> None:
    with pytest.raises(ValueError, match="menu ids"):
        Menu(entries=tuple(entry(id=id) for id in ids), default=default)


def test_titles_are_one_short_line() -> None:
    assert title("  Debian\n\x1b[31m12\0 ") == "Debian  [31m12"
    assert len(title("x" * 1000)) == 120
    assert title(f"Debian{' ' * 200}12") == "Debian"


def test_early_config_looks_on_a_volume_first() -> None:
    first, _ = early_config(UUID, volume="lvm/vg0-root").splitlines()
    assert first == f"search --no-floppy --fs-uuid --set=root --hint=lvm/vg0-root {UUID}"
    for wrong in ("vg0-root", "lvm/a b", "lvm/a\nhalt", "mduuid/"):
        with pytest.raises(ValueError, match="no name of a volume"):
            early_config(UUID, volume=wrong)
