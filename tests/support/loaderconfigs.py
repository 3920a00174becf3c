"""Configurations of boot loaders in the manner of what distributions have on their ISOs."""

from __future__ import annotations

from typing import Final

DEBIAN_LIVE_GRUB: Final = rb"""
source /boot/grub/config.cfg

# Live boot
menuentry "Live system (amd64)" --hotkey=l {
	linux	/live/vmlinuz-6.1.0-9-amd64 boot=live components quiet splash findiso=${iso_path}
	initrd	/live/initrd.img-6.1.0-9-amd64
}
menuentry "Live system (amd64 fail-safe mode)" {
	linux	/live/vmlinuz-6.1.0-9-amd64 boot=live components memtest noapic noapm nodma \
		nomce nosmp nosplash vga=788
	initrd	/live/initrd.img-6.1.0-9-amd64
}
submenu 'Advanced install options ...' --hotkey=a {
	source /boot/grub/install.cfg
}
if [ "$grub_platform" = pc ]; then
	menuentry "Memory test" { linux16 /live/memtest.bin }
fi
"""

UBUNTU_GRUB: Final = rb"""
set timeout=30

loadfont unicode

set menu_color_normal=white/black
set menu_color_highlight=black/light-gray

menuentry "Try or Install Ubuntu Server" {
	set gfxpayload=keep
	linux	/casper/vmlinuz  ---
	initrd	/casper/initrd
}
menuentry 'Test "memory"' {
	linux16	/boot/memtest86+x64.bin
}
grub_platform
if [ "$grub_platform" = "efi" ]; then
menuentry 'Boot from next volume' {
	exit 1
}
menuentry 'UEFI Firmware Settings' {
	fwsetup
}
fi
"""

FEDORA_GRUB: Final = rb"""
set default="1"

function load_video {
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  fi
}

load_video
set gfxpayload=keep
insmod gzio

search --no-floppy --set=root -l 'Fedora-S-dvd-x86_64-39'

### BEGIN /etc/grub.d/10_linux ###
menuentry 'Install Fedora 39' --class fedora --class gnu-linux --class gnu --class os {
	linux /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39 quiet
	initrd /images/pxeboot/initrd.img
}
submenu 'Troubleshooting -->' {
	menuentry 'Rescue a Fedora system' --class fedora {
		linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39 inst.rescue 'dyndbg=file x +p'
		initrdefi /images/pxeboot/initrd.img
	}
}
"""

OPENSUSE_GRUB: Final = rb"""
with_timeout=1
set linux=linux
set initrd=initrd
if [ "${grub_cpu}" = "x86_64" ] ; then
  if [ "${grub_platform}" = "efi" ] ; then
    set linux=linuxefi
    set initrd=initrdefi
  fi
fi
menuentry 'Installation' --class opensuse --class gnu-linux --class gnu --class os {
  set gfxpayload=keep
  echo 'Loading kernel ...'
  $linux /boot/x86_64/loader/linux splash=silent $extra_cmdline
  echo 'Loading initial ramdisk ...'
  $initrd /boot/x86_64/loader/initrd
}
"""

LOOPED_GRUB: Final = rb"""
set kopts="quiet splash"
for isofile in /isos/*.iso; do
  menuentry "$isofile" "$isofile" {
    set isofile="$2"
    loopback loop $isofile
    linux (loop)/casper/vmlinuz iso-scan/filename=${isofile} $kopts ---
    initrd (loop)/casper/initrd
  }
done
configfile ($root)/EFI/fedora/grub.cfg
"""

DEBIAN_SYSLINUX: Final = b"""\
# D-I config version 2.0
path
include menu.cfg
default vesamenu.c32
prompt 0
timeout 0
label install
\tmenu label ^Install
\tkernel /install.amd/vmlinuz
\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet
menu begin advanced
\tmenu title Advanced options
\tlabel mainmenu
\t\tmenu label ^Back..
\t\tmenu exit
\tinclude adtxt.cfg
menu end
label help
\tmenu label ^Help
\ttext help
   Display help screens; label and append are only words here
label no-label
append nothing
\tendtext
\tconfig prompt.cfg
"""

FEDORA_SYSLINUX: Final = (
    b"default vesamenu.c32\r\ntimeout 600\r\n\r\n"
    b"label linux\r\n  menu label ^Install Fedora 39\r\n  menu default\r\n  kernel vmlinuz\r\n"
    b"  append initrd=initrd.img inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-39 quiet\r\n\r\n"
    b"label local\r\n  menu label Boot from ^local drive\r\n  localboot 0xffff\r\n\r\n"
    b"label memtest\r\n  kernel memtest\r\n"
)

ARCH_SYSLINUX: Final = b"""\
SERIAL 0 115200
UI vesamenu.c32
MENU TITLE Arch Linux
APPEND global=1 quiet

LABEL arch
TEXT HELP
Boot the Arch Linux install medium on BIOS.
ENDTEXT
MENU LABEL Arch Linux install medium (%ARCH%, ^BIOS)
LINUX /arch/boot/x86_64/vmlinuz-linux
INITRD /arch/boot/intel-ucode.img,/arch/boot/x86_64/initramfs-linux.img
APPEND archisobasedir=arch archisolabel=ARCH_202311 "dyndbg=file x +p"

LABEL inherits
LINUX /vmlinuz

LABEL inherits-and-says-more
KERNEL /vmlinuz first=1
INITRD /initrd

LABEL nothing
KERNEL /vmlinuz
APPEND -

LABEL hdt
COM32 hdt.c32
APPEND modules_alias=hdt/modalias.gz

LABEL existing
COM32 chain.c32
APPEND boot

LABEL config
CONFIG /syslinux/other.cfg
"""

PXELINUX_IMPLICIT: Final = b"default vmlinuz\nappend initrd=initrd.img ip=dhcp\nprompt 1\n"

ARCH_ENTRY: Final = b"""\
title    Arch Linux install medium (x86_64, UEFI)
sort-key 01
linux    /arch/boot/x86_64/vmlinuz-linux
initrd   /arch/boot/intel-ucode.img
initrd   /arch/boot/x86_64/initramfs-linux.img
options  archisobasedir=arch archisolabel=ARCH_202311
options  quiet "x=a b"
"""

FEDORA_ENTRY: Final = b"""\
title Fedora Linux (6.5.6-300.fc39.x86_64) 39
version 6.5.6-300.fc39.x86_64
linux /vmlinuz-6.5.6-300.fc39.x86_64
initrd /initramfs-6.5.6-300.fc39.x86_64.img $tuned_initrd
options root=UUID=0 ro $kernelopts $tuned_params
grub_users $grub_users
"""

BARE_ENTRY: Final = b"# nothing else\nversion 6.1\r\nlinux /vmlinuz\r\ninitrd /initrd"
"""Without options, without an end of its last line."""
