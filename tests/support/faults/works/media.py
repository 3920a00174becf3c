"""Boots by virtual media: what is in the slots of a controller, what is published, and what we remember of both."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from lab.isolayouts import IsoLayout, make
from libironic_disk import configdrive
from libironic_disk.boot import BootTask, IsoInstance, Ramdisk, RamdiskInstance
from libironic_disk.boot.inserting import Patience
from libironic_disk.boot.publishing import DirectoryPublisher
from libironic_disk.boot.redfish import RedfishNode, RedfishVirtualMedia, Timing
from libironic_disk.boot.virtual_media import VirtualMediaBoot
from libironic_disk.errors import BootTaskBusy, DiskError, ProgramError, ToolMissing, VirtualMediaFailed
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.pure.boot.kernelparams import KernelParameters
from tests.support.faults import controllers, scenes
from tests.support.faults.controllers import CD, STICK, SYSTEM, MachineScene
from tests.support.faults.work import Of, State, Try
from tests.support.redfish import Json, Service

NODE = "node-1"
URL = "http://192.0.2.1/media"
THEIRS = "http://198.51.100.1/theirs.iso"
_LOCKS = frozenset({".publishing", ".media-lock"})
_QUICK = Timing(connect=5, answer=3, attempts=1, pause=0.01, settle=0.3)

Step = Callable[[VirtualMediaBoot], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A directory that is served, and one for ISOs that are built."""

    folder: Path

    @property
    def published(self) -> Path:
        """What is served."""
        return self.folder / "published"

    @property
    def built(self) -> Path:
        """Where ISOs are built, and what is remembered."""
        return self.folder / "built"

    def files(self) -> dict[str, str]:
        """Return the digests of all files but those of the directories' own locks."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in _LOCKS)
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def public(self) -> set[str]:
        """Return the names of what is published, and of what is about to be."""
        return {path.name for path in self.published.iterdir()} - _LOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there: files, media by slot, and from what the machine starts next."""

    files: Mapping[str, str]
    media: Mapping[str, object]
    boot: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, and what was called before it."""

    name: str
    deploy_iso: Path
    before: tuple[Step, ...] = ()
    call: Step
    back: tuple[Step, ...]

    def boot(self, site: Site, service: Service) -> VirtualMediaBoot:
        """Return the interface."""
        media = RedfishVirtualMedia({NODE: RedfishNode(address=service.url)}, timing=_QUICK)
        publisher = DirectoryPublisher(site.published, URL)
        patience = Patience(seconds=0.3, pause=0.01)
        return VirtualMediaBoot(publisher, media, site.built, deploy_iso=self.deploy_iso, patience=patience)


def _seen(site: Site, service: Service) -> Seen:
    media = {path: (service.pages[path]["Inserted"], service.pages[path]["Image"]) for path in (CD, STICK)}
    return Seen(files=site.files(), media=media, boot=deepcopy(service.pages[SYSTEM]["Boot"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTry:
    """A call for a machine that has somebody else's stick in."""

    scene: MachineScene
    site: Site
    case: Case
    old: Seen
    new: Seen
    bare: Mapping[str, str]

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make the call."""
        return self.case.call(self.case.boot(self.site, self.scene.service)) or "done"

    def found(self, result: object | None) -> State:
        """Look at slots, published files and records; then see that cleaning up takes back what is ours."""
        self.scene.service.trouble = lambda: None
        now = _seen(self.site, self.scene.service)
        for name in self.site.public():
            if not name.startswith("."):
                path = f"published/{name}"
                wanted = (self.old.files.get(path), self.new.files.get(path))
                assert now.files[path] in wanted, f"{name} is published, and neither the old nor the new"
        if result is not None:
            self._check_shown()
        self._check_back()
        return State.NEW if now == self.new else State.OLD if now == self.old else State.NOTHING

    def told(self, error: BaseException) -> None:
        """An error names the machine or a path; what it leaves in a slot, in a file or in a record it says."""
        assert isinstance(error, DiskError)
        if not isinstance(error, BootTaskBusy | ProgramError | ToolMissing | VirtualMediaFailed):
            places = (self.site.folder, self.scene.temporary, *self.scene.sources)
            assert any(str(place) in str(error) for place in places), f"it names no place: {error}"
        if not error.aftermath and not isinstance(error, VirtualMediaFailed):
            self._check_shown()
        if not error.aftermath:
            hidden = {path for path in self.site.files() if PurePosixPath(path).name.startswith(".")}
            assert not hidden, f"left: {hidden}"

    def _check_shown(self) -> None:
        for path in (CD, STICK):
            image = str(self.scene.service.pages[path]["Image"])
            if image.startswith(URL):
                name = PurePosixPath(image).name
                assert name in self.site.public(), f"{path} has {name} in, which isn't published"

    def _check_back(self) -> None:
        with scenes.folder() as where, controllers.machine(self.scene.service.pages) as service:
            shutil.copytree(self.site.folder, where / "site")
            site = Site(folder=where / "site")
            boot = self.case.boot(site, service)
            for _ in range(2):
                for step in self.case.back:
                    step(boot)
                assert site.files() == self.bare, f"cleaned up: {site.files()}, at first {self.bare}"
                for path in (CD, STICK):
                    image = str(service.pages[path]["Image"])
                    assert image in {"", THEIRS}, f"cleaned up, and {image} is in {path}"


@contextmanager
def _begin(case: Case, template: Path, state: dict[str, Json], new: Seen, sources: Path) -> Iterator[Try]:
    with scenes.folder() as where, controllers.machine(state) as service:
        (where / "tmp").mkdir()
        site = Site(folder=where / "site")
        shutil.copytree(template, site.folder, copy_function=shutil.copy2)
        yield MediaTry(
            scene=MachineScene(folders=(site.folder,), sources=(sources,), temporary=where / "tmp", service=service),
            site=site,
            case=case,
            old=_seen(site, service),
            new=new,
            bare={},
        )


def work_of(folder: Path, case: Case) -> Of:
    """Prepare the site of a case as the calls before leave it."""
    site = Site(folder=folder / "template")
    for place in (site.published, site.built):
        place.mkdir(parents=True)
    with controllers.machine() as service:
        service.pages[STICK].update(Inserted=True, Image=THEIRS)
        boot = case.boot(site, service)
        for step in case.before:
            step(boot)
        state = deepcopy(service.pages)
    with controllers.machine(state) as service:
        after = Site(folder=folder / "after")
        shutil.copytree(site.folder, after.folder)
        case.call(case.boot(after, service))
        new = _seen(after, service)
    return Of(name=case.name, begin=partial(_begin, case, site.folder, state, new, folder / "sources"))


def cases(folder: Path) -> Mapping[str, Case]:
    """Return the cases by name; what they boot is made in a folder."""
    sources = folder / "sources"
    sources.mkdir()
    iso = make(IsoLayout.ISOLINUX_XORRISO, sources / "deploy.iso")
    users = make(IsoLayout.EFI_ONLY, sources / "users.iso")
    for name in ("vmlinuz", "initrd"):
        (sources / name).write_bytes(name.encode() * 3000)
    kernel, ramdisk = sources / "vmlinuz", sources / "initrd"
    drive = configdrive.load({"meta_data": {"uuid": "9f1c2e9e-6f1b-4f0e-8f3e-000000000001"}}).data
    plain = BootTask(node=NODE, ramdisk=Ramdisk(kernel=kernel, ramdisk=ramdisk))
    built = replace(
        plain,
        instance=RamdiskInstance(
            kernel=kernel, ramdisk=ramdisk, parameters=KernelParameters.parse("quiet"), config_drive=drive
        ),
    )
    patched = replace(plain, instance=IsoInstance(iso=users, config_drive=drive))
    once = replace(plain, instance=IsoInstance(iso="http://192.0.2.9/rescue.iso", one_shot=True))

    def back(task: BootTask) -> tuple[Step, ...]:
        return (lambda boot: boot.clean_up_ramdisk(task), lambda boot: boot.clean_up_instance(task))

    def prepare(boot: VirtualMediaBoot) -> object:
        return boot.prepare_ramdisk(plain, {"a": "b"})

    def instance(task: BootTask) -> Step:
        return lambda boot: boot.prepare_instance(task)

    def no_instance(boot: VirtualMediaBoot) -> object:
        boot.clean_up_instance(patched)
        return None

    def no_ramdisk(boot: VirtualMediaBoot) -> object:
        boot.clean_up_ramdisk(plain)
        return None

    of = partial(Case, deploy_iso=iso)
    found = (
        of(name="virtual media: prepare_ramdisk", call=prepare, back=back(plain)),
        of(name="virtual media: clean_up_ramdisk", before=(prepare,), call=no_ramdisk, back=back(plain)),
        of(
            name="virtual media: prepare_instance, an ISO and a config drive",
            before=(prepare,),
            call=instance(patched),
            back=back(patched),
        ),
        of(name="virtual media: clean_up_instance", before=(instance(patched),), call=no_instance, back=back(patched)),
        of(name="virtual media: prepare_instance, one shot", call=instance(once), back=back(once)),
        of(name="virtual media: prepare_instance, a RAM disk", call=instance(built), back=back(built)),
    )
    return {case.name: case for case in found}
