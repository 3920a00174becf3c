"""Machines boot from the network: kernels get exactly the parameters that they should, and disks are reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lab import netboot, smallsystem
from lab.netboot import HOST, MAC, Network
from lab.qemu import booted
from libironic_disk import deploy
from libironic_disk.boot import (
    BootDevice,
    BootInterface,
    BootTask,
    HTTPBoot,
    HttpLoader,
    Instance,
    IPXEBoot,
    LocalDisk,
    MacAddress,
    NetworkRoot,
    OptionName,
    Prepared,
    PXEBoot,
    Ramdisk,
    WholeDisk,
)
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import DeployRequest
from libironic_disk.units import GIB
from tests.support.parameters import NASTY

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

BIOS, UEFI = Firmware
TIMEOUT = 300
RAMDISK_PARAMS = {"ipa-api-url": "http://192.0.2.7:6385", "ipa-debug": "1", "nofb": None}
CONSOLE = KernelParameters.parse("console=tty0 console=ttyS0 quiet")
SYNTAX = {
    "pxe": LoaderSyntax.GRUB,
    "pxelinux": LoaderSyntax.SYSLINUX,
    "ipxe": LoaderSyntax.IPXE,
    "ipxe-tftp": LoaderSyntax.IPXE,
    "http": LoaderSyntax.GRUB,
    "http-ipxe": LoaderSyntax.IPXE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A root directory that is served by TFTP and HTTP."""

    root: Path
    url: str
    asked: list[str]

    def interface(self, name: str) -> BootInterface:
        """Make an interface by its short name."""
        match name:
            case "pxe" | "pxelinux":
                return PXEBoot(self.root, server=HOST)
            case "ipxe":
                return IPXEBoot(self.root, url=self.url, server=HOST)
            case "ipxe-tftp":
                return IPXEBoot(self.root, url=f"tftp://{HOST}/", server=HOST)
            case "http-ipxe":
                return HTTPBoot(self.root, url=self.url, loader=HttpLoader.IPXE)
            case _:
                return HTTPBoot(self.root, url=self.url)

    def network(self, prepared: Prepared, firmware: Firmware) -> Network:
        """Return a network whose DHCP says what was prepared: to iPXE, where that is the one that can be told.

        The card's own ROM is an iPXE, and all that SeaBIOS has for a network; OVMF has drivers of its own.
        """
        (*_, named) = (option.value for option in prepared.dhcp if option.name is OptionName.BOOT_FILE)
        needs_rom = firmware is BIOS or (prepared.url is None and named.endswith(".ipxe"))
        return Network(tftp=self.root, boot_file=named, own_rom=needs_rom)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Serve an empty directory."""
    root = tmp_path / "published"
    root.mkdir()
    with netboot.web_server(root) as (url, asked):
        yield Site(root=root, url=url, asked=asked)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Ramdisk:
    """A kernel and a RAM disk that says how it was started."""
    kernel, ramdisk = netboot.kernel_and_ramdisk(tmp_path_factory.mktemp("system"))
    return Ramdisk(kernel=kernel, ramdisk=ramdisk)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedDisk:
    """A disk that was deployed."""

    path: Path
    disk_id: str


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Firmware, DeployedDisk]:
    """A small system on a disk for each firmware, as deploy() makes it."""
    folder = tmp_path_factory.mktemp("disks")
    image = smallsystem.build(folder / "small.img", "on-disk")
    made = {}
    for firmware in Firmware:
        disk = folder / f"{firmware}.img"
        with disk.open("wb") as file:
            file.truncate(GIB)
        result = deploy.deploy(
            DeployRequest(
                device=str(disk),
                file_sector_size=512,
                image=image,
                firmware=firmware,
                kernel_parameters=KernelParameters.parse("console=ttyS0"),
                menu_timeout=0,
            )
        )
        made[firmware] = DeployedDisk(path=disk, disk_id=result.disk_id)
    return made


def task(firmware: Firmware, *, secure_boot: bool = False, **what: Ramdisk | Instance) -> BootTask:
    return BootTask(
        node="node-1",
        macs=(MacAddress(MAC),),
        firmware=firmware,
        secure_boot=secure_boot,
        **what,  # type: ignore[arg-type]
    )


def own_words(said: str) -> tuple[str, ...]:
    """Return the kernel's parameters, read as the kernel does, without what loaders put before ours or behind them."""
    words = KernelParameters.parse(netboot.command_line(said)).words
    return tuple(word for word in words if word != "kernel" and not word.startswith(("BOOT_IMAGE=", "initrd=")))


