"""Boot loaders hand exactly the words to the kernel that their configurations were made for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import cache_directory
from lab.initramfs import with_busybox
from lab.qemu import EMULATED, Machine, booted, started
from lab.testmachine import debian_packages, kernel_version
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, rendered
from libironic_disk.pure.loaders.config import ConfigKind
from libironic_disk.pure.loaders.reading import changed_config
from tests.support.parameters import NASTY

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

TIMEOUT = 240
MODULES = Path("/usr/lib/syslinux/modules/bios")
# Letters of the serial line that a loader or a terminal may have an opinion of aren't what is tested.
INIT = """\
echo "COMMAND-LINE $(hexdump -v -e '/1 "%02x"' /proc/cmdline) END"
poweroff -f
"""
GRUB_CFG = b"""\
if [ "$grub_platform" = pc ]; then
  menuentry 'Live' { linux /boot/vmlinuz console=ttyS0 panic=-1 quiet
    initrd /boot/initrd.img
  }
fi
set timeout=0
"""
PXELINUX_CFG = b"""\
DEFAULT live
LABEL live
  KERNEL vmlinuz
  APPEND initrd=initrd.img console=ttyS0 panic=-1 quiet
"""


def given_to_the_kernel(machine: Machine) -> KernelParameters:
    """Return the words that the kernel of the machine got."""
    said = machine.wait_for(" END", timeout=TIMEOUT)
    match = re.search(r"COMMAND-LINE ([0-9a-f]+) END", said)
    assert match
    return KernelParameters.parse(bytes.fromhex(match[1]).decode().rstrip("\n"))


def are_the_last_of(nasty: KernelParameters, found: KernelParameters) -> None:
    assert found.words[-len(nasty.words) :] == nasty.words
    assert {"console", "panic"} <= {word.partition("=")[0] for word in found.words[: -len(nasty.words)]}
    assert "quiet" not in found.words[: -len(nasty.words)]


@contextmanager
def network_booted(folder: Path, file: str) -> Iterator[Machine]:
    """Boot a machine in SeaBIOS from its network, where a server by TFTP has the folder."""
    network = f"user,id=network,tftp={folder},bootfile={file}"
    arguments = [*EMULATED, "-m", "768", "-boot", "n", "-netdev", network, "-device", "virtio-net-pci,netdev=network"]
    with started(arguments) as machine:
        yield machine


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a kernel, and an initial RAM disk that says what the kernel was told."""
    packages = debian_packages(cache_directory())
    version = kernel_version(packages)
    (tmp_path / "vmlinuz").write_bytes((packages / "boot" / f"vmlinuz-{version}").read_bytes())
    (tmp_path / "initrd.img").write_bytes(with_busybox(packages, version, INIT, modules=("loop",)))
    return tmp_path


def changed(text: bytes, kind: ConfigKind, nasty: KernelParameters) -> bytes:
    return changed_config(text, kind, ParameterChange(append=nasty_before_separator(nasty), delete=("quiet",)))


def nasty_before_separator(nasty: KernelParameters) -> KernelParameters:
    return KernelParameters(words=nasty.words[: nasty.words.index("---")])


def test_grub(tmp_path: Path, tree: Path) -> None:
    nasty = nasty_before_separator(NASTY[LoaderSyntax.GRUB])
    files = tmp_path / "files/boot"
    (files / "grub").mkdir(parents=True)
    for name in ("vmlinuz", "initrd.img"):
        (tree / name).rename(files / name)
    (files / "grub/grub.cfg").write_bytes(changed(GRUB_CFG, ConfigKind.GRUB, NASTY[LoaderSyntax.GRUB]))
    image = tmp_path / "image"
    subprocess.run(["grub-mkrescue", f"--output={image}", str(files.parent)], check=True, capture_output=True)
    with booted(image) as machine:
        are_the_last_of(nasty, given_to_the_kernel(machine))


def test_pxelinux(tree: Path) -> None:
    nasty = nasty_before_separator(NASTY[LoaderSyntax.SYSLINUX])
    (tree / "pxelinux.0").write_bytes(Path("/usr/lib/PXELINUX/pxelinux.0").read_bytes())
    (tree / "ldlinux.c32").write_bytes((MODULES / "ldlinux.c32").read_bytes())
    (tree / "pxelinux.cfg").mkdir()
    (tree / "pxelinux.cfg/default").write_bytes(
        changed(PXELINUX_CFG, ConfigKind.SYSLINUX, NASTY[LoaderSyntax.SYSLINUX])
    )
    with network_booted(tree, "pxelinux.0") as machine:
        are_the_last_of(nasty, given_to_the_kernel(machine))


# A machine that iPXE boots over the network gets as nasty parameters from a script of the library's.
@pytest.mark.full
def test_ipxe(tree: Path) -> None:
    nasty = NASTY[LoaderSyntax.IPXE]
    words = rendered(KernelParameters.parse("initrd=initrd.img console=ttyS0 panic=-1") + nasty, LoaderSyntax.IPXE)
    (tree / "boot.ipxe").write_text(f"#!ipxe\nkernel vmlinuz {words}\ninitrd initrd.img\nboot\n")
    with network_booted(tree, "boot.ipxe") as machine:
        are_the_last_of(nasty, given_to_the_kernel(machine))
