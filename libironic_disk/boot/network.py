"""What the interfaces that boot over a network have in common: a plan for each task, which is then published."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from libironic_disk.boot.interface import BootInterface
from libironic_disk.errors import InvalidParameterValue, KernelParametersInvalid, MissingParameterValue
from libironic_disk.machine.netboot import loaderfiles, publishing, reachable, sources
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.netboot.addresses import url_problem
from libironic_disk.pure.netboot.choices import BootChoice, DiskBoot, IsoBoot, KernelBoot
from libironic_disk.pure.netboot.loaders import GrubImage, LoaderKey, LoaderKind, Loaders, LoaderSet
from libironic_disk.pure.netboot.names import ISO, KERNEL, RAMDISK, Purpose
from libironic_disk.pure.netboot.planning import RootPlan, SeenFile, SharedContent, image_directory
from libironic_disk.pure.netboot.prepared import BootDevice, Prepared
from libironic_disk.pure.netboot.task import (
    BootFile,
    BootTask,
    Instance,
    IsoInstance,
    LocalDisk,
    NetworkRoot,
    Ramdisk,
    RamdiskInstance,
    WholeDisk,
    as_parameters,
    boot_files_of,
)

_PROPERTIES: Final = {
    "macs": "MAC addresses of the network cards that the machine may boot from; required",
    "architecture": "of its processor: x86_64 or aarch64",
    "firmware": "bios or uefi",
    "secure_boot": "whether the firmware starts signed loaders only",
    "ramdisk": "kernel, RAM disk and parameters of the system that deploys; required by prepare_ramdisk",
    "instance": "what the machine runs afterwards; required by prepare_instance",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """What is published for a task, root by root in this order, and what is then answered."""

    roots: tuple[tuple[Path, RootPlan], ...]
    prepared: Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a machine is to boot: a loader's choice, and the files of this machine that it needs."""

    choice: BootChoice | None
    images: Mapping[str, SeenFile]
    purpose: Purpose
    device: BootDevice
    persistent: bool


