"""Machines boot what was inserted by Redfish, and read it from us over HTTP, a few sectors at a time.

sushy-tools' emulator is the controller. It has no machine: when it turns one on it says so, and QEMU is started with
what is in its slots then.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import sushy

from lab import cache_directory, isolayouts, mediaserver
from lab.initramfs import with_busybox
from lab.isolayouts import BOOTED, IsoLayout
from lab.isomachine import parameters_of
from lab.listening import answering
from lab.qemu import EMULATED, started, uefi
from lab.testmachine import debian_packages, kernel_version
from libironic_disk import configdrive
from libironic_disk.boot import BootTask, IsoInstance, Ramdisk
from libironic_disk.boot.media import BOOTABLE
from libironic_disk.boot.redfish import RedfishNode, RedfishVirtualMedia, Timing
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.roles import Firmware
from tests.support import redfish

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

TIMEOUT = 180
USER_DATA = "who this machine is"
INIT = f"""\
for attempt in 1 2 3 4 5 6 7 8 9 10; do drive=$(findfs LABEL=config-2) && break; sleep 1; done
[ -n "$drive" ] && mount -t iso9660 -o ro $drive /mnt &&
    echo "CONFIG DRIVE ON $drive <$(cat /mnt/openstack/latest/user_data)>" >/dev/ttyS0
