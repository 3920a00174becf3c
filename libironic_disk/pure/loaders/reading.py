"""Configuration files of any kind: what they say of kernels, and the same files with other parameters."""

from __future__ import annotations

from libironic_disk.errors import LoaderConfigRefused
from libironic_disk.pure.boot.kernelparams import ParameterChange
from libironic_disk.pure.loaders import grub, loaderentry, syslinux
from libironic_disk.pure.loaders.config import ConfigKind, LoaderConfig, decoded, encoded
from libironic_disk.pure.loaders.editing import Reading, changed


def read_config(text: bytes, kind: ConfigKind, *, prefix: str) -> LoaderConfig:
    """Return what a file says; what can't be understood of it is passed over, as the loaders do.

    Args:
        text: of the file.
        kind: whose language it is in.
        prefix: the loader's directory, from which it looks for what the file names: ``/boot/grub``, ``/isolinux``.

    Raises:
        LoaderConfigRefused: it is too large to be a configuration.
    """
    reading = _read(decoded(text, kind), kind, prefix)
    return LoaderConfig(
        kind=kind, lines=tuple(editable.line for editable in reading.lines), references=reading.references
    )


def changed_config(text: bytes, kind: ConfigKind, change: ParameterChange) -> bytes:
    """Return the file with the change made to every kernel's parameters, and every other byte as it was.

    To be made twice, it does no more than once.

    Raises:
        KernelParametersInvalid: the loader can't hand one of the new parameters on as it is.
        LoaderConfigRefused: what is to be changed isn't written there but comes from something unknown, such as a
            variable that other files set, or the file is too large to be one.
    """
    before = _read(decoded(text, kind), kind, "")
    new = changed(before, change, kind)
    after = _read(new, kind, "")
    for old, line in zip(before.lines, after.lines, strict=False):
        if change.applied(old.line.parameters) != line.line.parameters:
            raise LoaderConfigRefused(kind=kind, entry=old.line.title, reason="it would not read as it should")
    if len(before.lines) != len(after.lines) or before.references != after.references:
        raise LoaderConfigRefused(kind=kind, entry="", reason="it would not have the same entries as before")
    return encoded(new)


def _read(text: str, kind: ConfigKind, prefix: str) -> Reading:
    match kind:
        case ConfigKind.GRUB:
            return grub.read(text, prefix)
        case ConfigKind.SYSLINUX:
            return syslinux.read(text, prefix)
        case ConfigKind.LOADER_ENTRY:
            return loaderentry.read(text)
