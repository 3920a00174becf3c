"""What a controller may rely on whichever boot interface a machine has, a third party's included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libironic_disk.boot import (
    BootDevice,
    BootInterface,
    BootTask,
    HTTPBoot,
    HttpLoader,
    IPXEBoot,
    LocalDisk,
    MacAddress,
    Prepared,
    PXEBoot,
    Ramdisk,
    RamdiskInstance,
)
from libironic_disk.boot.inserting import Patience
from libironic_disk.boot.serving import ServedMedia
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.errors import InvalidParameterValue, MissingParameterValue
from libironic_disk.machine.isos import building
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.netboot.task import as_parameters
from tests.support.controllers import Controller
from tests.support.netboot import small_loaders

PARAMS: Mapping[str, str | None] = {"ipa-api-url": "http://192.0.2.1:6385", "quiet": None}


class Chalked(BootInterface):
    """A third party's: somebody writes on a blackboard what a machine boots. It needs the base class only."""

    def __init__(self, board: Path) -> None:
        self._board = board

    def get_properties(self) -> Mapping[str, str]:
        return {"ramdisk": "what is written on the board"}

    def validate(self, task: BootTask) -> None:
        if task.ramdisk is None and task.instance is None:
            raise MissingParameterValue(names=("ramdisk",))

    def prepare_ramdisk(self, task: BootTask, ramdisk_params: Mapping[str, str | None]) -> Prepared:
        if task.ramdisk is None:
            raise MissingParameterValue(names=("ramdisk",))
        (self._board / f"{task.node}-ramdisk").write_text(str(as_parameters(ramdisk_params)))
        return Prepared(device=BootDevice.PXE, persistent=False, files=(f"{task.node}-ramdisk",))

    def clean_up_ramdisk(self, task: BootTask) -> None:
        (self._board / f"{task.node}-ramdisk").unlink(missing_ok=True)

    def prepare_instance(self, task: BootTask) -> Prepared:
        if task.instance is None:
            raise MissingParameterValue(names=("instance",))
        if isinstance(task.instance, LocalDisk):
            return Prepared(device=BootDevice.DISK, persistent=True)
        (self._board / f"{task.node}-instance").write_text("RAM disk")
        return Prepared(device=BootDevice.PXE, persistent=True, files=(f"{task.node}-instance",))

    def clean_up_instance(self, task: BootTask) -> None:
        (self._board / f"{task.node}-instance").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An interface to be tested: made as often as a controller service starts, and where it leaves things."""

    made: Callable[[], BootInterface]
    left: Callable[[], set[str]]


def chalked(folder: Path) -> Subject:
    return Subject(made=lambda: Chalked(folder), left=lambda: {path.name for path in folder.iterdir()})


def virtual_media(folder: Path) -> Subject:
    controller = Controller()
    media = ServedMedia("http://192.0.2.1")

    def left() -> set[str]:
        inserted = {str(url) for url in controller.inserted().values()}
        return inserted | {path.name for path in folder.iterdir()} - {".media-lock"}

    return Subject(
        made=lambda: VirtualMediaBoot(media, controller, folder, patience=Patience(seconds=1, pause=0.01)), left=left
    )


def pxe(folder: Path) -> Subject:
    loaders = small_loaders(folder.parent / "loaders")
    return Subject(
        made=lambda: PXEBoot(folder, server="192.0.2.1", loaders=loaders), left=lambda: published_besides_locks(folder)
    )


def ipxe(folder: Path) -> Subject:
    loaders = small_loaders(folder.parent / "loaders")
    http, tftp = folder / "http", folder / "tftp"
    http.mkdir()
    tftp.mkdir()
    return Subject(
        made=lambda: IPXEBoot(http, url="http://192.0.2.1/boot", server="192.0.2.1", tftp_root=tftp, loaders=loaders),
        left=lambda: published_besides_locks(http) | published_besides_locks(tftp),
    )


def http_grub(folder: Path) -> Subject:
    return by_http(folder, HttpLoader.GRUB)


def http_ipxe(folder: Path) -> Subject:
    return by_http(folder, HttpLoader.IPXE)


def by_http(folder: Path, loader: HttpLoader) -> Subject:
    loaders = small_loaders(folder.parent / "loaders")
    return Subject(
        made=lambda: HTTPBoot(folder, url="http://192.0.2.1/", loader=loader, loaders=loaders),
        left=lambda: published_besides_locks(folder),
    )


def published_besides_locks(root: Path) -> set[str]:
    return {
        str(path.relative_to(root.parent)) for path in root.rglob("*") if not (path.is_dir() or path.match("*lock*"))
    }


INTERFACES = (chalked, virtual_media, pxe, ipxe, http_grub, http_ipxe)


@pytest.fixture(params=INTERFACES, ids=lambda make: make.__name__)
def subject(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    def build(spec: BootIsoSpec, destination: Path) -> None:
        # What is in an ISO is shown where ISOs are built and booted; here it is whether one is there.
        destination.write_bytes(str(spec.parameters).encode())

    monkeypatch.setattr(building, "build", build)
    (tmp_path / "own").mkdir()
    found = request.param(tmp_path / "own")
    assert isinstance(found, Subject)
    return found


@pytest.fixture
def task(tmp_path: Path) -> BootTask:
    for name in ("vmlinuz", "initrd"):
        (tmp_path / name).write_bytes(b"x")
    kernel, ramdisk = tmp_path / "vmlinuz", tmp_path / "initrd"
    return BootTask(
        node="node-1",
        macs=(MacAddress("52:54:00:00:00:01"),),
        ramdisk=Ramdisk(kernel=kernel, ramdisk=ramdisk),
        instance=RamdiskInstance(kernel=kernel, ramdisk=ramdisk),
    )


def test_it_says_what_a_task_needs(subject: Subject) -> None:
    properties = subject.made().get_properties()
    assert properties
    assert all(name and words for name, words in properties.items())


def test_a_good_task_is_valid_and_nothing_is_made_by_asking(subject: Subject, task: BootTask) -> None:
    subject.made().validate(task)
    assert subject.left() == set()


def test_what_is_missing_is_named(subject: Subject, task: BootTask) -> None:
    boot = subject.made()
    empty = replace(task, ramdisk=None, instance=None)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: boot.validate(empty),
        lambda: boot.prepare_ramdisk(empty, PARAMS),
        lambda: boot.prepare_instance(empty),
    )
    for attempt in attempts:
        with pytest.raises(MissingParameterValue) as caught:
            attempt()
        assert caught.value.names
    assert subject.left() == set()


@pytest.mark.parametrize("params", [{"": "1"}, {"a b": None}, {"a": "x\ny"}, {"a": 'x"y'}])
def test_parameters_that_no_kernel_reads_are_refused(
    subject: Subject, task: BootTask, params: Mapping[str, str | None]
) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        subject.made().prepare_ramdisk(task, params)
    assert caught.value.problems
    assert subject.left() == set()


def test_a_ramdisk_is_prepared_as_often_as_one_likes_and_leaves_nothing(subject: Subject, task: BootTask) -> None:
    first = subject.made().prepare_ramdisk(task, PARAMS)
    assert not first.persistent
    left = subject.left()
    assert left
    boot = subject.made()
    assert boot.prepare_ramdisk(task, PARAMS) == first
    assert boot.prepare_ramdisk(task, PARAMS) == first
    assert subject.left() == left
    boot.clean_up_ramdisk(task)
    assert subject.left() == set()
    boot.clean_up_ramdisk(task)
    subject.made().clean_up_ramdisk(task)
    assert subject.left() == set()


def test_an_instance_is_prepared_as_often_as_one_likes_and_leaves_nothing(subject: Subject, task: BootTask) -> None:
    first = subject.made().prepare_instance(task)
    assert first.persistent
    left = subject.left()
    boot = subject.made()
    assert boot.prepare_instance(task) == first
    assert subject.left() == left
    boot.clean_up_instance(task)
    boot.clean_up_instance(task)
    subject.made().clean_up_instance(task)
    assert subject.left() == set()


def test_nothing_prepared_is_cleaned_up_in_peace(subject: Subject, task: BootTask) -> None:
    boot = subject.made()
    boot.clean_up_ramdisk(task)
    boot.clean_up_instance(task)
    empty = replace(task, ramdisk=None, instance=None)
    boot.clean_up_ramdisk(empty)
    boot.clean_up_instance(empty)
    assert subject.left() == set()


def test_from_the_ramdisk_to_the_local_disk(subject: Subject, task: BootTask) -> None:
    """The calls that a controller makes for a deployment, whatever is deployed."""
    boot = subject.made()
    deployed = replace(task, instance=LocalDisk(network_fallback=False))
    boot.validate(deployed)
    boot.prepare_ramdisk(deployed, PARAMS)
    boot.clean_up_ramdisk(deployed)
    assert boot.prepare_instance(deployed) == Prepared(device=BootDevice.DISK, persistent=True)
    assert subject.left() == set()
    boot.clean_up_instance(deployed)
    assert subject.left() == set()


def test_machines_don_t_know_each_other(subject: Subject, task: BootTask) -> None:
    other = replace(task, node="node-2", macs=(MacAddress("52:54:00:00:00:02"),))
    boot = subject.made()
    boot.prepare_ramdisk(task, PARAMS)
    left = subject.left()
    boot.clean_up_ramdisk(other)
    assert subject.left() == left
    boot.clean_up_ramdisk(task)
    assert subject.left() == set()
