"""A real Debian system as a partition image: the thing that the demo and the boot tests deploy.

The image is one ext4 file system in a qcow2 file, as a cloud's partition image is: a kernel, an initramfs
and systemd, but no partition table and no boot loader. When it comes up it writes a report of what it found
to the serial console, one ``DEPLOY-REPORT key=value`` line for each fact, and turns the machine off. With
``lab.stay`` on its kernel's command line it stays, and asks for a login there: root, no password.

Building needs root and mmdebstrap. The result is kept, by a hash of the recipe, and later calls only read it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import built

Log = Callable[[str], None]

MIB = 1024 * 1024
ROOT_LABEL = "img-rootfs"
REPORT_PREFIX = "DEPLOY-REPORT "

PACKAGES = ("linux-image-cloud-amd64", "systemd-sysv", "udev", "zstd")

NOT_UNPACKED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)

# 1 KiB blocks, the default for so small a file system, cannot be mounted from a disk of 4 KiB sectors.
EXT4_OPTIONS = ("-t", "ext4", "-b", "4096", "-i", "16384", "-E", "lazy_itable_init=0")

# Only what finds and mounts the root file system: ext4 and NVMe are in this kernel, virtio is not.
INITRAMFS_CONF = """\
MODULES=list
COMPRESS=zstd
"""
INITRAMFS_MODULES = """\
virtio_pci
virtio_blk
"""

# As in a cloud image, swap and the ephemeral disk are found by label, and a machine may have neither.
FSTAB = f"""\
LABEL={ROOT_LABEL} / ext4 defaults,errors=remount-ro 0 1
LABEL=ephemeral0 /mnt auto nofail,x-systemd.device-timeout=30 0 2
LABEL=swap1 none swap noauto 0 0
"""
# systemd would wait for the swap area, even with nofail, unless fstab says noauto: udev starts it instead.
SWAP_RULE = """\
SUBSYSTEM=="block", ENV{ID_FS_TYPE}=="swap", ENV{ID_FS_LABEL}=="swap1", \
  ENV{SYSTEMD_WANTS}+="dev-disk-by\\x2dlabel-swap1.swap"
"""

# Each program that a boot starts costs a tenth of a second in an emulated machine; none of these is missed.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty-static.service",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-fsckd.socket",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)
MASKED_GENERATORS = (
    "systemd-cryptsetup-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-sysv-generator",
    "systemd-veritysetup-generator",
)

# The machine is up: people could log in. The login prompt itself has to wait, for it hangs up the line.
REPORT_UNIT = """\
[Unit]
Description=Report what came up to the serial console
After=basic.target local-fs.target systemd-user-sessions.service
Before=getty.target serial-getty@ttyS0.service

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/deploy-report

[Install]
WantedBy=multi-user.target
"""

REPORT_SCRIPT = r"""#!/bin/sh
# Tells the serial console what came up, one fact a line, and turns the machine off.

say() {
    printf 'DEPLOY-REPORT %s=%s\n' "$1" "$2"
}

# wait_until COMMAND...: what a device's arrival sets off may still be under way.
wait_until() {
    tries=0
    until "$@" || [ $tries -ge 40 ]; do
        tries=$((tries + 1))
        sleep 0.25
    done
}

swap_is_on() {
    grep -q ^/ /proc/swaps
}

exec </dev/null >/dev/ttyS0
echo 1 >/proc/sys/kernel/printk  # the kernel,
kill -55 1                       # and systemd (SIGRTMIN+21), write nothing between our lines
echo

say cmdline "$(cat /proc/cmdline)"
firmware=bios
[ -d /sys/firmware/efi ] && firmware=uefi
say firmware $firmware
say root-uuid "$(findmnt -no UUID /)"
say root-source "$(findmnt -no SOURCE /)"
say root-size "$(findmnt -bno SIZE /)"

[ -e /dev/disk/by-label/swap1 ] && wait_until swap_is_on
tail -n +2 /proc/swaps | while read -r device _ kib _; do
    say swap "$device $((kib * 1024))"
done

if ephemeral=$(blkid -L ephemeral0); then
    say ephemeral "$(blkid -o value -s UUID "$ephemeral")"
    wait_until mountpoint -q /mnt && say ephemeral-source "$(findmnt -no SOURCE /mnt)"
fi

