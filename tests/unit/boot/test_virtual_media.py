"""Boots by virtual media: the order in which a controller is asked, what it may do wrong, and what is left behind."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lab.isolayouts import IsoLayout, make
from libironic_disk import configdrive
from libironic_disk.boot import (
    BootDevice,
    BootTask,
    Instance,
    IsoInstance,
    LocalDisk,
    NetworkRoot,
    Prepared,
    Ramdisk,
    RamdiskInstance,
    WholeDisk,
)
from libironic_disk.boot.inserting import Patience
from libironic_disk.boot.media import Slot
from libironic_disk.boot.publishing import DirectoryPublisher
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.bootiso import open_iso
from libironic_disk.errors import (
    BootTaskBusy,
    InvalidParameterValue,
    MissingParameterValue,
    NotEnoughRoom,
    PathFailed,
    VirtualMediaFailed,
)
from libironic_disk.machine.drives import fat_image
from libironic_disk.machine.isos import building
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.roles import Firmware
from tests.support import oracles
from tests.support.controllers import CD, DVD, FLOPPY, SECOND_CD, STICK, Controller, stale

URL = "http://192.0.2.1/media"
NODE = "6b5a4f0e-0001"
RAMDISK_URL = f"{URL}/ramdisk-{NODE}.iso"
INSTANCE_URL = f"{URL}/instance-{NODE}.iso"
USERS_URL = "https://192.0.2.9/rescue.iso"
PARAMS = {"ipa-api-url": "http://192.0.2.1:6385", "quiet": None}
METADATA = {"meta_data": {"uuid": "1", "hostname": "one"}}
ONCE, ALWAYS = "set_boot_device cdrom once uefi", "set_boot_device cdrom always uefi"


class Site:
    """A directory that is served, one for ISOs that are built, and files to boot."""

    def __init__(self, folder: Path) -> None:
        self.root, self.work, self.files = folder / "root", folder / "work", folder / "files"
        for directory in (self.root, self.work, self.files):
            directory.mkdir()
        self.kernel, self.initrd = self.files / "vmlinuz", self.files / "initrd"
        self.kernel.write_bytes(b"kernel" * 1000)
        self.initrd.write_bytes(b"initrd" * 2000)
        self.drive = configdrive.load(METADATA).data

    def boot(
        self, controller: Controller, *, limit: int | None = None, deploy_iso: Path | None = None
    ) -> VirtualMediaBoot:
        publisher = DirectoryPublisher(self.root, URL)
        patience = Patience(seconds=0.2, pause=0.01)
        return VirtualMediaBoot(publisher, controller, self.work, limit=limit, deploy_iso=deploy_iso, patience=patience)

    def left(self) -> set[str]:
        """What is published, and what is built or remembered, but for the locks of the directories."""
        found = {path.name for folder in (self.root, self.work) for path in folder.iterdir()}
        return found - {".publishing", ".media-lock"}

    def task(self, instance: Instance | None = None, *, ramdisk: bool = True) -> BootTask:
        parameters = KernelParameters(words=("console=ttyS0",))
        system = Ramdisk(kernel=self.kernel, ramdisk=self.initrd, parameters=parameters)
        return BootTask(node=NODE, ramdisk=system if ramdisk else None, instance=instance)

    def network_root(self) -> NetworkRoot:
        return NetworkRoot(kernel=self.kernel, ramdisk=self.initrd, root_uuid="1234-abcd")

    def ramdisk_instance(self, *, drive: bool = False) -> RamdiskInstance:
        config_drive = self.drive if drive else None
        return RamdiskInstance(kernel=self.kernel, ramdisk=self.initrd, config_drive=config_drive)

    def iso(self) -> Path:
        path = self.files / "users.iso"
        return path if path.exists() else make(IsoLayout.GRUB, path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    """ISOs that were built, by what they are made of: the same specification gives the same bytes."""
    return {}


@pytest.fixture(autouse=True)
def _built_once(
    built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most tests boot the same: each ISO is built once, and is there at once where it is built again."""
    build = building.build

    def build_or_copy(spec: BootIsoSpec, destination: Path) -> None:
        contents = tuple(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (spec.kernel, spec.ramdisk))
        key = repr((contents, replace(spec, kernel=Path("kernel"), ramdisk=Path("ramdisk"))))
        if key not in built:
            built[key] = tmp_path_factory.mktemp("built") / "made.iso"
            build(spec, built[key])
        shutil.copyfile(built[key], destination)

    monkeypatch.setattr(building, "build", build_or_copy)


