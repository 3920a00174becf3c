"""A machine with a whole kernel to run tests in: Debian's own with all its modules, on the host's programs.

The host's root is the machine's too, read-only by 9p, under a tmpfs that takes what is written: every program, the
checkout and its virtual environment are there under the same paths, and nothing comes back except through a folder
that the two share. OVMF starts the machine, so that it has EFI variables, and udevd runs in it. It has empty disks of
several kinds (:data:`DISKS`); what else the kernel can make by itself (loop, scsi_debug, device mapper, md) it does.

The kernel is unpacked from its package and never installed. That needs apt's network, once: the result is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import built, cache_directory, debpackages, hotplug
from lab.initramfs import with_busybox
from lab.qemu import Machine, processor, started, uefi

Log = Callable[[str], None]

MIB = 1024 * 1024
SHARE = Path("/run/share")
"""Where the machine has the shared folder."""

STATUS = "status"
"""The file in the shared folder that gets the command's exit status, as the last thing of all."""

_KERNEL = "linux-image-amd64"
# Programs that only the machine needs.
_PROGRAMS = ("busybox-static", "kpartx", "mdadm")

# What the initial RAM disk needs to reach the host's root.
_EARLY_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# The rest is what nobody asks for by itself: file systems and device mapper's targets the kernel loads on demand, but
# /dev/fuse is there with its module only.
_MODULES = (
    *("loop", "nvme", "virtio_blk", "virtio_scsi", "sd_mod", "sdhci_pci", "mmc_block"),
    *("efivarfs", "dm_mod", "fuse", "virtio_rng", "virtio_console"),
)
# norandmaps: code is translated anew for each address that it lies at; so a program starts three times faster.
# no_timer_check: the kernel's check of its timer panics where the host lets some ten ticks go by.
# nohz=off and highres=off: the timer ticks by itself. Otherwise it is set anew for each next time, and an interrupt
# that is lost is the last one: a machine was found halted for good, with no timer set.
# Timeouts of ten minutes: Linux takes an NVMe disk away for good whose command takes 30 seconds, and then the
# controller's reset 60; on a host that has other work they do. virtio has no such limit, and SCSI and SD cards are
# tried again.
_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off norandmaps random.trust_cpu=on tsc=reliable"
    " no_timer_check nohz=off highres=off nvme_core.io_timeout=600 nvme_core.admin_timeout=600"
)

# msize is the most that this transport takes; cache=loose, because nobody changes the root meanwhile.
_INIT = """\
ip link set lo up
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower
mount -t tmpfs none /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work none /root
for folder in proc sys dev; do mount --move /$folder /root/$folder; done
mount -t tmpfs none /root/run
mkdir /root/run/share
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /root/run/share
exec switch_root /root /bin/sh /run/share/inside.sh
"""

_INSIDE = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{packages}/sbin HOME=/root LC_ALL=C.UTF-8
export TMPDIR=/run/tmp
mkdir -p $TMPDIR /lib/modules /dev/pts /dev/shm /run/lock
mount --bind {packages}/lib/modules /lib/modules
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
/lib/systemd/systemd-udevd --daemon
modprobe --all {load}
mount -t efivarfs none /sys/firmware/efi/efivars
udevadm trigger --action=add --subsystem-match=block
udevadm settle
cd {checkout}
{command} </dev/null
echo $? >{status}
sync
echo o >/proc/sysrq-trigger
read -r forever </dev/console
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk of the machine, empty if it isn't a file; the serial number is how a test finds it."""

    serial: str
    arguments: str
    size: int = 512 * MIB
    file: Path | None = None
    """A disk that there is already, on which what the machine writes stays."""


def _sectors(size: int) -> str:
    return f"logical_block_size={size},physical_block_size={size}"


