"""The power goes while several systems are deployed, or one of them anew: all boot as they were, or none, or all.

Where one is written anew the others boot at each moment, and GRUB's menu never leads to a root that isn't whole.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from libironic_disk import multiboot
from libironic_disk.pure.boot.multimenu import CONFIG
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange, without
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import documents, multiboot_partition, oracles
from tests.support.block_log import logged
from tests.support.disks import attach, copied
from tests.support.firmware_rules import FirmwareView, passes_on
from tests.support.multiboot_partition import image_files
from tests.support.power_cuts import Run, outside

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 220 * MIB


def make_image(bench: Bench, kernel: str) -> Path:
    """Make a small ext4 with a kernel of sorts."""
    disk = bench.disk(8 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", disk.node], check=True, capture_output=True)
    multiboot_partition.write(disk.node, FileSystem.EXT4, image_files(kernel))
    return disk.file


def deploy(node: str, images: dict[str, Path], *, anew: str | None = None) -> None:
    """Deploy all images, or one of them onto its own volume."""
    document = {
        "images": documents.images(images),
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": node},
                "volumes": [
                    {
                        "type": "partition",
                        "mount": "/",
                        "images": [name],
                        "size": "16",
                        "name": f"root-{name}",
                        "keep_data": anew is not None and name != anew,
                    }
                    for name in images
                ],
            }
        ],
        "partitions_policy": "clean" if anew is None else "verify",
    }
    request = multiboot.MultibootRequest(description=multiboot.read(document), menu_timeout=1, os_prober=False)
    multiboot.apply(multiboot.plan(request))


def test_all_systems_are_there_or_none(bench: Bench, torn: int, tell: Tell) -> None:
    file, before = bench.blank_file(SIZE), bench.blank_file(0)
    with attach(file, 512) as plain:
        deploy(plain.node, {name: make_image(bench, "1") for name in ("one", "two")})
    copied(file, before)
    with logged(file) as disk:
        deploy(disk.node, {name: make_image(bench, "2") for name in ("one", "two")})
        disk.settle()
        run = Run(before=before, log=disk.written())
    place = bench.blank_file(0)
    assert oracles.output("cmp", str(run.after(place)), str(file)) == ""
    view = FirmwareView(place, 512)
    seen: Counter[str] = Counter()
    for moment in run.moments(place, seed=27, torn=torn):
        if not view.starters(moment):
            assert passes_on(moment), moment.name
            assert view.opinions(moment) == set(), moment.name
            seen["nothing"] += 1
            continue
        boots = "old" if moment.equals(before, [ByteRange(0, SIZE)]) else "new"
        whole = boots == "old" or moment.equals(file, [ByteRange(0, SIZE)])
        assert whole, f"{moment.name}: a mixture"
        seen[boots] += 1
    assert min(seen["old"], seen["new"]) > 0
    assert seen["nothing"] > 50
    tell("several systems over several", run, seen)


def test_the_menu_never_leads_to_half_a_system(bench: Bench, torn: int, tell: Tell) -> None:
    file, before = bench.blank_file(SIZE), bench.blank_file(0)
    with attach(file, 512) as plain:
        deploy(plain.node, {name: make_image(bench, "1") for name in ("one", "two")})
    copied(file, before)
    with logged(file) as disk:
        deploy(disk.node, {"one": Path("/none"), "two": make_image(bench, "2")}, anew="two")
        run = Run(before=before, log=disk.written())
    place = bench.blank_file(0)
    rows = oracles.sfdisk(str(file)).rows
    spans = {row.name: ByteRange(row.start * 512, (row.start + row.size) * 512) for row in rows}
    partition = f"gpt{[row.name for row in rows].index('multiboot') + 1}"
    # Nothing else changes at any moment: no table, no loader, and no byte of the other system.
    changed = run.changed()
    assert without(changed, [spans["multiboot"], spans["root-two"]]) == ()
    of_grub = without(changed, outside(SIZE, spans["multiboot"]))
    menus: dict[bytes, bytes] = {}
    seen: Counter[str] = Counter()
    last = b""
    for moment in run.moments(place, seed=28, torn=torn):
        state = hashlib.sha256(b"".join(moment.read(span.start, span.size) for span in of_grub)).digest()
        if state not in menus:
            assert b"load_env" in oracles.grub_cat(place, CONFIG, partition=partition)
            _, menus[state] = multiboot_partition.as_grub_finds(place, partition=partition)
        last = menus[state]
        assert b"vmlinuz-1" in last, moment.name
        whole = leads_to(last)
        if whole != "one":
            assert moment.equals(before if whole == "old two" else file, [spans["root-two"]]), moment.name
        seen[whole] += 1
    assert leads_to(last) == "new two"
    assert min(seen["old two"], seen["one"], seen["new two"]) > 0
    tell("one of several systems anew", run, seen)


def leads_to(shown: bytes) -> str:
    """Return where a menu leads: beside the first system, which it always has, to which version of the second."""
    return "new two" if b"vmlinuz-2" in shown else "old two" if shown.count(b"vmlinuz-1") > 1 else "one"