def menu_of(iso: Path) -> str:
    """The menu of an ISO that was built, without quotes, as xorriso reads it."""
    return file_of(iso, "/boot/grub/grub.cfg").replace("'", "").replace('"', "")


def file_of(iso: Path, path: str) -> str:
    place = iso.parent.parent / "extracted"
    place.unlink(missing_ok=True)
    oracles.output("xorriso", "-indev", str(iso), "-osirrox", "on", "-extract", path, str(place))
    return place.read_text()


def test_a_ramdisk_is_prepared_in_the_order_that_hardware_wants(site: Site) -> None:
    controller = Controller(present=(stale(CD), FLOPPY))
    prepared = site.boot(controller).prepare_ramdisk(site.task(), PARAMS)
    # Off before anything comes out, out before in although one slot says that it is empty, and the device last.
    assert controller.calls == ["power_off", "eject cd", "eject floppy", f"insert cd {RAMDISK_URL}", ONCE]
    name = f"ramdisk-{NODE}.iso"
    assert prepared == Prepared(device=BootDevice.CDROM, persistent=False, files=(name,), url=RAMDISK_URL)
    assert controller.inserted() == {"cd": RAMDISK_URL}
    line = f"console=ttyS0 ipa-api-url=http://192.0.2.1:6385 quiet boot_method=vmedia ir_pub_id={NODE}"
    assert line in menu_of(site.root / name)
    assert NODE in oracles.output("xorriso", "-indev", str(site.root / name), "-pvd_info")


def test_it_is_published_before_the_machine_is_touched(site: Site) -> None:
    seen: list[bool] = []
    controller = Controller(whenever=lambda call: seen.append((site.root / f"ramdisk-{NODE}.iso").exists()))
    site.boot(controller).prepare_ramdisk(site.task(), PARAMS)
    assert seen
    assert all(seen)


def test_a_ramdisk_again_and_again_and_cleaned_up_twice(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller)
    first = boot.prepare_ramdisk(site.task(), PARAMS)
    assert boot.prepare_ramdisk(site.task(), PARAMS) == first
    # Whoever takes over knows nothing but the directories.
    other = site.boot(controller)
    assert other.prepare_ramdisk(site.task(), PARAMS) == first
    other.clean_up_ramdisk(site.task())
    assert controller.inserted() == {}
    assert site.left() == set()
    boot.clean_up_ramdisk(site.task())
    site.boot(controller).clean_up_ramdisk(site.task())
    assert site.left() == set()


def test_a_deploy_iso_is_taken_as_it_is_with_the_parameters_in_it(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller, deploy_iso=site.iso())
    boot.prepare_ramdisk(site.task(ramdisk=False), PARAMS)
    with open_iso(site.root / f"ramdisk-{NODE}.iso") as iso:
        lines = [line for config in iso.configs for line in config.lines]
    assert lines
    for line in lines:
        assert {"ipa-api-url=http://192.0.2.1:6385", "boot_method=vmedia"} <= set(line.parameters.words)
    # Nothing of it is in the directory of what is built.
    assert {path.name for path in site.work.iterdir()} <= {".media-lock", f"{NODE}.media"}
    boot.clean_up_ramdisk(site.task())
    assert site.left() == set()


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        pytest.param((DVD, STICK), "dvd", id="only a DVD"),
        pytest.param((DVD, CD), "cd", id="a CD rather than a DVD"),
        pytest.param(
            (STICK, replace(CD, id="system", group="S"), replace(CD, group="M")), "system", id="systems first"
        ),
    ],
)
def test_which_slot_is_taken(site: Site, present: tuple[Slot, ...], taken: str) -> None:
    controller = Controller(present=present)
    site.boot(controller).prepare_ramdisk(site.task(), {})
    assert list(controller.inserted()) == [taken]