DISKS = (
    Disk(serial="nvme-512", arguments=f"-device nvme,serial=nvme-512,drive={{drive}},{_sectors(512)}"),
    Disk(serial="nvme-4096", arguments=f"-device nvme,serial=nvme-4096,drive={{drive}},{_sectors(4096)}"),
    Disk(serial="virtio-512", arguments=f"-device virtio-blk-pci,serial=virtio-512,drive={{drive}},{_sectors(512)}"),
    Disk(serial="virtio-4096", arguments=f"-device virtio-blk-pci,serial=virtio-4096,drive={{drive}},{_sectors(4096)}"),
    # QEMU's card has a serial number of its own, its size must be a power of two, and it is slow.
    Disk(serial="0xdeadbeef", arguments="-device sdhci-pci -device sd-card,drive={drive}", size=128 * MIB),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMachine:
    """A running machine: its console, the folder that it shares with the host, its disks' files by serial number."""

    console: Machine
    share: Path
    disks: Mapping[str, Path]


@contextmanager
def running(
    argv: Sequence[str],
    *,
    files: Mapping[str, str] | None = None,
    disks: Sequence[Disk] = DISKS,
    has_bays: bool = False,
    memory_mib: int = 3072,
    log: Log = print,
) -> Iterator[RunningMachine]:
    """Boot the machine and run a program in it, in this checkout; the machine is off when the ``with`` ends.

    Args:
        argv: the program. Its exit status is the shared file :data:`STATUS` when it has ended, and then the machine
            turns itself off.
        files: what the shared folder is to have from the beginning, names and texts.
        disks: the machine's disks; those that are no files of the caller's are gone when the ``with`` ends.
        has_bays: disks can be plugged into it from within (lab/hotplug.py).
        memory_mib: the machine's memory, which all that it writes has to fit in.
        log: is told of what takes long.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="testmachine-")))
        system = prepared(folder, argv, files=files, log=log)
        arguments = [
            *(*processor(), "-m", str(memory_mib)),
            *("-kernel", str(system.kernel), "-initrd", str(system.initramfs), "-append", system.command_line),
            *system.devices,
            *stack.enter_context(uefi()),
        ]
        made = {disk.serial: disk.file or _blank(folder / f"disk-{disk.serial}", disk.size) for disk in disks}
        for number, disk in enumerate(disks):
            arguments += [
                "-drive",
                # A flush ends in the host's page cache, where these disks outlive the machine. What it waits for
                # otherwise is the host's own disk, for minutes if that has others' gigabytes to write.
                f"if=none,id=disk{number},format=raw,cache=unsafe,file={made[disk.serial]}",
                *disk.arguments.format(drive=f"disk{number}").split(),
            ]
        if has_bays:
            arguments += stack.enter_context(hotplug.bays(folder, system.share))
        yield RunningMachine(console=stack.enter_context(started(arguments)), share=system.share, disks=made)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What the machine runs, for whoever boots it: the devices that it needs are arguments for QEMU."""

    kernel: Path
    initramfs: Path
    command_line: str
    devices: tuple[str, ...]
    share: Path


def prepared(folder: Path, argv: Sequence[str], *, files: Mapping[str, str] | None = None, log: Log = print) -> System:
    """Make the system that runs a program, in a folder that has to be there until the machine is off."""
    packages = debian_packages(cache_directory(), log=log)
    share, initramfs = folder / "share", folder / "initramfs"
    share.mkdir()
    for name, text in (files or {}).items():
        (share / name).write_text(text)
    version = kernel_version(packages)
    early = with_busybox(packages, version, _INIT, modules=_EARLY_MODULES, folders=("lower", "upper"))
    initramfs.write_bytes(early)
    (share / "inside.sh").write_text(
        _INSIDE.format(
            packages=shlex.quote(str(packages)),
            load=" ".join(_MODULES),
            checkout=shlex.quote(str(Path(__file__).parent.parent)),
            command=shlex.join(argv),
            status=SHARE / STATUS,
        )
    )
    return System(
        kernel=packages / "boot" / f"vmlinuz-{version}",
        initramfs=initramfs,
        command_line=_COMMAND_LINE,
        devices=(
            *("-device", "virtio-rng-pci"),
            *_shared("root", Path("/"), ",readonly=on,multidevs=remap"),
            *_shared("share", share, ""),
        ),
        share=share,
    )


def _blank(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def _shared(tag: str, path: Path, options: str) -> tuple[str, ...]:
    return (
        *("-fsdev", f"local,id={tag},path={path},security_model=none{options}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    )


def debian_packages(cache: Path, *, log: Log = print) -> Path:
    """Return the tree with the kernel, its modules and busybox, fetching the packages first if the cache has none."""
    recipe = hashlib.sha256(repr((_KERNEL, _PROGRAMS)).encode()).hexdigest()
    return built(cache / f"testmachine-{recipe[:12]}", partial(_unpack, log=log))


def _unpack(tree: Path, log: Log) -> None:
    log("fetching Debian's kernel for the test machine: this needs the network")
    debpackages.update()
    depends = _output("apt-cache", "depends", "--important", _KERNEL)
    kernel = next(line.split()[1] for line in depends.splitlines() if line.startswith("  Depends: linux-image-"))
    debpackages.unpack(tree, (kernel, *_PROGRAMS))
    subprocess.run(["depmod", "--basedir", str(tree), kernel_version(tree)], check=True)


def kernel_version(packages: Path) -> str:
    """Return the version of the kernel in the tree that :func:`debian_packages` returns."""
    (modules,) = (packages / "lib/modules").iterdir()
    return modules.name


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Run a command in the machine; what it says comes on the console."""
    parser = argparse.ArgumentParser(prog="python -m lab.testmachine", description=main.__doc__)
    parser.add_argument("command", nargs="+")
    with running(parser.parse_args().command) as machine:
        machine.console.wait_until_off(timeout=3600)
        print(machine.console.transcript)
        sys.exit(int((machine.share / STATUS).read_text()))


if __name__ == "__main__":
    main()
