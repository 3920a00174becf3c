"""UEFI HTTP boot: the firmware itself fetches the first file from a web server (UEFI 2.10 section 24.7)."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from libironic_disk.boot.ipxe import scripts_for
from libironic_disk.boot.network import (
    NetworkBoot,
    NetworkPlan,
    Wanted,
    checked_url,
    parameters_checked,
    root_plan,
    shared_files,
)
from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot import grubnet
from libironic_disk.pure.netboot.choices import BootChoice, IsoBoot, KernelBoot
from libironic_disk.pure.netboot.dhcp import HTTP_ARCHITECTURES, Client, DhcpOption, url_options
from libironic_disk.pure.netboot.loaders import LoaderKind, Loaders
from libironic_disk.pure.netboot.names import GRUB_CONFIG, IPXE_SCRIPT, grub_configs
from libironic_disk.pure.netboot.planning import SharedContent
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import BootTask
from libironic_disk.pure.roles import Firmware


class HttpLoader(StrEnum):
    """What the firmware fetches first, unless it is an ISO, which it boots by itself."""

    GRUB = "grub"
    """An image of GRUB made here, which knows the server's URL and asks DHCP for an address itself."""
    IPXE = "ipxe"
    """iPXE, which needs a DHCP server that tells it of its script."""


class HTTPBoot(NetworkBoot):
    """Boots by UEFI's own HTTP client.

    Args:
        root: the directory that is published at ``url``.
        url: ``http://`` or ``https://``, where machines find ``root``; GRUB knows ``http://`` alone.
        loader: what boots kernels and disks.
        loaders: where boot loaders are; Debian's places if None.

    Raises:
        InvalidParameterValue: the URL can't be used.
    """

    _device = BootDevice.UEFI_HTTP

    def __init__(
        self, root: Path, *, url: str, loader: HttpLoader = HttpLoader.GRUB, loaders: Loaders | None = None
    ) -> None:
        super().__init__(root, loaders, takes_urls=loader is HttpLoader.IPXE)
        self._url = checked_url(url)
        self._program = loader
        problems = []
        if urlsplit(url).scheme == "tftp":
            problems.append(f"UEFI's HTTP boot doesn't fetch from {url}")
        if loader is HttpLoader.GRUB and urlsplit(url).scheme == "https":
            problems.append(f"GRUB can't fetch from {url}: take iPXE")
        if problems:
            raise InvalidParameterValue(problems=tuple(problems))

    def _address(self, path: str) -> str:
        return self._url + path

    def _plan(self, task: BootTask, wanted: Wanted) -> NetworkPlan:
        architectures = HTTP_ARCHITECTURES.get(task.architecture)
        if task.firmware is not Firmware.UEFI or architectures is None:
            raise InvalidParameterValue(problems=(f"there is no HTTP boot for {task.firmware} on {task.architecture}",))
        url, configs, shared = self._first(task, wanted)
        dhcp: tuple[DhcpOption, ...] = ()
        if url is not None:
            dhcp = url_options(url, client=Client.ANY, architectures=architectures)
        if configs and self._program is HttpLoader.IPXE:
            dhcp = url_options(url or "", client=Client.FIRMWARE, architectures=architectures)
            dhcp += url_options(self._url + IPXE_SCRIPT, client=Client.IPXE)
        plan = root_plan(task, wanted, shared=shared, configs=configs)
        prepared = Prepared(device=wanted.device, persistent=wanted.persistent, dhcp=dhcp, files=plan.files, url=url)
        return NetworkPlan(roots=((self._root, plan),), prepared=prepared)

    def _first(self, task: BootTask, wanted: Wanted) -> tuple[str | None, dict[str, str], dict[str, SharedContent]]:
        """Return what the firmware is to fetch, then the configurations and what machines share of the rest."""
        match wanted.choice:
            case None:
                return None, {}, {}
            case IsoBoot(url=url):
                return url, {}, {}
            case choice if task.secure_boot:
                reason = (
                    "with Secure Boot, UEFI's HTTP boot takes an ISO alone: iPXE isn't signed, and a signed GRUB "
                    "doesn't ask a web server for its configuration"
                )
                raise InvalidParameterValue(problems=(reason,))
            case choice if self._program is HttpLoader.GRUB:
                loader = self.loader(task, LoaderKind.GRUB_HTTP)
                shared = shared_files(loader, early_config=grubnet.http_early_config(self._url))
                shared[GRUB_CONFIG] = grubnet.DISPATCH.encode()
                with parameters_checked():
                    configs = _grub_configs(task, choice)
                return self._url + loader.boot_file, configs, shared
            case _:
                loader = self.loader(task, LoaderKind.IPXE)
                scripts, more = scripts_for(self, self._url, task, wanted)
                return self._url + loader.boot_file, scripts, {**shared_files(loader), **more}


def _grub_configs(task: BootTask, choice: BootChoice) -> dict[str, str]:
    if isinstance(choice, KernelBoot):
        # GRUB's root is the server, which is the same.
        choice = replace(choice, kernel=urlsplit(choice.kernel).path, ramdisk=urlsplit(choice.ramdisk).path)
    return {path: grubnet.render(choice, mac, task.architecture) for path, mac in grub_configs(task.macs).items()}
