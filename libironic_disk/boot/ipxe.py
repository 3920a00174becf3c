"""iPXE: the firmware loads it over TFTP, and it loads the rest from any server that it is told of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from libironic_disk.boot.network import (
    NetworkBoot,
    NetworkPlan,
    Wanted,
    checked_url,
    parameters_checked,
    root_plan,
    shared_files,
)
from libironic_disk.boot.pxe import pxe_architectures
from libironic_disk.pure.netboot import ipxescript
from libironic_disk.pure.netboot.choices import DiskBoot
from libironic_disk.pure.netboot.dhcp import Client, DhcpOption, pxe_options, url_options
from libironic_disk.pure.netboot.loaders import LoaderKind, Loaders, LoaderSet
from libironic_disk.pure.netboot.names import IPXE_SCRIPT, ipxe_scripts
from libironic_disk.pure.netboot.planning import RootPlan, SharedContent
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import BootTask
from libironic_disk.pure.roles import Firmware


class IPXEBoot(NetworkBoot):
    """Boots by iPXE's scripts.

    Args:
        root: the directory that is published at ``url``.
        url: ``http://``, ``https://`` or ``tftp://``, where machines find ``root``.
        server: the IP address or name of the TFTP server that iPXE itself comes from, for DHCP.
        tftp_root: the directory that this server publishes as its own root; ``root`` if None.
        loaders: where boot loaders are; Debian's places if None.

    Raises:
        InvalidParameterValue: the URL can't be used.
    """

    _device = BootDevice.PXE

    def __init__(
        self, root: Path, *, url: str, server: str, tftp_root: Path | None = None, loaders: Loaders | None = None
    ) -> None:
        super().__init__(root, loaders, takes_urls=True)
        self._url = checked_url(url)
        self._server = server
        self._tftp_root = tftp_root or root

    def _address(self, path: str) -> str:
        return self._url + path

    def _roots(self) -> Sequence[Path]:
        return tuple(dict.fromkeys((self._root, self._tftp_root)))

    def _plan(self, task: BootTask, wanted: Wanted) -> NetworkPlan:
        loader = self.loader(task, LoaderKind.IPXE)
        scripts, shared = scripts_for(self, self._url, task, wanted)
        firmware_files = shared_files(loader) if scripts else {}
        if self._tftp_root == self._root:
            plan = root_plan(task, wanted, shared={**firmware_files, **shared}, configs=scripts)
            roots: tuple[tuple[Path, RootPlan], ...] = ((self._root, plan),)
        else:
            plan = root_plan(task, wanted, shared=shared, configs=scripts)
            only_loader = RootPlan(
                node=task.node, macs=task.macs, purpose=wanted.purpose, shared=firmware_files, images={}, configs={}
            )
            roots = ((self._tftp_root, only_loader), (self._root, plan))
        prepared = Prepared(
            device=wanted.device,
            persistent=wanted.persistent,
            dhcp=self._dhcp(task, loader) if scripts else (),
            files=tuple(dict.fromkeys(path for _, root in roots for path in root.files)),
        )
        return NetworkPlan(roots=roots, prepared=prepared)

    def _dhcp(self, task: BootTask, loader: LoaderSet) -> tuple[DhcpOption, ...]:
        first = pxe_options(
            self._server, loader.boot_file, client=Client.FIRMWARE, architectures=pxe_architectures(task)
        )
        return first + url_options(self._url + IPXE_SCRIPT, client=Client.IPXE)


def scripts_for(
    interface: NetworkBoot, url: str, task: BootTask, wanted: Wanted
) -> tuple[dict[str, str], dict[str, SharedContent]]:
    """Return iPXE's scripts for a machine by path, and what they need that machines share.

    Args:
        interface: whose loaders are taken.
        url: where the scripts are published.
        task: the machine.
        wanted: what it is to boot; nothing gives no scripts.

    Raises:
        InvalidParameterValue: iPXE can't boot it.
    """
    if wanted.choice is None:
        return {}, {}
    shared: dict[str, SharedContent] = {IPXE_SCRIPT: ipxescript.DISPATCH.encode()}
    disk_loader = ""
    if isinstance(wanted.choice, DiskBoot) and task.firmware is Firmware.UEFI:
        loader = interface.loader(task, LoaderKind.DISK)
        shared |= shared_files(loader)
        disk_loader = url + loader.boot_file
    with parameters_checked():
        scripts = {
            path: ipxescript.render(wanted.choice, mac, task.firmware, disk_loader=disk_loader)
            for path, mac in ipxe_scripts(task.macs).items()
        }
    return scripts, shared