class NetworkBoot(BootInterface):
    """Common ground of :class:`PXEBoot`, :class:`IPXEBoot` and :class:`HTTPBoot`; it is no interface by itself."""

    _device: BootDevice

    def __init__(self, root: Path, loaders: Loaders | None, *, takes_urls: bool) -> None:
        self._root = root
        self._takes_urls = takes_urls
        self._loaders = loaders or Loaders()

    def get_properties(self) -> Mapping[str, str]:
        """Return what a task may or must have, and what each is for."""
        return dict(_PROPERTIES)

    def validate(self, task: BootTask) -> None:
        """Plan what the task has, publishing nothing, and ask web servers whether they have what it names by URL.

        Raises:
            MissingParameterValue: MAC addresses, or both RAM disk and instance.
            InvalidParameterValue: with every defect that was found; a URL is one where its server can't be reached.
            LoaderMissing: a boot loader isn't installed.
            ToolMissing: what makes a boot loader isn't installed.
        """
        if task.ramdisk is None and task.instance is None:
            raise MissingParameterValue(names=(*_missing_macs(task), "ramdisk or instance"))
        problems: list[str] = []
        plans: list[Callable[[], NetworkPlan]] = []
        if task.ramdisk is not None:
            plans.append(lambda: self.plan_ramdisk(task, {}))
        if task.instance is not None:
            plans.append(lambda: self.plan_instance(task))
        for make in plans:
            try:
                for _, root in make().roots:
                    loaderfiles.check(root.shared)
            except InvalidParameterValue as error:
                problems += (problem for problem in error.problems if problem not in problems)
        # Only of what else is right: a server is asked for nothing that it couldn't give.
        problems = problems or [problem for url in _urls(task) if (problem := reachable.problem_of(url))]
        if problems:
            raise InvalidParameterValue(problems=tuple(problems))

    def plan_ramdisk(self, task: BootTask, ramdisk_params: Mapping[str, str | None]) -> NetworkPlan:
        """Return what :meth:`prepare_ramdisk` would publish and answer; nothing is changed.

        Raises:
            MissingParameterValue: as :meth:`validate`.
            InvalidParameterValue: as :meth:`validate`.
        """
        if task.ramdisk is None or not task.macs:
            raise MissingParameterValue(names=(*_missing_macs(task), *(() if task.ramdisk else ("ramdisk",))))
        parameters = task.ramdisk.parameters + as_parameters(ramdisk_params)
        return self._plan(task, self._kernel(task, task.ramdisk, parameters, Purpose.RAMDISK))

    def plan_instance(self, task: BootTask) -> NetworkPlan:
        """Return what :meth:`prepare_instance` would publish and answer; nothing is changed.

        Raises:
            MissingParameterValue: as :meth:`validate`.
            InvalidParameterValue: as :meth:`validate`.
        """
        if task.instance is None or not task.macs:
            raise MissingParameterValue(names=(*_missing_macs(task), *(() if task.instance else ("instance",))))
        return self._plan(task, self._instance(task, task.instance))

    def prepare_ramdisk(self, task: BootTask, ramdisk_params: Mapping[str, str | None]) -> Prepared:
        """Publish what the next boot needs; see :meth:`BootInterface.prepare_ramdisk`.

        Raises:
            MissingParameterValue: as :meth:`validate`.
            InvalidParameterValue: as :meth:`validate`.
            LoaderMissing: as :meth:`validate`.
            ToolMissing: as :meth:`validate`.
            BootTaskBusy: somebody is at work on the machine, or its address is another one's.
            NotEnoughRoom: more is to be published than is free.
            SourceFailed: a kernel, RAM disk or ISO can't be read, or was changed meanwhile.
            PathFailed: the root can't be written to, or something in it isn't what it should be.
        """
        return _carry_out(self.plan_ramdisk(task, ramdisk_params))

    def clean_up_ramdisk(self, task: BootTask) -> None:
        """Take back what :meth:`prepare_ramdisk` published; see :meth:`BootInterface.clean_up_ramdisk`."""
        self._clean_up(task, Purpose.RAMDISK)

    def prepare_instance(self, task: BootTask) -> Prepared:
        """Publish what all further boots need; see :meth:`BootInterface.prepare_instance`.

        It raises what :meth:`prepare_ramdisk` does.
        """
        return _carry_out(self.plan_instance(task))

    def clean_up_instance(self, task: BootTask) -> None:
        """Take back what :meth:`prepare_instance` published; see :meth:`BootInterface.clean_up_instance`."""
        self._clean_up(task, Purpose.INSTANCE)

    @abstractmethod
    def _plan(self, task: BootTask, wanted: Wanted) -> NetworkPlan:
        """Write the configurations in the loader's language, and say what the DHCP server has to."""

    @abstractmethod
    def _address(self, path: str) -> str:
        """Return how the loader has to name a published file."""

    def _roots(self) -> Sequence[Path]:
        """Return every root that something may have been published in."""
        return (self._root,)

    def _instance(self, task: BootTask, instance: Instance) -> Wanted:
        match instance:
            case LocalDisk(network_fallback=fallback):
                return _disk(DiskBoot() if fallback else None, BootDevice.DISK)
            case WholeDisk(disk_id=disk_id):
                return _disk(DiskBoot(first=True, signature=disk_id), self._device)
            case NetworkRoot():
                return self._kernel(task, instance, instance.kernel_parameters, Purpose.INSTANCE)
            case RamdiskInstance(parameters=parameters, config_drive=None):
                return self._kernel(task, instance, parameters, Purpose.INSTANCE)
            case IsoInstance(config_drive=None):
                return self._iso(task, instance)
            case _:
                reason = "a config drive needs a second device, which virtual media have and a network boot hasn't"
                raise InvalidParameterValue(problems=(reason,))

    def _kernel(
        self,
        task: BootTask,
        system: Ramdisk | NetworkRoot | RamdiskInstance,
        parameters: KernelParameters,
        purpose: Purpose,
    ) -> Wanted:
        images = _seen({KERNEL: system.kernel, RAMDISK: system.ramdisk}, takes_urls=self._takes_urls)
        directory = image_directory(task.node, purpose, images)
        kernel, ramdisk = (
            self._address(f"{directory}/{name}") if name in images else str(given)
            for name, given in ((KERNEL, system.kernel), (RAMDISK, system.ramdisk))
        )
        return Wanted(
            choice=KernelBoot(kernel=kernel, ramdisk=ramdisk, parameters=parameters),
            images={f"{directory}/{name}": file for name, file in images.items()},
            purpose=purpose,
            device=self._device,
            persistent=purpose is Purpose.INSTANCE,
        )

    def _iso(self, task: BootTask, instance: IsoInstance) -> Wanted:
        if instance.files or instance.parameters:
            reason = "the ISO has to be patched first (libironic_disk.bootiso), then given without changes"
            raise InvalidParameterValue(problems=(reason,))
        images = _seen({ISO: instance.iso}, takes_urls=True)
        directory = image_directory(task.node, Purpose.INSTANCE, images)
        url = self._address(f"{directory}/{ISO}") if images else str(instance.iso)
        return Wanted(
            choice=IsoBoot(url=url),
            images={f"{directory}/{name}": file for name, file in images.items()},
            purpose=Purpose.INSTANCE,
            device=self._device,
            persistent=not instance.one_shot,
        )

    def loader(self, task: BootTask, kind: LoaderKind) -> LoaderSet:
        """Return the loader of a kind for a machine.

        Raises:
            InvalidParameterValue: there is none.
        """
        key = LoaderKey(kind=kind, firmware=task.firmware, architecture=task.architecture, secure_boot=task.secure_boot)
        return self._loaders.find(key)

    def _clean_up(self, task: BootTask, purpose: Purpose) -> None:
        for root in self._roots():
            publishing.clean_up(root, task.node, purpose)