def test_a_slot_that_refuses_or_shows_nothing_is_left_for_the_next(site: Site) -> None:
    slots = (replace(CD, id="a"), replace(CD, id="b"), replace(CD, id="c"))
    controller = Controller(present=slots, refuses={"a"}, ignores={"b"}, looks=3)
    site.boot(controller).prepare_ramdisk(site.task(), {})
    assert controller.inserted() == {"c": RAMDISK_URL}
    assert controller.calls[-4:] == [f"insert b {RAMDISK_URL}", "eject b", f"insert c {RAMDISK_URL}", ONCE]


def test_a_controller_that_says_nothing_of_what_is_inserted(site: Site) -> None:
    controller = Controller(nameless=True)
    boot = site.boot(controller)
    boot.prepare_ramdisk(site.task(), {})
    boot.clean_up_ramdisk(site.task())
    assert controller.inserted() == {}
    task = site.task(site.network_root())
    boot.prepare_instance(task)
    # What is in is the instance's, which came after it.
    boot.clean_up_ramdisk(task)
    assert controller.inserted() == {"cd": INSTANCE_URL}
    boot.clean_up_instance(task)
    assert controller.inserted() == {}


def test_what_a_controller_shows_need_be_no_url(site: Site) -> None:
    strange = "http://[virtual media/left.iso"
    controller = Controller(present=(CD, replace(SECOND_CD, inserted=True, url=strange)))
    boot = site.boot(controller)
    boot.prepare_ramdisk(site.task(), {})
    assert controller.inserted() == {"cd": RAMDISK_URL}
    controller.present = (*controller.present, replace(STICK, inserted=True, url=strange))
    boot.clean_up_ramdisk(site.task())
    assert controller.inserted() == {"stick": strange}
    assert site.left() == set()


@pytest.mark.parametrize(
    "controller",
    [
        pytest.param(Controller(present=(FLOPPY,)), id="no CD"),
        pytest.param(Controller(present=()), id="nothing at all"),
        pytest.param(Controller(refuses={"cd"}), id="refuses"),
        pytest.param(Controller(ignores={"cd"}), id="shows nothing"),
        pytest.param(Controller(fails={"power_off"}), id="stays on"),
        pytest.param(Controller(fails={"insert"}), id="fails to insert"),
        pytest.param(Controller(fails={"set_boot_device"}), id="has no such device"),
        pytest.param(Controller(present=(stale(CD),), stuck={"cd"}), id="keeps what is in it"),
    ],
)
def test_what_fails_leaves_nothing(site: Site, controller: Controller) -> None:
    before = controller.inserted()
    attempts: tuple[Callable[[VirtualMediaBoot], Prepared], ...] = (
        lambda boot: boot.prepare_ramdisk(site.task(), {}),
        lambda boot: boot.prepare_instance(site.task(site.network_root())),
    )
    for attempt in attempts:
        with pytest.raises(VirtualMediaFailed) as caught:
            attempt(site.boot(controller))
        assert caught.value.node == NODE
        assert caught.value.reason
        assert site.left() == set()
        assert controller.inserted() == before
        assert controller.device is None


def test_the_first_error_is_the_one_that_is_raised(site: Site) -> None:
    controller = Controller(fails={"set_boot_device"}, stuck={"cd"})
    with pytest.raises(VirtualMediaFailed, match="set_boot_device") as caught:
        site.boot(controller).prepare_ramdisk(site.task(), {})
    assert "HTTP 500" in str(caught.value)
    # What can't be ejected is withdrawn all the same.
    assert site.left() == set()


def test_cleaning_up_withdraws_even_if_the_controller_is_gone(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller)
    boot.prepare_ramdisk(site.task(), {})
    controller.fails = {"slots"}
    with pytest.raises(VirtualMediaFailed):
        boot.clean_up_ramdisk(site.task())
    assert site.left() == set()


