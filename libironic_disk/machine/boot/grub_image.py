"""GRUB's own files on the machine we run on: its modules, and core images made of them by grub-mkimage.

Nothing here reads or writes a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from libironic_disk.errors import ToolMissing
from libironic_disk.machine import process, scratch
from libironic_disk.pure.boot.grubcfg import GRUB_DIRECTORY

MODULES_DIRECTORY: Final = Path("/usr/lib/grub")


class Platform(StrEnum):
    """What a GRUB is built for; the words are GRUB's own, and the names of its directories."""

    I386_PC = "i386-pc"
    X86_64_EFI = "x86_64-efi"
    ARM64_EFI = "arm64-efi"


_PACKAGES: Final[Mapping[Platform, str]] = {
    Platform.I386_PC: "grub-pc-bin",
    Platform.X86_64_EFI: "grub-efi-amd64-bin",
    Platform.ARM64_EFI: "grub-efi-arm64-bin",
}

# What finds and boots a system, and what helps an operator at GRUB's prompt when the rest of the modules can't be read.
_EVERYWHERE: Final = (
    *("part_gpt", "part_msdos", "ext2", "xfs", "btrfs", "fat"),
    *("search", "search_fs_uuid", "search_fs_file", "search_label", "normal", "configfile", "linux", "boot"),
    *("gzio", "xzio", "zstd", "serial", "terminal", "echo", "test", "regexp", "loadenv", "ls", "cat", "halt", "reboot"),
)
_ON: Final[Mapping[Platform, tuple[str, ...]]] = {
    Platform.I386_PC: ("biosdisk", "minicmd"),
    Platform.X86_64_EFI: ("all_video", "minicmd"),
    Platform.ARM64_EFI: ("all_video", "minicmd"),
}
# What an ISO is booted with. It has no further modules: these are all.
_ON_CDS: Final = (
    *("iso9660", "part_gpt", "part_msdos", "fat", "search", "search_fs_uuid", "normal", "configfile", "linux", "boot"),
    *("gzio", "xzio", "zstd", "serial", "terminal", "echo", "test", "ls", "cat", "halt", "reboot"),
)
# What fetches and boots a system from the network, and what starts a loader on the machine's own disk.
_ON_NETWORKS: Final = (
    *("normal", "configfile", "linux", "boot", "echo", "test", "minicmd", "sleep", "halt", "reboot", "regexp"),
    *("net", "efinet", "tftp", "http", "gzio", "xzio", "zstd", "all_video", "serial", "terminal"),
    *("part_gpt", "part_msdos", "fat", "search", "search_fs_file", "chain"),
)
_NETWORK_DIRECTORY: Final = "/grub"
# What finds a file system on a logical volume or an array. Only there: it reads whatever any disk of the machine says.
_FOR_VOLUMES: Final = ("diskfilter", "lvm", "mdraid1x")
_TIMEOUT: Final = 60.0


def require(platform: Platform, *, modules: Path = MODULES_DIRECTORY) -> None:
    """Check that GRUB for ``platform`` is installed here.

    Raises:
        ToolMissing: it isn't, or the program that makes its images isn't; with the package.
    """
    process.require(["grub-mkimage"])
    directory = modules / platform
    if not (directory / "moddep.lst").is_file():
        raise ToolMissing(tool=f"GRUB for {platform} ({directory})", package=_PACKAGES[platform])


def core_image(
    platform: Platform, early_config: str, *, volumes: bool = False, modules: Path = MODULES_DIRECTORY
) -> bytes:
    """Make GRUB's core with ``early_config`` inside: the loader of an ESP, or what a BIOS boot sector loads.

    With ``volumes`` it finds file systems on logical volumes and mirrors too.

    Raises:
        ToolMissing: GRUB for this platform isn't installed here.
        ProgramError: grub-mkimage failed.
    """
    wanted = (*_EVERYWHERE, *_ON[platform], *(_FOR_VOLUMES if volumes else ()))
    return _made(platform, early_config, wanted, form=platform, modules=modules)


def cd_image(platform: Platform, early_config: str, *, modules: Path = MODULES_DIRECTORY) -> bytes:
    """Make GRUB's core for an ISO: the loader of its ESP, or the El Torito boot image that a BIOS starts.

    Raises:
        ToolMissing: GRUB for this platform isn't installed here.
        ProgramError: grub-mkimage failed.
    """
    form = "i386-pc-eltorito" if platform is Platform.I386_PC else platform
    return _made(platform, early_config, (*_ON_CDS, *_ON[platform]), form=form, modules=modules)


def network_image(platform: Platform, early_config: str, *, modules: Path = MODULES_DIRECTORY) -> bytes:
    """Make GRUB's core for a machine that boots from the network, which looks for its files in ``/grub`` there.

    Raises:
        ToolMissing: GRUB for this platform isn't installed here.
        ProgramError: grub-mkimage failed.
    """
    prefix = _NETWORK_DIRECTORY
    return _made(platform, early_config, _ON_NETWORKS, form=platform, modules=modules, prefix=prefix)


def cd_boot_sector(*, modules: Path = MODULES_DIRECTORY) -> Path:
    """Return where GRUB's boot sector is by which a BIOS starts an ISO that was written to a disk."""
    return modules / Platform.I386_PC / "boot_hybrid.img"


def _made(
    platform: Platform,
    early_config: str,
    wanted: Iterable[str],
    *,
    form: str,
    modules: Path,
    prefix: str = GRUB_DIRECTORY,
) -> bytes:
    require(platform, modules=modules)
    names = [name for name in wanted if (modules / platform / f"{name}.mod").is_file()]
    with scratch.directory() as directory:
        config, image = directory / "early.cfg", directory / "core.img"
        with scratch.reported():
            config.write_text(early_config)
        process.run(
            "grub-mkimage",
            *(f"--format={form}", f"--directory={modules / platform}", f"--output={image}"),
            *(f"--config={config}", f"--prefix={prefix}"),
            *names,
            timeout=_TIMEOUT,
        )
        with scratch.reported():
            return image.read_bytes()


def boot_sector(*, modules: Path = MODULES_DIRECTORY) -> bytes:
    """Return GRUB's boot sector for a BIOS, not yet joined with a core image."""
    return (modules / Platform.I386_PC / "boot.img").read_bytes()


def module_files(platform: Platform, *, modules: Path = MODULES_DIRECTORY) -> dict[str, bytes]:
    """Return the modules and their lists, which GRUB loads by name from its directory when its menu asks for one."""
    directory = modules / platform
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.suffix in {".mod", ".lst"}}
