"""What each loader is told, as text."""

from __future__ import annotations

import pytest

from libironic_disk.errors import InvalidParameterValue, KernelParametersInvalid
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.netboot import grubnet, ipxescript, names, pxelinux
from libironic_disk.pure.netboot.choices import DiskBoot, IsoBoot, KernelBoot
from libironic_disk.pure.roles import Architecture, Firmware
from tests.support.netboot import MAC, OTHER_MAC, check_grub

X86 = Architecture.X86_64
BOOT = KernelBoot(kernel="nodes/n/k", ramdisk="nodes/n/r", parameters=KernelParameters.parse('quiet a="b c" x=1;halt'))
URLS = KernelBoot(kernel="http://h/k", ramdisk="http://h/r", parameters=BOOT.parameters)


def ipxe(choice: KernelBoot | DiskBoot | IsoBoot, firmware: Firmware = Firmware.UEFI) -> str:
    return ipxescript.render(choice, MAC, firmware, disk_loader="http://h/disk.efi")


def test_names_follow_from_the_address() -> None:
    macs = (MAC, OTHER_MAC)
    assert list(names.pxelinux_configs(macs)) == [f"pxelinux.cfg/01-52-54-00-aa-bb-0{n}" for n in (1, 2)]
    assert set(names.grub_configs((MAC,))) == {
        "grub/grub.cfg-01-52-54-00-aa-bb-01",
        "grub/by-mac/52:54:00:aa:bb:01",
    }
    assert list(names.ipxe_scripts((MAC,))) == ["ipxe/52-54-00-aa-bb-01.ipxe"]


def test_pxelinux_boots_a_kernel() -> None:
    assert pxelinux.render(BOOT, MAC).splitlines() == [
        "DEFAULT boot",
        "PROMPT 0",
        "LABEL boot",
        "  LINUX nodes/n/k",
        "  INITRD nodes/n/r",
        '  APPEND quiet "a=b c" x=1;halt BOOTIF=01-52-54-00-aa-bb-01',
    ]


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (DiskBoot(), "  LOCALBOOT 0"),
        (DiskBoot(first=True), "  APPEND hd0 0"),
        (DiskBoot(first=True, signature="0x1234abcd"), "  APPEND mbr:0x1234abcd"),
    ],
)
def test_pxelinux_goes_on_to_a_disk(choice: DiskBoot, line: str) -> None:
    assert pxelinux.render(choice, MAC).splitlines()[-1] == line


def test_grub_boots_a_kernel() -> None:
    text = grubnet.render(BOOT, MAC, X86)
    assert text.splitlines() == [
        "linux '/nodes/n/k' 'quiet' 'a=b c' 'x=1;halt' 'BOOTIF=01-52-54-00-aa-bb-01'",
        "initrd '/nodes/n/r'",
        "boot",
    ]
    check_grub(text)


@pytest.mark.parametrize(("architecture", "name"), [(X86, "BOOTX64.EFI"), (Architecture.AARCH64, "BOOTAA64.EFI")])
def test_grub_looks_for_the_loader_of_its_architecture_first(architecture: Architecture, name: str) -> None:
    text = grubnet.render(DiskBoot(), MAC, architecture)
    lines = text.splitlines()
    assert lines[:3] == [
        f"search --no-floppy --file --set=root /EFI/BOOT/{name}",
        f"chainloader /EFI/BOOT/{name}",
        "boot",
    ]
    assert lines[-1] == "exit"
    check_grub(text)


def test_grubs_own_dispatch_is_a_script() -> None:
    check_grub(grubnet.DISPATCH)
    assert '"$net_default_mac"' in grubnet.DISPATCH


def test_grub_over_http_asks_dhcp_and_then_its_server() -> None:
    assert grubnet.http_early_config("http://192.0.2.1:8080/boot/").splitlines() == [
        "net_bootp",
        "set root=http,192.0.2.1:8080",
        "set prefix=(http,192.0.2.1:8080)/boot/grub",
        "configfile (http,192.0.2.1:8080)/boot/grub/grub.cfg",
    ]
    with pytest.raises(InvalidParameterValue, match="http alone"):
        grubnet.http_early_config("https://192.0.2.1/")


def test_ipxe_boots_a_kernel_and_ends() -> None:
    lines = ipxe(URLS).splitlines()
    assert lines[0] == "#!ipxe"
    assert 'kernel http://h/k initrd=ramdisk quiet "a=b c" x=1;halt BOOTIF=01-52-54-00-aa-bb-01 || goto failed' in lines
    assert "initrd --name ramdisk http://h/r || goto failed" in lines
    # Each command that may fail says what then: iPXE ends a script at the first that doesn't.
    labels = {line for line in lines if line.startswith(":")}
    assert {
        f":{word}" for line in lines if "goto " in line for word in [line.split("goto ")[1].split(" ")[0]]
    } <= labels
    assert lines[-1] == "poweroff || reboot"


def test_ipxe_goes_on_to_a_disk() -> None:
    assert "sanboot --no-describe --drive 0x80 || exit 1" in ipxe(DiskBoot(), Firmware.BIOS)
    assert "chain --autofree http://h/disk.efi || exit 1" in ipxe(DiskBoot(), Firmware.UEFI)


def test_ipxe_boots_an_iso() -> None:
    assert "sanboot http://h/x.iso || goto failed" in ipxe(IsoBoot(url="http://h/x.iso")).splitlines()


def test_what_a_loader_can_not_do_is_refused_in_words() -> None:
    disk, iso = DiskBoot(first=True, signature="0x1234abcd"), IsoBoot(url="http://h/x.iso")
    with pytest.raises(InvalidParameterValue, match="PXELINUX can't boot an ISO"):
        pxelinux.render(iso, MAC)
    with pytest.raises(InvalidParameterValue, match="GRUB can't boot an ISO"):
        grubnet.render(iso, MAC, X86)
    with pytest.raises(InvalidParameterValue, match="GRUB can't look for a disk"):
        grubnet.render(disk, MAC, X86)
    with pytest.raises(InvalidParameterValue, match="iPXE can't look for a disk"):
        ipxe(disk)


@pytest.mark.parametrize(
    ("word", "render"),
    [
        ("a=\\x", lambda boot: grubnet.render(boot, MAC, X86)),
        ("a='x", lambda boot: grubnet.render(boot, MAC, X86)),
        ("a=${net0/mac}", ipxe),
        ("x initrd=/etc/passwd", lambda boot: pxelinux.render(boot, MAC)),
    ],
)
def test_a_parameter_that_a_loader_would_change_is_refused(word: str, render: object) -> None:
    boot = KernelBoot(kernel="k", ramdisk="r", parameters=KernelParameters(words=(word,)))
    assert callable(render)
    with pytest.raises(KernelParametersInvalid):
        render(boot)


def test_a_boot_interface_that_is_given_stays() -> None:
    mine = KernelBoot(kernel="k", ramdisk="r", parameters=KernelParameters.parse("BOOTIF=mine"))
    assert "01-52" not in pxelinux.render(mine, MAC)