@pytest.mark.parametrize("instance", [LocalDisk(), WholeDisk()])
def test_a_local_disk_is_booted_with_no_medium_left_and_the_power_as_it_was(site: Site, instance: Instance) -> None:
    controller = Controller(present=(stale(CD), stale(FLOPPY)))
    boot = site.boot(controller)
    boot.prepare_ramdisk(site.task(), {})
    controller.taken()
    prepared = boot.prepare_instance(site.task(instance))
    assert prepared == Prepared(device=BootDevice.DISK, persistent=True)
    assert controller.calls[-3:] == ["eject cd", "eject floppy", "set_boot_device disk always uefi"]
    assert "power_off" not in controller.calls
    assert controller.inserted() == {}
    boot.clean_up_ramdisk(site.task())
    boot.clean_up_instance(site.task(instance))
    assert site.left() == set()


def test_a_root_on_the_disk_with_its_kernel_on_the_medium(site: Site) -> None:
    controller = Controller()
    prepared = site.boot(controller).prepare_instance(site.task(site.network_root()))
    assert prepared == Prepared(
        device=BootDevice.CDROM, persistent=True, files=(f"instance-{NODE}.iso",), url=INSTANCE_URL
    )
    assert "root=UUID=1234-abcd ro" in menu_of(site.root / f"instance-{NODE}.iso")
    assert controller.calls[-1] == ALWAYS


def test_a_machine_that_runs_from_its_media_is_left_alone(site: Site) -> None:
    """A controller that has taken it over makes them available again, and no more."""
    controller = Controller()
    task = site.task(site.ramdisk_instance(drive=True))
    first = site.boot(controller).prepare_instance(task)
    controller.taken()
    for path in site.root.iterdir():
        path.unlink()
    assert site.boot(controller).prepare_instance(task) == first
    assert controller.taken() == [ALWAYS]
    assert {f"instance-{NODE}.iso", f"config-{NODE}.img"} <= site.left()
    # Even when the controller doesn't answer, nothing is taken from it.
    controller.fails = {"slots"}
    with pytest.raises(VirtualMediaFailed):
        site.boot(controller).prepare_instance(task)
    assert len(controller.inserted()) == 2
    assert {f"instance-{NODE}.iso", f"config-{NODE}.img"} <= site.left()


def test_what_runs_is_made_available_again_without_more_room(site: Site) -> None:
    """Although an ISO that is built is promised more room than it takes in the end."""
    controller = Controller()
    task = site.task(site.ramdisk_instance())
    site.boot(controller).prepare_instance(task)
    place = site.work / f"instance-{NODE}.iso"
    before = place.stat()
    site.boot(controller, limit=before.st_size).prepare_instance(task)
    assert place.stat().st_mtime_ns == before.st_mtime_ns
    place.unlink()
    site.boot(controller).prepare_instance(task)
    assert place.exists()
    assert controller.calls.count("power_off") == 1


def test_a_ramdisk_that_can_not_be_made_leaves_the_instance_in(site: Site) -> None:
    controller = Controller(nameless=True)
    task = site.task(site.network_root())
    site.boot(controller).prepare_instance(task)
    with pytest.raises(NotEnoughRoom):
        site.boot(controller, limit=1).prepare_ramdisk(task, {})
    assert controller.inserted() == {"cd": INSTANCE_URL}


def test_another_instance_is_put_in_although_its_url_is_the_same(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller)
    boot.prepare_instance(site.task(site.network_root()))
    controller.taken()
    other = replace(site.network_root(), root_uuid="other")
    boot.prepare_instance(site.task(other))
    assert controller.taken() == ["power_off", "eject cd", "eject floppy", f"insert cd {INSTANCE_URL}", ALWAYS]
    # So is the same one when a file of it became another.
    site.initrd.write_bytes(b"new")
    boot.prepare_instance(site.task(other))
    assert controller.taken()[0] == "power_off"
    # And when somebody else has ejected it.
    controller.eject(NODE, "cd")
    controller.taken()
    boot.prepare_instance(site.task(other))
    assert controller.taken()[0] == "power_off"


