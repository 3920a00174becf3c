"""Patched ISOs boot by either firmware, as CD and as disk, and what was asked for is what the kernel gets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from lab import cache_directory, isoimages
from lab.isoimages import Packaged
from lab.isolayouts import BOOTED, PUT, IsoLayout, System, booting_system, make
from lab.isomachine import Medium, inserted, parameters_of
from libironic_disk import bootiso
from libironic_disk.bootiso import KernelParameters, ParameterChange
from libironic_disk.pure.roles import Firmware
from tests.support import bootisos

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

FULL = pytest.mark.full
BIOS, UEFI = Firmware
CD, USB, DISK = Medium
TIMEOUT = 240
IPXE_SAYS = "Press Ctrl-B for the iPXE command line"
# What the installer reads from its initial RAM disk, and does before anything else.
PRESEED = b'd-i preseed/early_command string echo "=OURS <$(cat /proc/cmdline)> =OURS END" >/dev/console\n'

CHANGE = ParameterChange(
    append=KernelParameters(words=("ours.plain=1", "ours.spaced=two words", "ours.odd=a;b{c}|d&e(f)#g")),
    replace=KernelParameters(words=("lab.layout=patched",)),
    delete=("quiet",),
)
WANTED = 'console=ttyS0 lab.layout=patched ours.plain=1 "ours.spaced=two words" ours.odd=a;b{c}|d&e(f)#g ---'
EARLY = {f"/{PUT}/early": b"seen"}
# So large that everything behind the tree has to move.
FILES = {"/pool/large": bytes(3_000_000), "/pool/deep/er/small": b"small"}


@cache
def system() -> System:
    """What is booted; the same for all."""
    return booting_system()


# Each layout and each loader; what we build ourselves boots from each medium with each firmware (test_boot_isos.py).
@pytest.mark.parametrize(
    ("layout", "firmware", "medium"),
    [
        pytest.param(IsoLayout.GRUB, BIOS, CD, id="modern-bios-cd"),
        pytest.param(IsoLayout.GRUB, UEFI, USB, id="modern-uefi-usb", marks=FULL),
        pytest.param(IsoLayout.GRUB_ESP_MENU, UEFI, CD, id="menu-in-the-esp-uefi-cd"),
        pytest.param(IsoLayout.GRUB_ESP_MENU, BIOS, USB, id="menu-in-the-esp-bios-usb", marks=FULL),
        pytest.param(IsoLayout.ISOLINUX_XORRISO, BIOS, USB, id="isohybrid-bios-usb"),
        pytest.param(IsoLayout.ISOLINUX_XORRISO, UEFI, CD, id="isohybrid-uefi-cd", marks=FULL),
        pytest.param(IsoLayout.ISOLINUX, BIOS, CD, id="old-isohybrid-bios-cd"),
        pytest.param(IsoLayout.ISOLINUX, UEFI, USB, id="old-isohybrid-uefi-usb", marks=FULL),
        pytest.param(IsoLayout.GRUB_MKRESCUE, UEFI, DISK, id="grub-mkrescue-uefi-disk"),
        pytest.param(IsoLayout.GRUB_MKRESCUE, BIOS, CD, id="grub-mkrescue-bios-cd", marks=FULL),
    ],
)
def test_a_patched_iso_boots(tmp_path: Path, layout: IsoLayout, firmware: Firmware, medium: Medium) -> None:
    original = make(layout, tmp_path / "original.iso", system=system())
    target = tmp_path / "patched.iso"
    with bootiso.open_iso(original) as iso:
        iso.patch(parameters=CHANGE, files=FILES, initrd_files=EARLY, volume_id="PATCHED").write(target)
    bootisos.check_medium(target)
    assert bootisos.gpt_problems(target) == bootisos.gpt_problems(original)
    assert bootisos.extracted(target, "/pool/deep/er/small", tmp_path) == b"small"
    line, said = booted(target, firmware, medium)
    assert parameters_of(line) == WANTED
    assert f"HAS /{PUT}/early <seen>" in said


def test_what_xorriso_makes_boots_too(tmp_path: Path) -> None:
    original = make(IsoLayout.GRUB_ESP_MENU, tmp_path / "original.iso", system=system())
    target = tmp_path / "patched.iso"
    bootiso.patch_with_xorriso(original, target, parameters=CHANGE, files=FILES, initrd_files=EARLY)
    line, said = booted(target, UEFI, USB)
    assert parameters_of(line) == WANTED
    assert f"HAS /{PUT}/early <seen>" in said


@pytest.mark.parametrize(
    ("image", "medium", "files", "marker"),
    [
        pytest.param(
            Packaged.GRUB_RESCUE,
            CD,
            {"/boot/grub/grub.cfg": b"serial\nterminal_output serial\necho =OURS=\n"},
            "=OURS=",
            id="grub-rescue-cd",
        ),
        pytest.param(Packaged.IPXE, USB, {"/large": bytes(400_000)}, IPXE_SAYS, id="ipxe-usb"),
    ],
)
def test_an_image_of_a_package_boots(
    tmp_path: Path, image: Packaged, medium: Medium, files: Mapping[str, bytes], marker: str
) -> None:
    target = tmp_path / "patched.iso"
    with bootiso.open_iso(isoimages.packaged(cache_directory(), image)) as iso:
        iso.patch(files=files).write(target)
    bootisos.check_medium(target)
    with inserted(target, BIOS, medium, memory_mib=256) as machine:
        machine.wait_for(marker, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("firmware", "medium"),
    [
        pytest.param(BIOS, USB, id="bios-usb", marks=FULL),
        pytest.param(UEFI, CD, id="secure-boot-cd"),
    ],
)
def test_debian_s_installer_boots(tmp_path: Path, firmware: Firmware, medium: Medium) -> None:
    target = tmp_path / "patched.iso"
    with bootiso.open_iso(isoimages.debian_installer(cache_directory())) as iso:
        change = bootisos.change("console=ttyS0 ours=1", replace="priority=critical", delete=("quiet",))
        # Both menus wait for a key; these don't, and get the parameters too.
        entries = b"include debian-installer/amd64/boot-screens/txt.cfg\n"
        menus = {
            "/isolinux.cfg": b"default install\nprompt 0\ntimeout 1\n" + entries,
            "/boot/grub/grub.cfg": b"set timeout=1\n" + iso.read("/boot/grub/grub.cfg"),
        }
        patched = iso.patch(parameters=change, files=menus, initrd_files={"/preseed.cfg": PRESEED})
        patched.write(target)
    bootisos.check_medium(target)
    assert bootisos.gpt_problems(target) == bootisos.gpt_problems(iso.path)
    with inserted(target, firmware, medium, secure_boot=firmware is UEFI, memory_mib=1024) as machine:
        said = machine.wait_for("=OURS END", timeout=TIMEOUT)
    line = next(line for line in said.splitlines() if "=OURS <" in line)
    assert "priority=critical console=ttyS0 ours=1 ---" in line
    assert "quiet" not in line


def booted(iso: Path, firmware: Firmware, medium: Medium) -> tuple[str, str]:
    """Boot an image and return the kernel's command line, and all that the machine said."""
    with inserted(iso, firmware, medium) as machine:
        machine.wait_for(f"{BOOTED} <", timeout=TIMEOUT)
        said = machine.wait_until_off(timeout=60)
    return said.partition(f"{BOOTED} <")[2].partition(">\n")[0], said
