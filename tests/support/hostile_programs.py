"""What of an image a careless library would run, or have a shell, udev, Python or the loader of programs obey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# What a careless library would run, by the image's own paths or with its root as the directory to start in.
PROGRAMS: Final = (
    *("usr/sbin/grub-install", "usr/sbin/grub-mkconfig", "usr/sbin/grub2-mkconfig", "usr/sbin/update-grub"),
    *("usr/sbin/grub-probe", "usr/bin/grub-mkimage", "usr/bin/grub-fstest", "usr/bin/grub-script-check"),
    *("usr/bin/grub-editenv", "etc/grub.d/00_header", "etc/grub.d/10_linux", "etc/grub.d/30_os-prober"),
    *("usr/bin/os-prober", "usr/bin/linux-boot-prober", "usr/lib/os-prober/newns", "usr/lib/os-probes/50mounted-tests"),
    *("usr/lib/os-probes/mounted/90linux-distro", "usr/lib/os-probes/init/10filesystems"),
    *("usr/lib/linux-boot-probes/50mounted-tests", "usr/lib/linux-boot-probes/mounted/40grub2"),
    *("usr/bin/kernel-install", "usr/lib/kernel/install.d/50-own.install", "etc/kernel/install.d/50-own.install"),
    *("etc/kernel/postinst.d/zz-own", "etc/kernel/postrm.d/zz-own", "usr/sbin/installkernel", "usr/bin/bootctl"),
    *("usr/sbin/mkinitrd", "usr/sbin/update-initramfs", "usr/bin/dracut", "etc/initramfs-tools/hooks/own"),
    *("usr/share/initramfs-tools/hooks/own", "usr/sbin/ldconfig", "usr/sbin/ldconfig.real", "usr/bin/ldd"),
    *("usr/sbin/mke2fs", "usr/sbin/mkfs.ext4", "usr/sbin/mkfs.vfat", "usr/sbin/mkfs.xfs", "usr/sbin/fsck.ext4"),
    *("usr/sbin/e2fsck", "usr/sbin/tune2fs", "usr/sbin/resize2fs", "usr/sbin/mount.ext4", "usr/sbin/mount.fuse"),
    *("usr/bin/mount", "usr/bin/umount", "usr/bin/unshare", "usr/bin/setpriv", "usr/bin/chroot", "usr/bin/lsb_release"),
    *("usr/sbin/blkid", "usr/lib/udev/own", "usr/bin/udevadm", "usr/bin/efibootmgr", "usr/bin/systemd-nspawn"),
    *("usr/bin/sh", "usr/bin/bash", "usr/bin/python3", "usr/bin/env", "usr/bin/grep", "usr/bin/ls", "usr/bin/true"),
    *("init", "sh", "mount", "grub-mkconfig", "usr/sbin/init", "usr/lib/systemd/system-generators/own"),
)
# What a shell, udev, the loader of programs or Python would take for its own and do what it says.
OBEYED: Final[Mapping[str, str]] = {
    "etc/default/grub": "GRUB_CMDLINE_LINUX=own.default\nGRUB_DISTRIBUTOR=`{mark}`\nX=$({mark})\n",
    "etc/default/grub.d/own.cfg": "{mark}\n",
    "etc/os-release": 'NAME="Own"\nPRETTY_NAME="Own $({mark})"\nX=`{mark}`\n',
    "etc/lsb-release": "DISTRIB_ID=Own\nDISTRIB_DESCRIPTION=`{mark}`\n",
    "etc/kernel/cmdline": "own.cmdline $({mark})\n",
    "etc/udev/rules.d/00-own.rules": 'SUBSYSTEM=="block", RUN+="/bin/sh -c \'{mark}\'"\n',
    "usr/lib/udev/rules.d/00-own.rules": 'SUBSYSTEM=="block", RUN+="/bin/sh -c \'{mark}\'"\n',
    "etc/modprobe.d/own.conf": "install vfat {mark}\ninstall ext4 {mark}\n",
    "etc/mtools.conf": 'drive c: file="{outside}/etc/fstab"\n',
    "etc/ld.so.preload": "{outside}/own.so\n",
    "sitecustomize.py": "import os; os.system('{mark}')\n",
    "os.py": "import posix; posix.system('{mark}')\n",
}
