"""The layouts that boot ISOs come in, each made by the tools that make the real ones.

Every image has the same system: a kernel, an initial RAM disk, and a configuration for each boot loader that there
might be, spread over files that include each other as distributions have it. Without a real system it is a placeholder
of a few bytes, and an image takes a tenth of a second; with one (:func:`booting_system`) it boots, says on the serial
port what the kernel's command line was, and turns the machine off.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lab import cache_directory
from lab.initramfs import with_busybox
from lab.testmachine import debian_packages, kernel_version
from libironic_disk.machine.drives import fat_image

KERNEL = "/boot/vmlinuz"
INITRD = "/boot/initrd.img"
ISOLINUX_CONFIG = "/isolinux/isolinux.cfg"
ISOLINUX_ENTRIES = "/isolinux/txt.cfg"
"""What the former includes; the kernel's line is here."""
GRUB_CONFIG = "/boot/grub/grub.cfg"
GRUB_ENTRIES = "/boot/grub/linux.cfg"
"""What the former sources; the kernel's line is here."""
LOADER_ENTRY = "/loader/entries/linux.conf"
ESP_IMAGE = "/boot/grub/efi.img"
"""The EFI system partition, where it is in the tree."""
ESP_CONFIG = "EFI/BOOT/grub.cfg"
"""GRUB's configuration inside the EFI system partition."""
VOLUME_ID = "TEST_ISO"
PARAMETERS = "console=ttyS0 lab.layout=original --- quiet"
"""What the kernel gets, with the separator that Debian's and Ubuntu's installers have."""
BOOTED = "BOOTED FROM ISO"
"""What the booting system says, and behind it the kernel's command line in angle brackets."""
PUT = "put"
"""A directory of the RAM disk; before it is done the system says ``HAS /put/name <contents>`` of each file there."""

_ISOLINUX = Path("/usr/lib/ISOLINUX")
_SYSLINUX_MODULES = Path("/usr/lib/syslinux/modules/bios")
_GRUB = Path("/usr/lib/grub")
_LIKE_A_BIOS_WANTS_IT = "-no-emul-boot -boot-load-size 4 -boot-info-table"
_GRUB_MODULES = (
    *("part_gpt", "part_msdos", "iso9660", "fat", "search", "search_fs_file", "normal", "configfile", "linux", "boot"),
    *("serial", "terminal", "echo", "test", "ls", "cat"),
)
_MARK = "/layout.txt"
_ESP_MARK = "/EFI/BOOT/here.txt"


class IsoLayout(StrEnum):
    """Where an image has its boot loaders, and what it looks like to firmware that takes it for a disk."""

    BIOS_ONLY = "bios-only"
    """ISOLINUX by El Torito and nothing else, by genisoimage: as Ironic's for a BIOS. No disk."""
    EFI_ONLY = "efi-only"
    """An EFI system partition in the tree, by genisoimage: as Ironic's for UEFI. No disk."""
    ISOLINUX = "isolinux"
    """ISOLINUX and an ESP in the tree, genisoimage and then `isohybrid --uefi`: an MBR and a GPT."""
    ISOLINUX_XORRISO = "isolinux-xorriso"
    """The same by xorriso's -isohybrid-mbr and -isohybrid-gpt-basdat: as Debian's installers and Arch have it."""
    GRUB = "grub"
    """GRUB for both, an ESP appended as a GPT partition, the tree in another from sector 64: Ubuntu's, Fedora's."""
    GRUB_ESP_MENU = "grub-esp-menu"
    """The same, but GRUB for UEFI takes the menu from the ESP and not from the tree."""
    GRUB_MKRESCUE = "grub-mkrescue"
    """By grub-mkrescue: an ESP in the tree, MBR, GPT and Apple's partition map."""
    ARM64 = "arm64"
    """An ESP in the tree and again as an appended MBR partition: Debian's for arm64. Nothing boots it here."""