if drive=$(blkid -L config-2 || blkid -L CONFIG-2); then
    say config-drive "$drive"
    say config-drive-type "$(blkid -o value -s TYPE "$drive")"
    if mount -o ro "$drive" /media && metadata=$(cat /media/openstack/latest/meta_data.json); then
        say config-drive-uuid "$(printf %s "$metadata" | tr -d '\n' |
            sed -n 's/.*"uuid"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')"
    fi
fi

echo 'DEPLOY-REPORT done'

grep -qw lab.stay /proc/cmdline || systemctl poweroff --force
"""


class Release(StrEnum):
    """A release of Debian, by the name of its archive."""

    DEBIAN_12 = "bookworm"
    DEBIAN_13 = "trixie"

    @property
    def number(self) -> int:
        """The release's number."""
        return {Release.DEBIAN_12: 12, Release.DEBIAN_13: 13}[self]


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """One file that the recipe puts into the image; a symbolic link when it has a target."""

    path: str
    text: str = ""
    mode: int = 0o644
    link: str | None = None


def _masked(folder: str, names: Iterable[str]) -> Iterator[RecipeFile]:
    """What systemd must never start: it takes a link to nowhere for that."""
    return (RecipeFile(path=f"etc/systemd/{folder}/{name}", link="/dev/null") for name in names)


# Before the kernel's package is configured, and so before its initramfs is made.
EARLY_FILES = (
    RecipeFile(path="etc/initramfs-tools/conf.d/lab", text=INITRAMFS_CONF),
    RecipeFile(path="usr/share/initramfs-tools/modules.d/lab", text=INITRAMFS_MODULES),
)
LATE_FILES = (
    RecipeFile(path="etc/fstab", text=FSTAB),
    RecipeFile(path="etc/hostname", text="debian\n"),
    RecipeFile(path="etc/machine-id"),  # empty: a new one at each boot, and no questions at the first
    RecipeFile(path="etc/resolv.conf"),
    # Emulated beside two others on as many processors, a disk has come up after more than systemd's own 90 seconds.
    RecipeFile(path="etc/systemd/system.conf.d/patience.conf", text="[Manager]\nDefaultDeviceTimeoutSec=600\n"),
    RecipeFile(path="etc/systemd/system/deploy-report.service", text=REPORT_UNIT),
    RecipeFile(
        path="etc/systemd/system/multi-user.target.wants/deploy-report.service",
        link="../deploy-report.service",
    ),
    RecipeFile(path="etc/udev/rules.d/90-swap.rules", text=SWAP_RULE),
    RecipeFile(path="usr/local/sbin/deploy-report", text=REPORT_SCRIPT, mode=0o755),
    *_masked("system", MASKED_UNITS),
    *_masked("system-generators", MASKED_GENERATORS),
)
CUSTOMIZE = 'chroot "$1" passwd --quiet --delete root'


@dataclass(frozen=True, kw_only=True)
class DebianImage:
    """A built image and what a test wants to know of it; kernel and initrd are copies of the image's."""

    path: Path
    root_uuid: str
    kernel_version: str
    virtual_size: int
    kernel: Path
    initrd: Path


@dataclass(frozen=True, kw_only=True)
class Swap:
    """One active swap area."""

    device: str
    size: int


@dataclass(frozen=True, kw_only=True)
class DeployReport:
    """What a booted image said of itself; None for what the machine did not have."""

    cmdline: str
    firmware: str
    root_uuid: str
    root_source: str
    root_size: int
    swap: tuple[Swap, ...]
    ephemeral_uuid: str | None
    ephemeral_source: str | None
    config_drive: str | None
    config_drive_type: str | None
    config_drive_uuid: str | None


def parse_deploy_report(serial: str) -> DeployReport | None:
    """Read the report out of a serial console's text; None until it is complete."""
    report = (line for line in serial.splitlines() if line.startswith(REPORT_PREFIX))
    lines = [line.removeprefix(REPORT_PREFIX) for line in report]
    if "done" not in lines:
        return None
    facts = [line.partition("=")[::2] for line in lines]
    values = dict(facts)
    return DeployReport(
        cmdline=values["cmdline"],
        firmware=values["firmware"],
        root_uuid=values["root-uuid"],
        root_source=values["root-source"],
        root_size=int(values["root-size"]),
        swap=tuple(_parse_swap(value) for key, value in facts if key == "swap"),
        ephemeral_uuid=values.get("ephemeral"),
        ephemeral_source=values.get("ephemeral-source"),
        config_drive=values.get("config-drive"),
        config_drive_type=values.get("config-drive-type"),
        config_drive_uuid=values.get("config-drive-uuid"),
    )


