"""Boot ISOs and what programs that nobody here wrote say of them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.isolayouts import IsoLayout
from libironic_disk import KernelParameters
from libironic_disk.bootiso import ParameterChange
from libironic_disk.machine.drives import fat_image
from tests.support import oracles

WITH_GPT = frozenset(
    (IsoLayout.ISOLINUX, IsoLayout.ISOLINUX_XORRISO, IsoLayout.GRUB, IsoLayout.GRUB_ESP_MENU, IsoLayout.GRUB_MKRESCUE)
)
"""Layouts with a GPT; sgdisk has to be content with them, as far as it was with what the tools made."""


def words(text: str) -> KernelParameters:
    """Return kernel parameters as they are on a command line."""
    return KernelParameters.parse(text)


def change(append: str = "", *, replace: str = "", delete: tuple[str, ...] = ()) -> ParameterChange:
    """Return a change of kernel parameters."""
    return ParameterChange(append=words(append), replace=words(replace), delete=delete)


def efi_iso(target: Path, *, esp: Mapping[str, bytes], tree: Mapping[str, bytes], in_tree: bool = True) -> Path:
    """Make an ISO that boots by UEFI alone, with these files in its EFI system partition and in its tree.

    The partition is a file of the tree or, if not ``in_tree``, appended behind it.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        image = (root if in_tree else Path(folder)) / "efi.img"
        for path, content in tree.items():
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        image.write_bytes(fat_image.make(dict(esp), sector_size=512, label="ESP"))
        boot = ["-e", "efi.img", "-no-emul-boot"]
        if not in_tree:
            kind = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
            boot = ["-append_partition", "2", kind, str(image), "-appended_part_as_gpt"]
            boot += ["-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]
        oracles.output("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-o", str(target), *boot, str(root))
    return target


def extracted(iso: Path, path: str, folder: Path) -> bytes:
    """Return a file of the tree as xorriso extracts it."""
    target = folder / "extracted"
    target.unlink(missing_ok=True)
    oracles.output(
        *("xorriso", "-no_rc", "-osirrox", "on", "-indev", f"stdio:{iso}", "-extract", path, str(target)),
    )
    content = target.read_bytes()
    target.unlink()
    return content


def everything(iso: Path, folder: Path) -> dict[str, bytes]:
    """Return all files of the tree by path, as xorriso extracts them."""
    tree = folder / f"tree-of-{iso.name}"
    oracles.output("xorriso", "-no_rc", "-osirrox", "on", "-indev", f"stdio:{iso}", "-extract", "/", str(tree))
    # Directories come out without the permission to write.
    oracles.output("chmod", "-R", "u+w", str(tree))
    return {f"/{path.relative_to(tree)}": path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def check_medium(iso: Path) -> None:
    """Assert that xorriso can read every block and finds El Torito entries."""
    said = oracles.output("xorriso", "-no_rc", "-indev", f"stdio:{iso}", "-check_media", "use=indev", "--")
    assert "El Torito" in oracles.output("xorriso", "-no_rc", "-indev", f"stdio:{iso}", "-report_el_torito", "plain")
    assert "unreadable" not in said


def gpt_problems(iso: Path) -> str:
    """Return what sgdisk complains of; nothing if it is content."""
    said = oracles.output("sgdisk", "--verify", str(iso), ok=(0, 2))
    return "" if "No problems found" in said else said


def file_in_boot_image(iso: Path, offset: int, path: str) -> bytes:
    """Return a file of the FAT at a place in the ISO, as mtools sees it."""
    argv = ["mtype", "-i", f"{iso}@@{offset}", f"::{path}"]
    return subprocess.run(
        argv, capture_output=True, check=True, env={"MTOOLS_SKIP_CHECK": "1", "PATH": "/usr/bin"}
    ).stdout
