"""PXE: a BIOS loads PXELINUX over TFTP, a UEFI loads GRUB."""

from __future__ import annotations

from pathlib import Path

from libironic_disk.boot.network import (
    NetworkBoot,
    NetworkPlan,
    Wanted,
    parameters_checked,
    root_plan,
    shared_files,
)
from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot import grubnet, pxelinux
from libironic_disk.pure.netboot.choices import BootChoice
from libironic_disk.pure.netboot.dhcp import PXE_ARCHITECTURES, pxe_options
from libironic_disk.pure.netboot.loaders import LoaderKind, Loaders
from libironic_disk.pure.netboot.names import GRUB_CONFIG, grub_configs, pxelinux_configs
from libironic_disk.pure.netboot.planning import SharedContent
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import BootTask
from libironic_disk.pure.roles import Firmware


class PXEBoot(NetworkBoot):
    """Boots by PXE alone: everything comes over TFTP.

    Args:
        root: the directory that the TFTP server publishes as its own root.
        server: the TFTP server's IP address or name, for DHCP.
        loaders: where boot loaders are; Debian's places if None.
    """

    _device = BootDevice.PXE

    def __init__(self, root: Path, *, server: str, loaders: Loaders | None = None) -> None:
        super().__init__(root, loaders, takes_urls=False)
        self._server = server

    def _address(self, path: str) -> str:
        return path

    def _plan(self, task: BootTask, wanted: Wanted) -> NetworkPlan:
        is_bios = task.firmware is Firmware.BIOS
        loader = self.loader(task, LoaderKind.PXELINUX if is_bios else LoaderKind.GRUB)
        shared: dict[str, SharedContent] = shared_files(loader)
        if not is_bios:
            shared[GRUB_CONFIG] = grubnet.DISPATCH.encode()
        with parameters_checked():
            configs = _configs(task, wanted.choice) if wanted.choice else {}
        plan = root_plan(task, wanted, shared=shared, configs=configs)
        return NetworkPlan(
            roots=((self._root, plan),),
            prepared=Prepared(
                device=wanted.device,
                persistent=wanted.persistent,
                dhcp=pxe_options(
                    self._server,
                    loader.boot_file,
                    architectures=pxe_architectures(task),
                )
                if wanted.choice
                else (),
                files=plan.files,
            ),
        )


def _configs(task: BootTask, choice: BootChoice) -> dict[str, str]:
    if task.firmware is Firmware.BIOS:
        return {path: pxelinux.render(choice, mac) for path, mac in pxelinux_configs(task.macs).items()}
    return {path: grubnet.render(choice, mac, task.architecture) for path, mac in grub_configs(task.macs).items()}


def pxe_architectures(task: BootTask) -> tuple[int, ...]:
    """Return how the machine's firmware says what it is, when it boots by PXE.

    Raises:
        InvalidParameterValue: it doesn't boot by PXE.
    """
    found = PXE_ARCHITECTURES.get((task.firmware, task.architecture))
    if found is None:
        raise InvalidParameterValue(problems=(f"{task.architecture} doesn't boot by PXE with {task.firmware}",))
    return found