@pytest.mark.parametrize(
    ("present", "slot", "suffix"),
    [
        pytest.param((CD, FLOPPY, STICK), "stick", "img", id="a stick rather than a floppy"),
        pytest.param((FLOPPY, CD), "floppy", "img", id="a floppy"),
        pytest.param((CD, SECOND_CD), "cd2", "iso", id="another CD"),
    ],
)
def test_a_config_drive_is_a_second_medium(site: Site, present: tuple[Slot, ...], slot: str, suffix: str) -> None:
    floppy = replace(FLOPPY, kinds=frozenset(FLOPPY.kinds - STICK.kinds))
    controller = Controller(present=tuple(floppy if each is FLOPPY else each for each in present))
    boot = site.boot(controller)
    task = site.task(site.ramdisk_instance(drive=True))
    prepared = boot.prepare_instance(task)
    name = f"config-{NODE}.{suffix}"
    assert controller.inserted() == {"cd": INSTANCE_URL, slot: f"{URL}/{name}"}
    assert prepared.files == (f"instance-{NODE}.iso", name)
    assert (site.root / name).read_bytes() == site.drive
    boot.clean_up_instance(task)
    assert controller.inserted() == {}
    assert site.left() == set()


@pytest.mark.parametrize("fat", [False, True], ids=["iso9660", "fat"])
def test_a_config_drive_is_in_the_iso_where_there_is_no_second_slot(site: Site, fat: bool) -> None:
    instance = site.ramdisk_instance(drive=True)
    files = {"openstack/latest/meta_data.json": b'{"uuid": "1"}'}
    if fat:
        # A kernel mounts no FAT from a CD, so another CD drive is no place for it.
        drive = fat_image.make(files, sector_size=512, label="CONFIG-2")
        instance = replace(instance, config_drive=drive)
    controller = Controller(present=(CD, SECOND_CD) if fat else (CD,))
    boot = site.boot(controller)
    boot.prepare_instance(site.task(instance))
    assert controller.inserted() == {"cd": INSTANCE_URL}
    iso = site.root / f"instance-{NODE}.iso"
    assert oracles.blkid(str(iso))["LABEL"] == "config-2"
    assert '"uuid": "1"' in file_of(iso, "/openstack/latest/meta_data.json")
    boot.clean_up_instance(site.task(instance))
    assert site.left() == set()


def test_two_views_of_one_drive_are_not_two_drives(site: Site) -> None:
    controller = Controller(present=(replace(CD, group="S"), replace(CD, id="same", group="M")))
    site.boot(controller).prepare_instance(site.task(site.ramdisk_instance(drive=True)))
    assert controller.inserted() == {"cd": INSTANCE_URL}


def test_a_config_drive_beside_a_users_iso_needs_a_slot(site: Site) -> None:
    controller = Controller(present=(CD,))
    task = site.task(IsoInstance(iso=site.iso(), config_drive=site.drive))
    with pytest.raises(InvalidParameterValue, match="no slot for the config drive"):
        site.boot(controller).prepare_instance(task)
    assert controller.calls == []
    assert site.left() == set()


def test_a_slot_that_refuses_the_config_drive_is_left_for_the_next(site: Site) -> None:
    controller = Controller(present=(CD, STICK, SECOND_CD), refuses={"stick"})
    boot = site.boot(controller)
    boot.prepare_instance(site.task(site.ramdisk_instance(drive=True)))
    assert controller.inserted() == {"cd": INSTANCE_URL, "cd2": f"{URL}/config-{NODE}.iso"}
    controller = Controller(present=(CD, STICK), refuses={"stick"})
    with pytest.raises(VirtualMediaFailed, match="405"):
        site.boot(controller).prepare_instance(site.task(site.ramdisk_instance(drive=True)))
    assert controller.inserted() == {}
    assert site.left() == set()


def test_a_users_iso_without_changes_is_linked_and_its_url_taken_as_it_is(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller)
    iso = site.iso()
    boot.prepare_instance(site.task(IsoInstance(iso=iso)))
    assert (site.root / f"instance-{NODE}.iso").samefile(iso)
    assert controller.device == (BootDevice.CDROM, True)
    task = site.task(IsoInstance(iso=USERS_URL))
    assert boot.prepare_instance(task) == Prepared(device=BootDevice.CDROM, persistent=True, url=USERS_URL)
    assert controller.inserted() == {"cd": USERS_URL}
    boot.clean_up_instance(task)
    assert controller.inserted() == {}
    assert site.left() == set()
    assert iso.stat().st_nlink == 1


