"""Redfish through sushy: against sushy-tools' emulator, and against a service with the faults of hardware."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import mediaserver
from libironic_disk.boot import BootDevice, BootTask, LocalDisk, Ramdisk, RamdiskInstance
from libironic_disk.boot.inserting import Patience
from libironic_disk.boot.media import MediaKind
from libironic_disk.boot.redfish import RedfishNode, RedfishVirtualMedia, Timing
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.configdrive import load
from libironic_disk.errors import SlotRefused, VirtualMediaFailed
from libironic_disk.pure.roles import Firmware
from tests.support import redfish
from tests.support.redfish import Json, Service

QUICK = Timing(connect=2, answer=10, attempts=3, pause=0.01, settle=0.3)
SYSTEM, MANAGER = "/redfish/v1/Systems/1", "/redfish/v1/Managers/1"
URL = "http://192.0.2.1/a.iso"


@pytest.fixture
def service() -> Iterator[Service]:
    with redfish.service() as found:
        yield found


def client(url: str, *, system: str | None = None, timing: Timing = QUICK) -> RedfishVirtualMedia:
    return RedfishVirtualMedia({"node": RedfishNode(address=url, system=system)}, timing=timing)


def times(count: int, status: int, then: Callable[[Json], int]) -> Callable[[Json], int]:
    """Answer with an error so often, and do it then."""
    left = [count]

    def act(asked: Json) -> int:
        left[0] -= 1
        return status if left[0] >= 0 else then(asked)

    return act


def test_slots_of_the_system_come_before_those_of_its_manager(service: Service) -> None:
    service.media(MANAGER, {"Cd": ["CD", "DVD"]})
    service.media(SYSTEM, {"1": ["DVD", "Hologram"], "2": ["USBStick", "Floppy"], "3": None})
    found = client(service.url).slots("node")
    assert [slot.id.removeprefix("/redfish/v1/") for slot in found] == [
        *(f"Systems/1/VirtualMedia/{number}" for number in "123"),
        "Managers/1/VirtualMedia/Cd",
    ]
    assert [set(slot.kinds) for slot in found] == [
        {MediaKind.DVD},
        {MediaKind.USB_STICK, MediaKind.FLOPPY},
        set(),
        {MediaKind.CD, MediaKind.DVD},
    ]
    assert found[0].group == found[1].group != found[3].group
    assert not any(slot.inserted or slot.url for slot in found)


def test_inserted_shown_and_ejected(service: Service) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']})}/Cd"
    media = client(service.url)
    media.insert("node", path, URL)
    (slot,) = media.slots("node")
    assert (slot.inserted, slot.url) == (True, URL)
    media.eject("node", path)
    media.eject("node", path)
    assert not media.slots("node")[0].inserted


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_slot_that_can_not_says_so(service: Service, status: int) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']})}/Cd"
    service.actions[f"{path}/Actions/InsertMedia"] = lambda asked: status
    with pytest.raises(SlotRefused) as caught:
        client(service.url).insert("node", path, URL)
    error = caught.value
    assert (error.node, error.slot, error.operation) == ("node", path, "insert a medium")
    assert str(status) in error.reason or "not found" in error.reason


def test_a_slot_without_the_action_says_so(service: Service) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']}, actions=False)}/Cd"
    media = client(service.url)
    with pytest.raises(SlotRefused, match="missing"):
        media.insert("node", path, URL)
    with pytest.raises(SlotRefused, match="missing"):
        media.eject("node", path)


def test_a_busy_controller_is_asked_again_and_one_that_stays_so_given_up(service: Service) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']})}/Cd"
    action = f"{path}/Actions/InsertMedia"
    insert = service.actions[action]
    service.actions[action] = times(2, 503, insert)
    media = client(service.url)
    media.insert("node", path, URL)
    assert media.slots("node")[0].inserted
    service.actions[action] = times(3, 500, insert)
    with pytest.raises(VirtualMediaFailed, match="HTTP 500: hardware says 500") as caught:
        media.insert("node", path, URL)
    assert not isinstance(caught.value, SlotRefused)
    assert len(service.asked("POST")) == 6


def test_an_eject_that_is_refused_is_asked_for_again_and_then_told(service: Service) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']})}/Cd"
    media = client(service.url)
    media.insert("node", path, URL)
    action = f"{path}/Actions/EjectMedia"
    eject = service.actions[action]
    service.actions[action] = times(2, 500, eject)
    media.eject("node", path)
    assert not media.slots("node")[0].inserted
    service.actions[action] = times(3, 500, eject)
    # There is nothing in it.
    media.eject("node", path)
    media.insert("node", path, URL)
    service.actions[action] = times(3, 503, eject)
    with pytest.raises(VirtualMediaFailed, match=r"eject a medium.*HTTP 503: .*hardware says 503") as caught:
        media.eject("node", path)
    assert caught.value.slot == path
    assert media.slots("node")[0].inserted


def test_a_slow_eject_is_waited_for_and_a_stale_one_not_for_ever(service: Service) -> None:
    path = f"{service.media(SYSTEM, {'Cd': ['CD']})}/Cd"
    media = client(service.url)
    media.insert("node", path, URL)
    page = service.pages[path]
    eject = service.actions[f"{path}/Actions/EjectMedia"]
    service.actions[f"{path}/Actions/EjectMedia"] = lambda asked: 204
    began = time.monotonic()
    # It says that something is in for ever: what is inserted next decides.
    media.eject("node", path)
    assert QUICK.settle <= time.monotonic() - began < 5
    looks = itertools.count()

    def look(asked: Json) -> int:
        if next(looks) == 3:
            eject({})
        return 200

    service.actions[f"GET {path}"] = look
    media.eject("node", path)
    assert page["Inserted"] is False


def test_the_boot_device_without_the_mode_where_nobody_may_set_it(service: Service) -> None:
    def patch(asked: Json) -> int:
        boot = asked["Boot"]
        assert isinstance(boot, dict)
        return 400 if "BootSourceOverrideMode" in boot else 204

    service.actions[f"PATCH {SYSTEM}"] = patch
    client(service.url).set_boot_device("node", BootDevice.CDROM, persistent=False, firmware=Firmware.UEFI)
    target = {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}
    assert [body["Boot"] for _, body in service.asked("PATCH")] == [target | {"BootSourceOverrideMode": "UEFI"}, target]
    service.actions[f"PATCH {SYSTEM}"] = lambda asked: 204
    client(service.url).set_boot_device("node", BootDevice.DISK, persistent=True, firmware=Firmware.BIOS)
    assert service.asked("PATCH")[-1][1]["Boot"] == {
        "BootSourceOverrideTarget": "Hdd",
        "BootSourceOverrideEnabled": "Continuous",
        "BootSourceOverrideMode": "Legacy",
    }


def test_a_virtual_cd_that_is_only_known_as_one_on_usb(service: Service) -> None:
    service.pages[SYSTEM]["Boot"] = {"BootSourceOverrideTarget@Redfish.AllowableValues": ["Hdd", "UsbCd"]}
    service.actions[f"PATCH {SYSTEM}"] = lambda asked: 204
    media = client(service.url)
    media.set_boot_device("node", BootDevice.CDROM, persistent=False, firmware=Firmware.UEFI)
    boot = service.asked("PATCH")[0][1]["Boot"]
    assert isinstance(boot, dict)
    assert boot["BootSourceOverrideTarget"] == "UsbCd"
    with pytest.raises(VirtualMediaFailed, match="set the boot device to uefihttp"):
        media.set_boot_device("node", BootDevice.UEFI_HTTP, persistent=False, firmware=Firmware.UEFI)


def test_the_power_is_cut_and_waited_for(service: Service) -> None:
    page = service.pages[SYSTEM]
    media = client(service.url)
    media.power_off("node")
    assert service.asked("POST") == []
    page["PowerState"] = "On"

    def reset(asked: Json) -> int:
        page["PowerState"] = "Off"
        return 204

    service.actions[f"{SYSTEM}/Actions/Reset"] = reset
    media.power_off("node")
    assert service.asked("POST") == [(f"{SYSTEM}/Actions/Reset", {"ResetType": "ForceOff"})]
    page["PowerState"] = "On"
    service.actions[f"{SYSTEM}/Actions/Reset"] = lambda asked: 204
    with pytest.raises(VirtualMediaFailed, match=r"still on after 0\.3 s"):
        media.power_off("node")


def test_who_is_not_there_does_not_answer_or_answers_nonsense(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(VirtualMediaFailed, match="Unable to connect"):
        client(f"http://127.0.0.1:{port}").slots("node")
    with pytest.raises(VirtualMediaFailed, match="nobody said where"):
        client(service.url).slots("other")
    with pytest.raises(VirtualMediaFailed):
        client(service.url, system="/redfish/v1/Systems/9").power_off("node")
    service.media(SYSTEM, {"Cd": ["CD"]})
    members: object
    for members in (7, [7], [{"@odata.id": 5}], {"a": "b"}):
        service.pages[f"{SYSTEM}/VirtualMedia"] = {"Name": "n", "Members": members}
        with pytest.raises(VirtualMediaFailed):
            client(service.url).slots("node")


def test_a_controller_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        media = client(f"http://127.0.0.1:{silent.getsockname()[1]}", timing=Timing(answer=0.2, attempts=1, pause=0))
        with pytest.raises(VirtualMediaFailed, match="timed out"):
            media.slots("node")


def test_a_password_is_shown_nowhere() -> None:
    password = "-".join(("very", "secret"))
    assert password not in repr(RedfishNode(address="https://192.0.2.7", username="admin", password=password))


def test_nothing_else_needs_sushy() -> None:
    program = (
        "import sys, libironic_disk.boot, libironic_disk.boot.virtual_media as v; sys.exit('sushy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redfish.emulator(tmp_path_factory.mktemp("emulator")) as url:
        yield url


def test_the_emulator_boots_what_is_prepared(emulated: str, tmp_path: Path) -> None:
    """All of it by protocols of others: it fetches the ISO from us by itself when it is inserted."""
    for name in ("vmlinuz", "initrd"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    files = (tmp_path / "vmlinuz", tmp_path / "initrd")
    drive = load({"meta_data": {"uuid": "1"}}).data
    instance = RamdiskInstance(kernel=files[0], ramdisk=files[1], config_drive=drive)
    task = BootTask(node="node", ramdisk=Ramdisk(kernel=files[0], ramdisk=files[1]), instance=instance)
    media = client(emulated, system=redfish.SYSTEM, timing=Timing(pause=0.05))
    with mediaserver.running() as (url, listening):
        served = ServedMedia(url)
        listening.set_app(served)
        boot = VirtualMediaBoot(served, media, tmp_path, patience=Patience(seconds=5, pause=0.05))
        prepared = boot.prepare_ramdisk(task, {"ipa-api-url": "http://192.0.2.1"})
        assert {slot.url for slot in media.slots("node") if slot.inserted} == {prepared.url}
        assert boot_of(emulated) == "Cd"
        boot.clean_up_ramdisk(task)
        assert not any(slot.inserted for slot in media.slots("node"))
        boot.prepare_instance(task)
        inserted = {slot.url for slot in media.slots("node") if slot.inserted}
        assert inserted == {f"{url}/instance-node.iso", f"{url}/config-node.img"}
        boot.clean_up_instance(task)
        boot.prepare_instance(BootTask(node="node", instance=LocalDisk()))
        assert not any(slot.inserted for slot in media.slots("node"))
        assert boot_of(emulated) == "Hdd"
    assert [path.name for path in tmp_path.iterdir() if path.suffix in {".iso", ".img", ".media"}] == []


def boot_of(url: str) -> object:
    """How long it stays so the emulator doesn't keep."""
    boot = redfish.page(f"{url}{redfish.SYSTEM}")["Boot"]
    assert isinstance(boot, dict)
    return boot["BootSourceOverrideTarget"]


def test_the_emulator_says_why_it_can_not_fetch(emulated: str) -> None:
    media = client(emulated, system=redfish.SYSTEM)
    slot = media.slots("node")[0]
    with pytest.raises(VirtualMediaFailed) as caught:
        media.insert("node", slot.id, "http://127.0.0.1:9/none.iso")
    assert caught.value.slot == slot.id
    assert caught.value.reason
    assert not media.slots("node")[0].inserted