@pytest.mark.parametrize(
    ("name", "firmware", "secure_boot"),
    [
        pytest.param("pxelinux", BIOS, False, id="pxelinux"),
        pytest.param("pxe", UEFI, True, id="signed-grub"),
        pytest.param("ipxe-tftp", BIOS, False, id="ipxe-tftp-bios"),
        pytest.param("ipxe", UEFI, False, id="ipxe-http-uefi"),
        pytest.param("http", UEFI, False, id="uefi-http-grub"),
        pytest.param("http-ipxe", UEFI, False, id="uefi-http-ipxe", marks=pytest.mark.full),
    ],
)
def test_a_ramdisk_gets_its_parameters(
    site: Site, system: Ramdisk, name: str, firmware: Firmware, secure_boot: bool
) -> None:
    interface = site.interface(name)
    parameters = CONSOLE + NASTY[SYNTAX[name]]
    asked = task(firmware, secure_boot=secure_boot, ramdisk=replace(system, parameters=parameters))
    interface.validate(asked)
    prepared = interface.prepare_ramdisk(asked, RAMDISK_PARAMS)
    assert not prepared.persistent
    with booted(
        None,
        firmware=firmware,
        secure_boot=secure_boot,
        boot_uri=prepared.url or "",
        more=site.network(prepared, firmware).arguments(),
    ) as machine:
        said = machine.wait_for(" END", timeout=TIMEOUT)
    assert own_words(said) == (
        *parameters.words,
        *("ipa-api-url=http://192.0.2.7:6385", "ipa-debug=1", "nofb", f"BOOTIF=01-{MAC.replace(':', '-')}"),
    )
    interface.clean_up_ramdisk(asked)
    assert [path for path in site.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "firmware", "instance"),
    [
        pytest.param("pxelinux", BIOS, LocalDisk(), id="pxelinux"),
        pytest.param("pxelinux", BIOS, WholeDisk(), id="pxelinux-by-disk-id"),
        pytest.param("pxe", UEFI, LocalDisk(), id="grub"),
        pytest.param("ipxe", BIOS, LocalDisk(), id="ipxe-bios", marks=pytest.mark.full),
        pytest.param("ipxe", UEFI, WholeDisk(), id="ipxe-uefi"),
    ],
)
def test_the_network_sends_a_machine_to_the_disk_that_was_deployed(
    site: Site,
    disks: Mapping[Firmware, DeployedDisk],
    name: str,
    firmware: Firmware,
    instance: Instance,
) -> None:
    disk = disks[firmware]
    if isinstance(instance, WholeDisk) and firmware is BIOS:
        instance = WholeDisk(disk_id=disk.disk_id)
    prepared = site.interface(name).prepare_instance(task(firmware, instance=instance))
    assert prepared.persistent
    assert prepared.device is (BootDevice.DISK if isinstance(instance, LocalDisk) else BootDevice.PXE)
    with booted(disk.path, firmware=firmware, more=site.network(prepared, firmware).arguments()) as machine:
        said = machine.wait_for("READY", timeout=TIMEOUT)
    assert "SYSTEM on-disk" in said
    # A firmware that had passed over the network, or that a loader had gone back to, would have started the disk too.
    assert "PXELINUX 6" in said or "NBP file downloaded" in said or f"/ipxe/{MAC.replace(':', '-')}.ipxe" in site.asked
    if firmware is UEFI:
        # Of iPXE in the card's ROM, OVMF doesn't say that it starts it.
        assert said.count("BdsDxe: starting ") == (1 if name == "pxe" else 0)
        assert name == "pxe" or "/disk-x64.efi" in site.asked
    else:
        goes_back = name == "pxelinux" and isinstance(instance, LocalDisk)
        assert ("Booting from Hard Disk" in said) is goes_back


def test_a_root_on_the_disk_with_a_kernel_from_the_network(site: Site, system: Ramdisk) -> None:
    instance = NetworkRoot(
        kernel=system.kernel,
        ramdisk=system.ramdisk,
        root_uuid="0d1c1b1a-2222-4333-8444-555566667777",
        parameters=KernelParameters.parse("console=ttyS0"),
    )
    prepared = site.interface("pxe").prepare_instance(task(UEFI, instance=instance))
    assert prepared.persistent
    with booted(None, firmware=UEFI, more=site.network(prepared, UEFI).arguments()) as machine:
        said = machine.wait_for(" END", timeout=TIMEOUT)
    assert netboot.command_line(said).startswith("BOOT_IMAGE=/nodes/node-1/instance-")
    assert own_words(said) == (
        *("root=UUID=0d1c1b1a-2222-4333-8444-555566667777", "ro", "console=ttyS0"),
        f"BOOTIF=01-{MAC.replace(':', '-')}",
    )