def test_a_users_iso_with_changes(site: Site) -> None:
    controller = Controller()
    change = ParameterChange(append=KernelParameters(words=("ours=1",)))
    instance = IsoInstance(iso=site.iso(), parameters=change, files={"/extra.txt": b"extra"})
    before = site.iso().read_bytes()
    boot = site.boot(controller)
    boot.prepare_instance(site.task(instance))
    with open_iso(site.root / f"instance-{NODE}.iso") as iso:
        assert iso.read("/extra.txt") == b"extra"
        assert all("ours=1" in line.parameters.words for config in iso.configs for line in config.lines)
    assert site.iso().read_bytes() == before
    boot.clean_up_instance(site.task(instance))
    assert site.left() == set()


def test_one_shot_is_for_one_boot_and_nothing_of_it_is_made_again(site: Site) -> None:
    controller = Controller()
    task = site.task(IsoInstance(iso=site.iso(), one_shot=True))
    boot = site.boot(controller)
    assert boot.prepare_instance(task).persistent is False
    assert controller.taken()[-1] == ONCE
    (site.root / f"instance-{NODE}.iso").unlink()
    # Taken over: the machine has had its boot.
    assert site.boot(controller).prepare_instance(task) == Prepared(device=BootDevice.CDROM, persistent=False)
    assert controller.taken() == []
    assert not (site.root / f"instance-{NODE}.iso").exists()
    boot.clean_up_instance(task)
    assert controller.inserted() == {}
    assert site.left() == set()
    # Deployed anew, it boots anew.
    boot.prepare_instance(task)
    assert controller.taken()[-1] == ONCE


def test_two_tasks_of_one_machine_at_once(site: Site) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stop(call: str) -> None:
        inside.set()
        assert leave.wait(20)

    first = threading.Thread(target=site.boot(Controller(whenever=stop)).prepare_ramdisk, args=(site.task(), {}))
    first.start()
    try:
        assert inside.wait(20)
        controller = Controller()
        other = site.boot(controller)
        task = site.task(LocalDisk())
        for attempt in (
            lambda: other.prepare_ramdisk(task, {}),
            lambda: other.prepare_instance(task),
            lambda: other.clean_up_ramdisk(task),
            lambda: other.clean_up_instance(task),
        ):
            with pytest.raises(BootTaskBusy) as caught:
                attempt()
            assert caught.value.subject == NODE
        assert controller.calls == []
        other.prepare_ramdisk(replace(site.task(), node="another"), {})
    finally:
        leave.set()
        first.join()


def test_all_isos_together_stay_below_the_limit(site: Site) -> None:
    controller = Controller()
    boot = site.boot(controller)
    boot.prepare_ramdisk(site.task(), {})
    size = (site.work / f"ramdisk-{NODE}.iso").stat().st_size
    # An ISO is estimated larger than it becomes, and from then on it counts as large as it is.
    limited = site.boot(controller, limit=size + 1000)
    limited_task = replace(site.task(), node="second")
    with pytest.raises(NotEnoughRoom) as caught:
        limited.prepare_ramdisk(limited_task, {})
    assert caught.value.available == 1000
    assert caught.value.wanted > size
    assert {path for path in site.left() if "second" in path} == set()
    boot.clean_up_ramdisk(site.task())
    site.boot(controller, limit=caught.value.wanted).prepare_ramdisk(limited_task, {})


def test_a_crash_at_any_call_is_cleaned_up_by_whoever_comes_next(site: Site) -> None:
    class Crashed(BaseException):
        pass

    calls = Controller()
    task = site.task(site.ramdisk_instance(drive=True))
    site.boot(calls).prepare_instance(task)
    site.boot(calls).clean_up_instance(task)
    count = 6

    for number in range(count):
        controller = Controller()
        left = [number]

        def die(call: str, left: list[int] = left, controller: Controller = controller) -> None:
            if not left[0]:
                # As if killed: nothing that is undone on the way out reaches the controller.
                controller.fails = {"slots", "eject", "insert"}
                raise Crashed
            left[0] -= 1

        controller.whenever = die
        with pytest.raises(Crashed):
            site.boot(controller).prepare_instance(task)
        controller.whenever, controller.fails = lambda call: None, ()
        site.boot(controller).clean_up_instance(task)
        assert controller.inserted() == {}
        assert site.left() == set()


