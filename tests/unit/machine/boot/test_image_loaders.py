"""On plain files: damage anywhere. What is right is shown on loop devices (tests/loopdevices/test_image_loaders.py)."""

from __future__ import annotations

import random
from pathlib import Path

from libironic_disk.machine.boot import image_loaders
from libironic_disk.pure.roles import Architecture
from tests.support import configdrives


def test_damage_anywhere_is_a_problem_in_words_or_read(tmp_path: Path) -> None:
    tree = {
        f"EFI/{name}/{file}": b"shimx64.efi,x" for name in "abc" for file in ("BOOTX64.CSV", "shimx64.efi", "long name")
    }
    whole = configdrives.fat({**tree, "EFI/BOOT/BOOTX64.EFI": b"MZ"}, "-F", "12", size=256 * 1024)
    chance = random.Random(15)
    node = tmp_path / "esp"
    found_less = 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(chance.choice([64, 4096, 30_000]))] = chance.choice([0, 0xFF, chance.randrange(256)])
        node.write_bytes(data)
        found = image_loaders.find(str(node), Architecture.X86_64)
        assert all(problem.isprintable() for problem in found.problems)
        assert all(path.isprintable() for path in (found.removable, *(each.path for each in found.loaders)))
        if len(found.loaders) < 3 or not found.removable:
            found_less += 1
    assert found_less > 100