echo "{BOOTED} <$(cat /proc/cmdline)>" >/dev/ttyS0
poweroff -f
"""
MODULES = ("isofs", "sd_mod", "sr_mod", "usb_storage", "xhci_pci")


@dataclass(frozen=True, kw_only=True)
class Files:
    """A kernel, and a RAM disk that says what it was booted with and what is on a config drive."""

    kernel: Path
    ramdisk: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("system")
    packages = debian_packages(cache_directory())
    version = kernel_version(packages)
    (folder / "vmlinuz").write_bytes((packages / "boot" / f"vmlinuz-{version}").read_bytes())
    (folder / "initrd").write_bytes(with_busybox(packages, version, INIT, modules=MODULES, folders=("mnt",)))
    return Files(kernel=folder / "vmlinuz", ramdisk=folder / "initrd")


class Counted:
    """The served media, and how often which status was answered."""

    def __init__(self, media: ServedMedia) -> None:
        self.media = media
        self.answers: Counter[str] = Counter()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], error: object = None) -> object:
            self.answers[f"{environ['REQUEST_METHOD']} {status[:3]}"] += 1
            return start_response(status, headers)

        return self.media(environ, start)  # type: ignore[arg-type]


@contextmanager
def listener() -> Iterator[tuple[str, queue.Queue[str]]]:
    """Listen to what the emulator says of its machine; give the URL for that, and each state of power."""
    states: queue.Queue[str] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            states.put(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["power_state"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, answering(server):
        yield f"http://127.0.0.1:{server.server_port}", states


class Site:
    """A controller, a server, and what boots by them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        said, self.states = stack.enter_context(listener())
        self.emulator = stack.enter_context(redfish.emulator(folder, listener=said))
        url, server = stack.enter_context(mediaserver.running())
        self.served = Counted(ServedMedia(url))
        server.set_app(self.served)
        where = RedfishNode(address=self.emulator, system=redfish.SYSTEM)
        self.media = RedfishVirtualMedia({"machine": where}, timing=Timing(pause=0.5))
        self.folder = folder / "built"
        self.folder.mkdir()

    def boot(self) -> VirtualMediaBoot:
        return VirtualMediaBoot(self.served.media, self.media, self.folder)

    def turned_on(self, firmware: Firmware) -> str:
        """Turn the machine on as a controller service does, and return what it says on its serial port."""
        system = sushy.Sushy(self.emulator, username="", password="").get_system(redfish.SYSTEM)
        system.reset_system(sushy.RESET_ON)
        while not self.states.empty():
            self.states.get()
        # It applies what was asked for some seconds later, when it is looked at.
        while self.states.empty() or self.states.get() != "On":
            system.refresh(force=True)
            threading.Event().wait(0.5)
        self.served.answers.clear()
        with self._machine(firmware) as arguments, started(arguments) as machine:
            machine.wait_for(f"{BOOTED} <", timeout=TIMEOUT)
            return machine.wait_until_off(timeout=60)

    @contextmanager
    def _machine(self, firmware: Firmware) -> Iterator[list[str]]:
        """Give the arguments for a machine with what is in the controller's slots: as CDs, or as sticks."""
        arguments = [*EMULATED, "-m", "768", "-device", "qemu-xhci"]
        # The manager shows the same slots again.
        inserted = {slot.url: slot for slot in self.media.slots("machine") if slot.inserted}
        for number, (url, slot) in enumerate(inserted.items()):
            is_cd = slot.kinds.intersection(BOOTABLE)
            device = f"ide-cd,drive=slot{number},bootindex=0" if is_cd else f"usb-storage,drive=slot{number}"
            kind = ",media=cdrom" if is_cd else ""
            drive = f"if=none,id=slot{number},format=raw,readonly=on,file={url}{kind}"
            arguments += ["-drive", drive, "-device", device]
        with ExitStack() as stack:
            if firmware is Firmware.UEFI:
                arguments += stack.enter_context(uefi())
            yield arguments


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_a_ramdisk_and_then_a_users_iso_with_a_config_drive(site: Site, files: Files, tmp_path: Path) -> None:
    """What a controller does: the RAM disk once, by UEFI; then the instance, here by a BIOS, with two media."""
    ramdisk = Ramdisk(kernel=files.kernel, ramdisk=files.ramdisk, parameters=KernelParameters(words=("console=ttyS0",)))
    task = BootTask(node="machine", ramdisk=ramdisk)
    boot = site.boot()
    boot.validate(task)
    boot.prepare_ramdisk(task, {"ipa-api-url": "http://192.0.2.1:6385", "odd": "a;b$c d {e}"})
    said = site.turned_on(Firmware.UEFI)
    wanted = 'console=ttyS0 ipa-api-url=http://192.0.2.1:6385 "odd=a;b$c d {e}"'
    assert f"{wanted} boot_method=vmedia ir_pub_id=machine" in parameters_of(line(said))
    assert "CONFIG DRIVE" not in said
    # It was read as a medium is, and not fetched.
    assert site.served.answers["GET 206"] > 10
    assert set(site.served.answers) <= {"HEAD 200", "GET 206"}
    boot.clean_up_ramdisk(task)

    system = isolayouts.System(kernel=files.kernel.read_bytes(), initrd=files.ramdisk.read_bytes())
    iso = isolayouts.make(IsoLayout.ISOLINUX_XORRISO, tmp_path / "users.iso", system=system)
    before = iso.read_bytes()
    change = ParameterChange(
        append=KernelParameters(words=("ours=1",)), replace=KernelParameters(words=("lab.layout=patched",))
    )
    drive = configdrive.load({"meta_data": {"uuid": "1"}, "user_data": USER_DATA}).data
    task = replace(
        task,
        firmware=Firmware.BIOS,
        instance=IsoInstance(iso=iso, parameters=change, config_drive=drive, one_shot=True),
    )
    # The machine is on as far as the controller knows: it is turned off before anything is ejected.
    prepared = boot.prepare_instance(task)
    assert len(prepared.files) == 2
    said = site.turned_on(Firmware.BIOS)
    assert parameters_of(line(said)) == "console=ttyS0 lab.layout=patched ours=1 --- quiet"
    assert f"CONFIG DRIVE ON /dev/sda <{USER_DATA}>" in said
    assert site.served.answers["GET 206"] > 10
    boot.clean_up_instance(task)
    assert not any(slot.inserted for slot in site.media.slots("machine"))
    assert iso.read_bytes() == before
    # The patched ISO was never in a file of ours.
    assert {path.suffix for path in site.folder.iterdir()} <= {""}


def line(said: str) -> str:
    """The kernel's command line, from what a machine said."""
    return said.split(f"{BOOTED} <")[1].split(">")[0]