def test_a_medium_that_is_shown_after_its_eject_is_told(site: Site) -> None:
    controller = Controller()
    task = site.task(site.ramdisk_instance(drive=True))
    boot = site.boot(controller)
    boot.prepare_instance(task)
    controller.lying = {"cd"}
    with pytest.raises(
        VirtualMediaFailed, match=r"eject a medium at cd: it answered that it did, and shows http\S* still"
    ):
        boot.clean_up_instance(task)
    assert site.left() == set()
    controller.lying = ()
    boot.clean_up_instance(task)
    assert controller.inserted() == {}


def test_what_a_killed_process_left_of_its_record_and_files(site: Site) -> None:
    (site.work / f"{NODE}.media").write_bytes(b'{"ramdisk": 12')
    (site.work / f"ramdisk-{NODE}.iso").write_bytes(b"half")
    (site.root / f"ramdisk-{NODE}.iso").write_bytes(b"half")
    boot = site.boot(Controller())
    boot.clean_up_ramdisk(site.task())
    assert site.left() == set()


@pytest.mark.parametrize("again", [False, True])
def test_what_a_process_left_that_was_killed_while_it_built(
    site: Site, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    def killed(spec: BootIsoSpec, destination: Path) -> None:
        # As the real one: a file and a directory beside the place, with names that nobody can know afterwards.
        destination.with_name(f".{destination.name}-0123abcd").write_bytes(b"half")
        destination.with_name(f".{destination.name[:32]}-x_y").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        monkeypatch.setattr(building, "build", killed)
        with suppress(BaseException):
            site.boot(Controller()).prepare_ramdisk(site.task(), PARAMS)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    boot = site.boot(Controller())
    if again:
        boot.prepare_ramdisk(site.task(), PARAMS)
        assert site.left() == {f"ramdisk-{NODE}.iso", f"{NODE}.media"}
    boot.clean_up_ramdisk(site.task())
    assert site.left() == set()


BAD: Mapping[str, tuple[Instance | None, str]] = {
    "kernel is a URL": (
        NetworkRoot(kernel="http://192.0.2.1/vmlinuz", ramdisk=Path("/none"), root_uuid="1"),
        "http://192.0.2.1/vmlinuz has to be a file",
    ),
    "no kernel": (NetworkRoot(kernel=Path("/none"), ramdisk=Path("/none"), root_uuid="1"), "/none"),
    "no iso": (IsoInstance(iso=Path("/none.iso")), "/none.iso"),
    "a url that is to be changed": (IsoInstance(iso=USERS_URL, files={"/a": b""}), "it is to be changed"),
    "no url for a controller": (IsoInstance(iso="tftp://192.0.2.1/a.iso"), "no URL that a controller could fetch"),
    "no config drive": (IsoInstance(iso=USERS_URL, config_drive=b"nothing"), "base64"),
}


def test_paths_in_an_iso_that_climb_out_are_refused(site: Site) -> None:
    for path in ("/../etc/passwd", "../up", "/a/../../b", ""):
        task = site.task(IsoInstance(iso=site.iso(), files={path: b""}))
        with pytest.raises(InvalidParameterValue):
            site.boot(Controller(fails={"slots"})).prepare_instance(task)
    assert site.left() == set()


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_booted_is_refused_before_the_controller_is_asked(site: Site, name: str) -> None:
    instance, words = BAD[name]
    controller = Controller(fails={"slots"})
    boot = site.boot(controller)
    task = site.task(instance)
    for attempt in (boot.validate, boot.prepare_instance):
        with pytest.raises(InvalidParameterValue) as caught:
            attempt(task)
        assert words in str(caught.value)
    assert site.left() == set()


def test_an_iso_that_boots_nothing_is_refused(site: Site) -> None:
    path = site.files / "data.iso"
    path.write_bytes(site.drive)
    task = site.task(IsoInstance(iso=path))
    with pytest.raises(InvalidParameterValue, match="boot record"):
        site.boot(Controller()).validate(task)
    with pytest.raises(InvalidParameterValue, match="boot record"):
        site.boot(Controller(), deploy_iso=path).prepare_ramdisk(site.task(ramdisk=False), {})


def test_validate_says_everything_at_once_and_asks_nobody(site: Site) -> None:
    controller = Controller(fails={"slots"})
    boot = site.boot(controller)
    boot.validate(site.task(site.ramdisk_instance(drive=True)))
    boot.validate(site.task(LocalDisk(), ramdisk=False))
    with pytest.raises(MissingParameterValue) as missing:
        boot.validate(site.task(ramdisk=False))
    assert missing.value.names == ("ramdisk", "instance")
    wrong = Ramdisk(kernel="http://192.0.2.1/a", ramdisk="http://192.0.2.1/b")
    instance = IsoInstance(iso="ftp://a", config_drive=b"nothing")
    with pytest.raises(InvalidParameterValue) as invalid:
        boot.validate(replace(site.task(instance), ramdisk=wrong))
    assert len(invalid.value.problems) == 4
    with pytest.raises(MissingParameterValue):
        boot.prepare_ramdisk(site.task(ramdisk=False), {})
    with pytest.raises(MissingParameterValue):
        boot.prepare_instance(site.task())


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/a.iso",
        "http://192.0.2.1:99999/a.iso",
        "http://192.0.2.1:port/a.iso",
        "http://\u2100/a.iso",
        "http://192.0.2.1/a b.iso",
        "http://192.0.2.1/a.iso\r\nHost: other",
        "http://operator:secret@192.0.2.1/a.iso",
        "tftp://192.0.2.1/a.iso",
    ],
)
def test_what_is_no_url_for_a_controller_is_refused(site: Site, url: str) -> None:
    controller = Controller()
    boot, task = site.boot(controller), site.task(IsoInstance(iso=url))
    for attempt in (boot.validate, boot.prepare_instance):
        with pytest.raises(InvalidParameterValue, match="no URL that a controller could fetch"):
            attempt(task)
    assert controller.calls == []