def root_plan(
    task: BootTask,
    wanted: Wanted,
    *,
    shared: Mapping[str, SharedContent],
    configs: Mapping[str, str],
) -> RootPlan:
    """Return the plan of a root that has everything of a machine; without configurations it needs no loader either."""
    return RootPlan(
        node=task.node,
        macs=task.macs,
        purpose=wanted.purpose,
        shared=shared if configs else {},
        images=wanted.images,
        configs={path: text.encode() for path, text in configs.items()},
    )


def shared_files(loader: LoaderSet, *, early_config: str = "") -> dict[str, SharedContent]:
    """Return a loader's files; an image that needs the server's URL gets ``early_config``."""
    return {
        path: GrubImage(platform=source.platform, early_config=early_config)
        if isinstance(source, GrubImage) and not source.early_config
        else source
        for path, source in loader.files.items()
    }


def checked_url(url: str) -> str:
    """Return the URL of a directory, with a slash at its end.

    Raises:
        InvalidParameterValue: it can't be given to a boot loader.
    """
    if problem := url_problem(url):
        raise InvalidParameterValue(problems=(f"url {url!r}: {problem}",))
    if "?" in url:
        raise InvalidParameterValue(problems=(f"url {url!r}: it has a query, so no names can be appended to it",))
    return f"{url.rstrip('/')}/"


@contextmanager
def parameters_checked() -> Iterator[None]:
    """Say of parameters that a loader can't hand on that the task is invalid.

    Raises:
        InvalidParameterValue: with the reason.
    """
    try:
        yield
    except KernelParametersInvalid as error:
        raise InvalidParameterValue(problems=(str(error),)) from error


def _seen(files: Mapping[str, BootFile], *, takes_urls: bool) -> dict[str, SeenFile]:
    """Look at those that are files of this machine, and check the URLs.

    Raises:
        InvalidParameterValue: with every one that can't be used.
    """
    seen: dict[str, SeenFile] = {}
    problems: list[str] = []
    for name, given in files.items():
        if isinstance(given, PurePath):
            with _collecting(problems, f"{name} "):
                seen[name] = sources.see(given)
        elif not takes_urls:
            problems.append(f"{name} {given!r} has to be a file: this loader can't fetch from other servers")
        elif problem := url_problem(given):
            problems.append(f"{name} {given!r}: {problem}")
    if problems:
        raise InvalidParameterValue(problems=tuple(problems))
    return seen


def _urls(task: BootTask) -> Iterator[str]:
    """Yield what the machine is to fetch from other servers."""
    found = dict.fromkeys((*boot_files_of(task.ramdisk), *boot_files_of(task.instance)))
    return (each for each in found if isinstance(each, str))


def _missing_macs(task: BootTask) -> tuple[str, ...]:
    return () if task.macs else ("macs",)


def _disk(choice: DiskBoot | None, device: BootDevice) -> Wanted:
    return Wanted(choice=choice, images={}, purpose=Purpose.INSTANCE, device=device, persistent=True)


@contextmanager
def _collecting(problems: list[str], prefix: str) -> Iterator[None]:
    try:
        yield
    except InvalidParameterValue as error:
        problems += (f"{prefix}{problem}" for problem in error.problems)


def _carry_out(plan: NetworkPlan) -> Prepared:
    # All of them are read before the first root is touched.
    contents = [loaderfiles.read(root.shared) for _, root in plan.roots]
    for (directory, root), loaders in zip(plan.roots, contents, strict=True):
        publishing.apply(directory, root, loaders)
    return plan.prepared
