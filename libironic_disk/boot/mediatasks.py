"""Whether a boot task can be carried out with virtual media: everything that is missing or wrong, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from libironic_disk.boot import mediacontents
from libironic_disk.bootiso import open_iso
from libironic_disk.errors import DiskError, InvalidParameterValue, MissingParameterValue
from libironic_disk.machine.isos import building
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.netboot.addresses import url_problem
from libironic_disk.pure.netboot.task import (
    BootFile,
    BootTask,
    Instance,
    IsoInstance,
    NetworkRoot,
    Ramdisk,
    RamdiskInstance,
    as_parameters,
)

_METHOD: Final = "boot_method"
_PUBLISHER: Final = "ir_pub_id"


def check_all(task: BootTask, deploy_iso: Path | None) -> None:
    """Check what there is of a RAM disk and an instance.

    Raises:
        MissingParameterValue: neither is there.
        InvalidParameterValue: with all that is wrong with both.
    """
    if task.instance is None and task.ramdisk is None and deploy_iso is None:
        raise MissingParameterValue(names=("ramdisk", "instance"))
    source = deploy_iso or task.ramdisk
    problems = _ramdisk_problems(task, source, own_parameters(task, {}, source)) if source is not None else ()
    _raise((*problems, *_instance_problems(task)))


def check_ramdisk(
    task: BootTask, deploy_iso: Path | None, asked: Mapping[str, str | None]
) -> tuple[Ramdisk | Path, KernelParameters]:
    """Check the RAM disk alone; return it, or the ISO in its place, and all its parameters.

    Raises:
        MissingParameterValue: there is none, and no ISO in its place.
        InvalidParameterValue: with all that is wrong with it, or with the parameters that are asked for.
    """
    source = deploy_iso or task.ramdisk
    if source is None:
        raise MissingParameterValue(names=("ramdisk",))
    parameters = own_parameters(task, asked, source)
    _raise(_ramdisk_problems(task, source, parameters))
    return source, parameters


def check_instance(task: BootTask) -> Instance:
    """Check the instance alone, and return it.

    Raises:
        MissingParameterValue: there is none.
        InvalidParameterValue: with all that is wrong with it.
    """
    if task.instance is None:
        raise MissingParameterValue(names=("instance",))
    _raise(_instance_problems(task))
    return task.instance


def own_parameters(task: BootTask, asked: Mapping[str, str | None], source: Ramdisk | Path) -> KernelParameters:
    """Return the parameters of a RAM disk: its own, those that are asked for, and how it was booted.

    Raises:
        InvalidParameterValue: some can't be passed on.
    """
    own = {_METHOD: "vmedia"} | ({_PUBLISHER: task.node} if isinstance(source, Ramdisk) else {})
    always = task.ramdisk.parameters if task.ramdisk is not None else KernelParameters()
    return always + as_parameters({**asked, **{key: value for key, value in own.items() if key not in asked}})


def _raise(problems: tuple[str, ...]) -> None:
    if problems:
        raise InvalidParameterValue(problems=problems)


def _ramdisk_problems(task: BootTask, source: Ramdisk | Path, parameters: KernelParameters) -> tuple[str, ...]:
    if isinstance(source, Ramdisk):
        return _built_problems(task, source.kernel, source.ramdisk, parameters)
    return _problem(lambda: _check_iso(source, ParameterChange(append=parameters), {}))


def _instance_problems(task: BootTask) -> tuple[str, ...]:
    instance = task.instance
    match instance:
        case NetworkRoot() | RamdiskInstance():
            parameters = mediacontents.parameters_of(instance)
            found = _built_problems(task, instance.kernel, instance.ramdisk, parameters)
        case IsoInstance():
            found = _iso_problems(instance)
        case _:
            return ()
    return (*found, *_problem(lambda: mediacontents.drive_of(instance)))


def _built_problems(
    task: BootTask, kernel: BootFile, ramdisk: BootFile, parameters: KernelParameters
) -> tuple[str, ...]:
    urls = [file for file in (kernel, ramdisk) if isinstance(file, str)]
    if urls:
        return tuple(f"{url} has to be a file, for an ISO is built of it" for url in urls)
    return _problem(lambda: building.estimated_size(mediacontents.spec_of(task, kernel, ramdisk, parameters)))


def _iso_problems(instance: IsoInstance) -> tuple[str, ...]:
    iso = instance.iso
    if not isinstance(iso, str):
        return _problem(lambda: _check_iso(Path(iso), instance.parameters, instance.files))
    problems = []
    if mediacontents.is_changed(instance):
        problems.append(f"{iso} has to be a file, for it is to be changed")
    if problem := url_problem(iso):
        problems.append(f"{iso!r} is no URL that a controller could fetch: {problem}")
    elif not iso.startswith(("http://", "https://")):
        problems.append(f"{iso!r} is no URL that a controller could fetch: it begins with neither http:// nor https://")
    return tuple(problems)


def _check_iso(path: Path, parameters: ParameterChange, files: Mapping[str, bytes]) -> None:
    with open_iso(path) as iso:
        if parameters != mediacontents.NO_CHANGE or files:
            iso.patch(parameters=parameters, files=files)


def _problem(check: Callable[[], object]) -> tuple[str, ...]:
    """Return what an error says, if there is one."""
    try:
        check()
    except DiskError as error:
        return (str(error),)
    return ()