class Names(StrEnum):
    """Which names the files have beside ISO 9660's own."""

    ROCK_RIDGE = "rock-ridge"
    BOTH = "rock-ridge-and-joliet"
    JOLIET = "joliet"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What an image boots."""

    kernel: bytes = b"a kernel\n" * 700
    initrd: bytes = b"a RAM disk\n" * 900


PLACEHOLDER = System()
"""For tests that boot nothing."""

_INIT = """\
for file in /{put}/*; do [ -f "$file" ] && echo "HAS $file <$(cat "$file")>" >/dev/ttyS0; done
echo "{booted} <$(cat /proc/cmdline)>" >/dev/ttyS0
sync
poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """What all layouts are made of: the system, further files by absolute path, and the parameters."""

    system: System
    files: Mapping[str, bytes] = field(default_factory=dict)
    parameters: str = PARAMETERS
    names: Names = Names.BOTH
    volume_id: str = VOLUME_ID
    more: tuple[str, ...] = ()


def booting_system() -> System:
    """Return Debian's own signed kernel and a RAM disk that says :data:`BOOTED` and turns the machine off."""
    packages = debian_packages(cache_directory())
    version = kernel_version(packages)
    return System(
        kernel=(packages / "boot" / f"vmlinuz-{version}").read_bytes(),
        initrd=with_busybox(packages, version, _INIT.format(booted=BOOTED, put=PUT), modules=("isofs",)),
    )


def make(
    layout: IsoLayout,
    destination: Path,
    *,
    system: System = PLACEHOLDER,
    files: Mapping[str, bytes] | None = None,
    parameters: str = PARAMETERS,
    names: Names = Names.BOTH,
    volume_id: str = VOLUME_ID,
    more: Sequence[str] = (),
) -> Path:
    """Make an image of a layout and return where it is.

    Args:
        layout: which.
        destination: the file.
        system: what it boots.
        files: further files by absolute path; one that is there already is replaced.
        parameters: the kernel's, as they are written into every configuration.
        names: which names the files have.
        volume_id: the volume's name.
        more: further arguments for the program that makes it.
    """
    recipe = _Recipe(
        system=system, files=files or {}, parameters=parameters, names=names, volume_id=volume_id, more=tuple(more)
    )
    with tempfile.TemporaryDirectory(prefix="isolayout-") as folder:
        tree = Path(folder, "tree")
        esp = Path(folder, "esp.img")
        for path, content in _tree(layout, recipe).items():
            _put(tree, path, content)
        if layout is not IsoLayout.BIOS_ONLY:
            esp.write_bytes(_esp(layout, recipe))
        if _has_esp_in_tree(layout):
            _put(tree, ESP_IMAGE, esp.read_bytes())
        _run(*_command(layout, recipe, tree=tree, esp=esp, destination=destination))
        if layout is IsoLayout.ISOLINUX:
            _run("isohybrid", "--uefi", str(destination))
    return destination


def isolinux_texts(parameters: str) -> dict[str, str]:
    """Return ISOLINUX's configuration by path."""
    return {
        ISOLINUX_CONFIG: "# The menu is in another file.\nserial 0 115200\nprompt 0\ntimeout 1\ninclude txt.cfg\n",
        ISOLINUX_ENTRIES: (
            "default linux\n"
            "label linux\n"
            "\tmenu label ^Linux\n"
            f"\tkernel {KERNEL}\n"
            f"\tappend initrd={INITRD} {parameters}\n"
            "label disk\n"
            "\tlocalboot 0x80\n"
        ),
    }


def grub_texts(parameters: str) -> dict[str, str]:
    """Return GRUB's configuration by path."""
    return {
        GRUB_CONFIG: (
            "# The menu is in another file.\n"
            "serial --unit=0 --speed=115200\n"
            "terminal_input console serial\n"
            "terminal_output console serial\n"
            "set timeout=0\n"
            "source $prefix/linux.cfg\n"
        ),
        GRUB_ENTRIES: (
            "menuentry 'Linux' --id linux {\n"
            f"\tlinux\t{KERNEL} {parameters}\n"
            f"\tinitrd\t{INITRD}\n"
            "}\n"
            "menuentry 'Firmware' {\n"
            "\tfwsetup\n"
            "}\n"
        ),
    }


def _tree(layout: IsoLayout, recipe: _Recipe) -> dict[str, bytes]:
    texts = grub_texts(recipe.parameters)
    texts[LOADER_ENTRY] = f"title Linux\nlinux {KERNEL}\ninitrd {INITRD}\noptions {recipe.parameters}\n"
    texts[_MARK] = "A test image\n"
    found = {KERNEL: recipe.system.kernel, INITRD: recipe.system.initrd}
    if _is_isolinux(layout):
        texts |= isolinux_texts(recipe.parameters)
        found["/isolinux/isolinux.bin"] = (_ISOLINUX / "isolinux.bin").read_bytes()
        found["/isolinux/ldlinux.c32"] = (_SYSLINUX_MODULES / "ldlinux.c32").read_bytes()
    if layout in {IsoLayout.GRUB, IsoLayout.GRUB_ESP_MENU}:
        found["/boot/grub/eltorito.img"] = _grub_image("i386-pc-eltorito", f"search.file {_MARK} root\n")
    return found | {path: text.encode() for path, text in texts.items()} | dict(recipe.files)


def _esp(layout: IsoLayout, recipe: _Recipe) -> bytes:
    if layout is IsoLayout.ARM64:
        return fat_image.make({"EFI/BOOT/BOOTAA64.EFI": b"MZ" + bytes(510)}, sector_size=512, label="ESP")
    files = {"EFI/BOOT/BOOTX64.EFI": _grub_image("x86_64-efi", f"search.file {_MARK} root\n")}
    if layout is IsoLayout.GRUB_ESP_MENU:
        early = f"search.file {_ESP_MARK} root\nset prefix=($root)/EFI/BOOT\n"
        files["EFI/BOOT/BOOTX64.EFI"] = _grub_image("x86_64-efi", early)
        entries = grub_texts(recipe.parameters)[GRUB_ENTRIES]
        menu = grub_texts(recipe.parameters)[GRUB_CONFIG].replace("source $prefix/linux.cfg\n", "")
        files[ESP_CONFIG] = f"{menu}search --file --set=root {_MARK}\n{entries}".encode()
        files[_ESP_MARK.lstrip("/")] = b"here\n"
    return fat_image.make(files, sector_size=512, label="ESP")


def _grub_image(form: str, early: str) -> bytes:
    efi = form.endswith("-efi")
    with tempfile.TemporaryDirectory(prefix="isolayout-") as folder:
        config, image = Path(folder, "early.cfg"), Path(folder, "image")
        config.write_text(early if "prefix" in early else f"{early}set prefix=($root)/boot/grub\n")
        _run(
            *("grub-mkimage", f"--format={form}", f"--output={image}", f"--config={config}", "--prefix=/boot/grub"),
            f"--directory={_GRUB / form.removesuffix('-eltorito')}",
            *(*_GRUB_MODULES, "all_video" if efi else "biosdisk"),
        )
        return image.read_bytes()


def _command(layout: IsoLayout, recipe: _Recipe, *, tree: Path, esp: Path, destination: Path) -> list[str]:
    program = ["xorriso", "-as", "mkisofs"]
    if layout in {IsoLayout.BIOS_ONLY, IsoLayout.EFI_ONLY, IsoLayout.ISOLINUX}:
        program = ["genisoimage", "-quiet"]
    if layout is IsoLayout.GRUB_MKRESCUE:
        if recipe.names not in {Names.ROCK_RIDGE, Names.BOTH}:
            raise ValueError("grub-mkrescue makes no image without Rock Ridge")
        program = ["grub-mkrescue", "--fonts=", "--locales=", "--themes="]
    names = {Names.ROCK_RIDGE: ["-r"], Names.BOTH: ["-r", "-J"], Names.JOLIET: ["-J"], Names.PLAIN: []}[recipe.names]
    if program[0] == "grub-mkrescue":
        names = names[1:]
    elif program[0] == "xorriso" and "-r" not in names:
        # It makes Rock Ridge's names unless it is told not to.
        names = [*names, "--norock"]
    return [
        *(*program, "-o", str(destination), "-V", recipe.volume_id, *names),
        *_boot_arguments(layout, str(esp)),
        *recipe.more,
        str(tree),
    ]


def isolinux_arguments(*, loader: str, esp: str) -> list[str]:
    """Return xorriso's arguments for ISOLINUX and an ESP, both in the tree, and an MBR and a GPT for disks."""
    mbr = _ISOLINUX / "isohdpfx.bin"
    catalog = loader.replace("isolinux.bin", "boot.cat")
    words = (
        f"-isohybrid-mbr {mbr} -b {loader} -c {catalog} {_LIKE_A_BIOS_WANTS_IT} "
        f"-eltorito-alt-boot -e {esp} -no-emul-boot -isohybrid-gpt-basdat"
    )
    return words.split()


def _boot_arguments(layout: IsoLayout, esp: str) -> list[str]:
    isolinux = f"-b isolinux/isolinux.bin -c isolinux/boot.cat {_LIKE_A_BIOS_WANTS_IT}"
    esp_in_tree = f"-e {ESP_IMAGE[1:]} -no-emul-boot"
    match layout:
        case IsoLayout.BIOS_ONLY:
            words = isolinux
        case IsoLayout.EFI_ONLY:
            words = esp_in_tree
        case IsoLayout.ISOLINUX:
            words = f"{isolinux} -eltorito-alt-boot {esp_in_tree}"
        case IsoLayout.ISOLINUX_XORRISO:
            return isolinux_arguments(loader="isolinux/isolinux.bin", esp=ESP_IMAGE[1:])
        case IsoLayout.GRUB | IsoLayout.GRUB_ESP_MENU:
            words = (
                f"--grub2-mbr {_GRUB}/i386-pc/boot_hybrid.img -partition_offset 16 --mbr-force-bootable "
                f"-append_partition 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B {esp} -appended_part_as_gpt "
                "-iso_mbr_part_type EBD0A0A2-B9E5-4433-87C0-68B6B72699C7 "
                f"-b boot/grub/eltorito.img -c boot.catalog {_LIKE_A_BIOS_WANTS_IT} --grub2-boot-info "
                "-eltorito-alt-boot -e --interval:appended_partition_2:all:: -no-emul-boot"
            )
        case IsoLayout.GRUB_MKRESCUE:
            words = ""
        case IsoLayout.ARM64:
            words = f"{esp_in_tree} -append_partition 2 0xef {esp} -partition_cyl_align all"
    return words.split()


def _is_isolinux(layout: IsoLayout) -> bool:
    return layout in {IsoLayout.BIOS_ONLY, IsoLayout.ISOLINUX, IsoLayout.ISOLINUX_XORRISO}


def _has_esp_in_tree(layout: IsoLayout) -> bool:
    return layout in {IsoLayout.EFI_ONLY, IsoLayout.ISOLINUX, IsoLayout.ISOLINUX_XORRISO, IsoLayout.ARM64}


def _put(tree: Path, path: str, content: bytes) -> None:
    place = tree / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with status {done.returncode}: {done.stderr[-2000:]}")