@pytest.mark.parametrize("params", [{"a b": "1"}, {"": "1"}, {"a": 'x"y'}, {"a": "x\ny"}, {"a": "'"}])
def test_parameters_that_would_break_out_are_refused(site: Site, params: Mapping[str, str]) -> None:
    controller = Controller()
    with pytest.raises(InvalidParameterValue):
        site.boot(controller).prepare_ramdisk(site.task(), params)
    assert controller.calls == []
    assert site.left() == set()


def test_properties_are_fields_of_a_task(site: Site) -> None:
    names = set(BootTask.__dataclass_fields__)
    properties = site.boot(Controller()).get_properties()
    assert set(properties) == names - {"macs"}
    assert all(properties.values())


def test_a_bios_is_told_so(site: Site) -> None:
    controller = Controller()
    site.boot(controller).prepare_ramdisk(replace(site.task(), firmware=Firmware.BIOS), {})
    assert controller.calls[-1] == "set_boot_device cdrom once bios"


def test_a_directory_that_is_not_there_is_named(site: Site) -> None:
    site.work.rmdir()
    with pytest.raises(PathFailed, match=r"work/.*\.media.*No such file"):
        site.boot(Controller()).prepare_ramdisk(site.task(), {})


def test_a_medium_that_cannot_be_remembered_is_taken_out_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller()
    once = site.task(IsoInstance(iso="http://192.0.2.9/rescue.iso", one_shot=True))

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(PathFailed, match="No space left"):
            site.boot(controller).prepare_instance(once)
    assert controller.inserted() == {}
    assert site.left() == set()
    site.boot(controller).prepare_instance(once)
    assert list(controller.inserted().values()) == ["http://192.0.2.9/rescue.iso"]