def build_partition_image(
    cache: Path, release: Release = Release.DEBIAN_12, *, more: Sequence[str] = (), log: Log = print
) -> DebianImage:
    """Return the image, with ``more`` packages in it, building it first if the cache has none of this recipe."""
    recipe = _recipe_hash(release, more)
    root_uuid = str(uuid.UUID(recipe[:32], version=4))

    def build(image: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as work:
            _build(Path(work), image, release, more, root_uuid=root_uuid, log=log)

    return _load(built(cache / f"debian-{release.number}-{recipe[:12]}", build))


def _build(work: Path, image: Path, release: Release, more: Sequence[str], *, root_uuid: str, log: Log) -> None:
    tree = work / "tree"
    _make_tree(work, tree, release, more, log)

    kernel = max((tree / "boot").glob("vmlinuz-*"))
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.copyfile(kernel, image / "vmlinuz")
    shutil.copyfile(tree / "boot" / f"initrd.img-{version}", image / "initrd.img")

    size = _size_for(tree)
    raw = work / "root.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    log(f"making the ext4 file system, {size // MIB} MiB")
    _run(["mke2fs", "-q", *EXT4_OPTIONS, "-L", ROOT_LABEL, "-U", root_uuid, "-d", str(tree), str(raw)], log)
    log("packing it as qcow2")
    _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image / "root.qcow2")], log)

    facts = {"root_uuid": root_uuid, "kernel_version": version, "virtual_size": size}
    (image / "image.json").write_text(json.dumps(facts, indent=2))


def _make_tree(work: Path, tree: Path, release: Release, more: Sequence[str], log: Log) -> None:
    early, late, apt_conf = work / "early.tar", work / "late.tar", work / "90machine"
    _write_tar(early, EARLY_FILES)
    _write_tar(late, LATE_FILES)
    apt_conf.write_text(_apt_settings_of_this_machine())
    log(f"building a Debian {release.number} root file system with mmdebstrap: this needs the network")
    _run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join((*PACKAGES, *more))}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_UNPACKED),
            f"--setup-hook=copy-in {apt_conf} /etc/apt/apt.conf.d",
            f"--essential-hook=tar-in {early} /",
            f"--customize-hook={CUSTOMIZE}",
            f"--customize-hook=tar-in {late} /",
            f'--customize-hook=rm "$1"/etc/apt/apt.conf.d/{apt_conf.name}',
            release,
            str(tree),
        ],
        log,
    )


def _apt_settings_of_this_machine() -> str:
    """How this machine's apt fetches (proxies, time-outs): the build needs it, the image does not keep it."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    wanted = (line for line in dump.splitlines() if line.startswith("Acquire::"))
    return "".join(f"{line}\n" for line in wanted if not line.startswith("Acquire::IndexTargets"))


def _write_tar(path: Path, files: Sequence[RecipeFile]) -> None:
    with tarfile.open(path, "w") as tar:
        for file in files:
            content = file.text.encode()
            entry = tarfile.TarInfo(file.path)
            entry.mode = file.mode
            if file.link is None:
                entry.size = len(content)
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            tar.addfile(entry, io.BytesIO(content))


def _size_for(tree: Path) -> int:
    """What the tree takes in blocks of 4 KiB, a fifth more for use, a journal and inode tables."""
    blocks = sum(-(-entry.lstat().st_size // 4096) for entry in tree.rglob("*"))
    return -(-int(blocks * 4096 * 1.2 + 32 * MIB) // MIB) * MIB


def _recipe_hash(release: Release, more: Sequence[str]) -> str:
    """Anything here that changes the image changes this: the recipe is this whole file, and what is added to it."""
    return hashlib.sha256(Path(__file__).read_bytes() + " ".join((release, *more)).encode()).hexdigest()


def _load(home: Path) -> DebianImage:
    facts = json.loads((home / "image.json").read_text())
    return DebianImage(path=home / "root.qcow2", kernel=home / "vmlinuz", initrd=home / "initrd.img", **facts)


def _parse_swap(value: str) -> Swap:
    device, size = value.split()
    return Swap(device=device, size=int(size))


def _run(argv: Sequence[str], log: Log) -> None:
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log(line.rstrip())
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)


def main() -> None:
    """Build the image from the command line, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m lab.debian", description=main.__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="directory that keeps what was built")
    image = build_partition_image(parser.parse_args().cache)
    print(f"{image.path}: {image.virtual_size // MIB} MiB, kernel {image.kernel_version}, {image.root_uuid}")


if __name__ == "__main__":
    main()
