"""The layouts of the lab are what they say, by xorriso's reports: every test of boot ISOs rests on them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lab import isolayouts
from lab.isolayouts import IsoLayout, Names

ISOLINUX, ESP = ("BIOS", "/isolinux/isolinux.bin"), ("UEFI", isolayouts.ESP_IMAGE)
GRUB = ("BIOS", "/boot/grub/eltorito.img")
APPENDED = ("UEFI", "")

# The boot images by firmware and path, what the system area is, and how many entries a GPT has room for.
EXPECTED = {
    IsoLayout.BIOS_ONLY: ([ISOLINUX], "", 0),
    IsoLayout.EFI_ONLY: ([ESP], "", 0),
    IsoLayout.ISOLINUX: ([ISOLINUX, ESP], "MBR isohybrid cyl-align-on GPT", 128),
    IsoLayout.ISOLINUX_XORRISO: ([ISOLINUX, ESP], "MBR isohybrid cyl-align-on GPT", 248),
    IsoLayout.GRUB: ([GRUB, APPENDED], "MBR protective-msdos-label grub2-mbr cyl-align-off GPT", 248),
    IsoLayout.GRUB_ESP_MENU: ([GRUB, APPENDED], "MBR protective-msdos-label grub2-mbr cyl-align-off GPT", 248),
    IsoLayout.GRUB_MKRESCUE: (
        [("BIOS", "/boot/grub/i386-pc/eltorito.img"), ("UEFI", "/efi.img")],
        "MBR protective-msdos-label grub2-mbr cyl-align-off GPT APM",
        176,
    ),
    IsoLayout.ARM64: ([ESP], "MBR cyl-align-all", 0),
}


def xorriso(image: Path, *commands: str) -> str:
    argv = ["xorriso", "-indev", str(image), *commands]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("layout", IsoLayout)
def test_xorriso_finds_the_layout(tmp_path: Path, layout: IsoLayout) -> None:
    image = isolayouts.make(layout, tmp_path / "image.iso")
    report = xorriso(image, "-report_el_torito", "plain", "-report_system_area", "plain")
    firmware = re.findall(r"^El Torito boot img : +(\d+) +(\w+)  y", report, re.MULTILINE)
    paths = dict(re.findall(r"^El Torito img path : +(\d+)  (.*)$", report, re.MULTILINE))
    summary = re.findall(r"^System area summary: (.*)$", report, re.MULTILINE)
    entries = re.findall(r"^GPT entry array +: +\d+ +(\d+) ", report, re.MULTILINE)
    boot_images, area, room = EXPECTED[layout]
    assert [(kind, paths.get(number, "")) for number, kind in firmware] == boot_images
    assert summary == ([area] if area else [])
    assert [int(number) for number in entries] == ([room] if room else [])
    offset = re.findall(r"^Partition offset +: (\d+)$", report, re.MULTILINE)
    assert offset in ([], ["16" if boot_images[-1] == APPENDED else "0"])


@pytest.mark.parametrize(
    ("names", "rock_ridge", "joliet"),
    [
        (Names.ROCK_RIDGE, True, False),
        (Names.BOTH, True, True),
        (Names.JOLIET, False, True),
        (Names.PLAIN, False, False),
    ],
)
@pytest.mark.parametrize("layout", [IsoLayout.BIOS_ONLY, IsoLayout.GRUB])
def test_the_names_are_those_asked_for(
    tmp_path: Path, layout: IsoLayout, names: Names, rock_ridge: bool, joliet: bool
) -> None:
    image = isolayouts.make(layout, tmp_path / "image.iso", names=names)
    said = subprocess.run(["isoinfo", "-d", "-i", str(image)], check=True, capture_output=True, text=True).stdout
    assert ("Rock Ridge signatures version" in said) is rock_ridge
    assert ("Joliet with UCS level" in said) is joliet
    listed = subprocess.run(["isoinfo", "-f", "-i", str(image)], check=True, capture_output=True, text=True).stdout
    assert "/BOOT/GRUB/GRUB.CFG;1" in listed.splitlines()


def test_files_and_parameters_are_where_they_were_asked_for(tmp_path: Path) -> None:
    image = isolayouts.make(
        IsoLayout.ISOLINUX_XORRISO,
        tmp_path / "image.iso",
        files={"/some/where/else.txt": b"content\n", isolayouts.KERNEL: b"another kernel"},
        parameters="only=these",
        volume_id="ANOTHER",
    )
    wanted = {
        "/some/where/else.txt": "content\n",
        isolayouts.KERNEL: "another kernel",
        isolayouts.ISOLINUX_ENTRIES: "append initrd=/boot/initrd.img only=these\n",
        isolayouts.GRUB_ENTRIES: "linux\t/boot/vmlinuz only=these\n",
        isolayouts.LOADER_ENTRY: "options only=these\n",
    }
    for number, (path, content) in enumerate(wanted.items()):
        out = tmp_path / str(number)
        xorriso(image, "-osirrox", "on", "-extract", path, str(out))
        assert content in out.read_text()
    assert re.search(r"^Volume Id +: ANOTHER$", xorriso(image, "-pvd_info"), re.MULTILINE)


def test_grub_mkrescue_makes_none_without_rock_ridge(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Rock Ridge"):
        isolayouts.make(IsoLayout.GRUB_MKRESCUE, tmp_path / "image.iso", names=Names.PLAIN)
