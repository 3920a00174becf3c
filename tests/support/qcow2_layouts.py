"""qcow2 images as real tools leave them: converted with every option, enlarged, flattened, used by a guest.

Where the tables are in the file is what the layouts differ in. QEMU writes a table before the clusters that it maps,
except where it copies it first: when the L1 table grows, and at the first write after a snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from libironic_disk.units import KIB, MIB, align_down
from tests.support.oracles import output
from tests.support.qcow2_images import raw_image

SIZE = 8 * MIB
LARGER = 12 * MIB
# 512-byte sectors that fill no cluster of any size.
ODD_SIZE = SIZE + 3 * 512

_IMAGE = "the image"

Recipe = Callable[[Path, Path], None]
"""Makes an image at the second path from the raw one at the first."""

Step = Callable[[Path], None]
"""Changes an image."""


def converted(*flags: str, size: int = SIZE) -> Recipe:
    """Have qemu-img convert the raw image; of another size if that is given."""

    def make(raw: Path, image: Path) -> None:
        source = raw if size == SIZE else raw_image(image.with_suffix(".raw"), size=size, seed=size)
        output("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *flags, str(source), str(image))

    return make


def created(options: str, size: int = SIZE) -> Recipe:
    """Make an empty image."""

    def make(raw: Path, image: Path) -> None:
        output("qemu-img", "create", "-f", "qcow2", "-o", options, str(image), str(size))

    return make


def after(make: Recipe, *steps: Step) -> Recipe:
    """Do something with an image that was made."""

    def made(raw: Path, image: Path) -> None:
        make(raw, image)
        for step in steps:
            step(image)

    return made


def run(*commands: str) -> Step:
    """Run commands of qemu-io, which is then what a guest is."""
    return lambda image: _qemu_io(image, commands)


def killed(*commands: str) -> Step:
    """Run commands of qemu-io, and kill it: the image stays as a crashed host leaves it."""
    return lambda image: _qemu_io(image, [*commands, "flush", "sigraise 9"], ok=(-9,))


def guest(seed: int, *, grain: int, size: int = SIZE, count: int = 40) -> Step:
    """Let a guest write, write zeros and discard, at multiples of ``grain``; the seed decides where."""
    return lambda image: _qemu_io(image, _wishes(seed, grain, size, count))


def compressed_writes(seed: int, *, grain: int, size: int = SIZE) -> Step:
    """Write compressed clusters in an order that isn't the disk's; nothing may be there yet."""
    places = list(range(0, size - 64 * KIB, 3 * 64 * KIB))
    random.Random(seed).shuffle(places)
    length = max(grain, 32 * KIB)
    return run(*(f"write -c -P {1 + place % 251} {place} {length}" for place in places))


def resized(size: int, *flags: str) -> Step:
    """Give an image another size."""
    return _qemu_img("resize", *flags, "-f", "qcow2", _IMAGE, str(size))


def snapshot(flag: str, name: str = "first") -> Step:
    """Make, apply or delete an internal snapshot."""
    return _qemu_img("snapshot", flag, name, _IMAGE)


def amended(options: str) -> Step:
    """Change an image's own options."""
    return _qemu_img("amend", "-f", "qcow2", "-o", options, _IMAGE)


def with_bitmap(name: str) -> Step:
    """Add a bitmap that records what is written from now on."""
    return _qemu_img("bitmap", "--add", _IMAGE, name)


def repaired() -> Step:
    """Free what nobody refers to."""
    return _qemu_img("check", "-r", "all", "-f", "qcow2", _IMAGE)


def committed(options: str, *steps: Step) -> Recipe:
    """Write into an overlay, then commit that into its base, which is the image."""

    def make(raw: Path, image: Path) -> None:
        converted("-o", options)(raw, image)
        overlay = _overlay(image, options)
        for step in steps:
            step(overlay)
        output("qemu-img", "commit", "-f", "qcow2", str(overlay))
        overlay.unlink()

    return make


def flattened(options: str, *steps: Step) -> Recipe:
    """Write into an overlay, then copy into that, which is the image, what it lacks."""

    def make(raw: Path, image: Path) -> None:
        base = image.with_suffix(".base")
        converted("-o", options)(raw, base)
        overlay = _overlay(base, options)
        for step in steps:
            step(overlay)
        output("qemu-img", "rebase", "-f", "qcow2", "-b", "", str(overlay))
        overlay.rename(image)
        base.unlink()

    return make


def copied_by_dd(raw: Path, image: Path) -> None:
    """Have qemu-img copy as dd(1) does."""
    output("qemu-img", "dd", "-f", "raw", "-O", "qcow2", "bs=40000", f"if={raw}", f"of={image}")


def converted_into(options: str) -> Recipe:
    """Convert into an image that was used before."""

    def make(raw: Path, image: Path) -> None:
        after(created(options), guest(4, grain=4 * KIB))(raw, image)
        output("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", str(raw), str(image))

    return make


def _qemu_img(*words: str) -> Step:
    def change(image: Path) -> None:
        output("qemu-img", *(str(image) if word is _IMAGE else word for word in words))

    return change


def _overlay(base: Path, options: str) -> Path:
    overlay = base.with_suffix(".overlay")
    backing = f"{options},backing_file={base},backing_fmt=qcow2"
    output("qemu-img", "create", "-f", "qcow2", "-o", backing, str(overlay))
    return overlay


def _qemu_io(image: Path, commands: list[str] | tuple[str, ...], ok: tuple[int, ...] = (0,)) -> None:
    # Without -d it passes over what is discarded.
    words = (word for command in commands for word in ("-c", command))
    output("qemu-io", "-d", "unmap", "-f", "qcow2", *words, str(image), ok=ok)


def _wishes(seed: int, grain: int, size: int, count: int) -> list[str]:
    chance = random.Random(seed)
    wishes = []
    for number in range(count):
        start = align_down(chance.randrange(size - grain), grain)
        length = min(grain * chance.randint(1, 24), size - start)
        kind = chance.choice(["write -P {}", "write -P {}", "write -P {}", "write -z", "write -z -u", "discard"])
        wishes.append(f"{kind.format(1 + number)} {start} {length}")
    return wishes


_CLUSTERS = ("512", "1k", "4k", "16k", "64k", "256k", "2M")

_CONVERTED = {
    f"convert {' '.join(flags)}": converted(*flags)
    for flags in (
        *(("-o", f"cluster_size={size}") for size in _CLUSTERS),
        ("-o", "compat=0.10"),
        ("-o", "compat=0.10,cluster_size=4k"),
        ("-o", "lazy_refcounts=on"),
        ("-o", "refcount_bits=1"),
        ("-o", "refcount_bits=64,cluster_size=1k"),
        ("-o", "extended_l2=on"),
        ("-o", "extended_l2=on,cluster_size=16k"),
        ("-o", "preallocation=metadata"),
        ("-o", "preallocation=falloc"),
        ("-S", "0", "-o", "cluster_size=4k"),
        ("-W", "-m", "16", "-o", "cluster_size=4k"),
        ("-c",),
        ("-c", "-W", "-m", "16", "-o", "cluster_size=4k"),
        ("-c", "-o", "compat=0.10"),
        *(("-c", "-o", f"cluster_size={size}") for size in ("512", "4k", "2M")),
        ("-c", "-o", "extended_l2=on,cluster_size=16k"),
        *(("-c", "-o", f"compression_type=zstd,cluster_size={size}") for size in ("512", "4k", "64k", "2M")),
        ("-c", "-o", "compression_type=zstd,extended_l2=on,cluster_size=32k"),
    )
}

LATE: dict[str, Recipe] = {
    "convert -o preallocation=full,cluster_size=4k": converted("-o", "preallocation=full,cluster_size=4k"),
    "enlarged": after(converted("-o", "cluster_size=4k"), resized(LARGER)),
    "enlarged, tiny clusters": after(converted("-o", "cluster_size=512"), resized(LARGER)),
    "enlarged, compressed": after(converted("-c", "-o", "cluster_size=4k"), resized(LARGER)),
    "enlarged, zstd, tiny clusters": after(
        converted("-c", "-o", "cluster_size=512,compression_type=zstd"), resized(LARGER)
    ),
    "enlarged, extended L2": after(converted("-o", "cluster_size=16k,extended_l2=on"), resized(20 * MIB)),
    "enlarged, then used": after(
        converted("-o", "cluster_size=4k"), resized(LARGER), guest(2, grain=4 * KIB, size=LARGER)
    ),
    "enlarged with all metadata": after(
        converted("-o", "cluster_size=4k"), resized(LARGER, "--preallocation=metadata")
    ),
    "used after a snapshot": after(converted(), snapshot("-c"), guest(3, grain=64 * KIB)),
    "used after a snapshot, small clusters": after(
        converted("-o", "cluster_size=4k"), snapshot("-c"), guest(3, grain=4 * KIB, count=80)
    ),
    "used after a snapshot, compressed": after(
        converted("-c", "-o", "cluster_size=4k"), snapshot("-c"), guest(3, grain=4 * KIB, count=80)
    ),
    "used after several snapshots": after(
        converted("-o", "cluster_size=4k"),
        *(step for at in range(3) for step in (snapshot("-c", f"s{at}"), guest(at, grain=512, count=30))),
    ),
    "used after a snapshot, extended L2": after(
        converted("-o", "extended_l2=on,cluster_size=16k"), snapshot("-c"), guest(3, grain=512, count=80)
    ),
}
"""Layouts with a table behind what it maps."""

LAYOUTS: dict[str, Recipe] = {
    **_CONVERTED,
    "convert, odd size": converted("-o", "cluster_size=4k", size=ODD_SIZE),
    "convert -c, odd size": converted("-c", "-o", "cluster_size=2M", size=ODD_SIZE),
    "convert, odd size, extended L2": converted("-o", "extended_l2=on,cluster_size=64k", size=ODD_SIZE),
    "convert -n": converted_into("cluster_size=4k"),
    "dd": copied_by_dd,
    "nothing in it": created("cluster_size=64k"),
    "a single sector": after(created("cluster_size=64k", size=512), run("write -P 7 0 512")),
    **LATE,
    "made smaller": after(converted("-o", "cluster_size=4k"), guest(5, grain=4 * KIB), resized(SIZE - MIB, "--shrink")),
    "back at a snapshot": after(
        converted("-o", "cluster_size=4k"), snapshot("-c"), guest(6, grain=4 * KIB), snapshot("-a")
    ),
    "used after a snapshot that is gone": after(
        converted("-c"), snapshot("-c"), guest(3, grain=64 * KIB), snapshot("-d")
    ),
    "committed": committed("cluster_size=64k", guest(7, grain=4 * KIB)),
    "committed, small clusters": committed("cluster_size=4k", guest(7, grain=512)),
    "flattened": flattened("cluster_size=64k", guest(8, grain=4 * KIB)),
    "flattened, extended L2": flattened("cluster_size=16k,extended_l2=on", guest(8, grain=512)),
    "amended to version 3": after(converted("-o", "compat=0.10"), amended("compat=1.1")),
    "amended to version 2": after(converted("-o", "cluster_size=4k"), amended("compat=0.10")),
    "amended refcounts": after(converted("-o", "cluster_size=4k"), amended("refcount_bits=64")),
    "with bitmaps": after(converted(), with_bitmap("one"), guest(9, grain=4 * KIB), with_bitmap("two")),
    "used": after(created("cluster_size=64k"), guest(10, grain=4 * KIB, count=120)),
    "used, small clusters": after(created("cluster_size=4k"), guest(11, grain=512, count=120)),
    "used, tiny clusters": after(created("cluster_size=512"), guest(12, grain=512, count=120)),
    "used, version 2": after(created("cluster_size=4k,compat=0.10"), guest(13, grain=4 * KIB, count=80)),
    "used, extended L2": after(created("cluster_size=16k,extended_l2=on"), guest(14, grain=512, count=120)),
    "used, trimmed again and again": after(
        converted("-o", "cluster_size=4k"), *(guest(seed, grain=4 * KIB) for seed in range(20, 24))
    ),
    "compressed by a guest": after(created("cluster_size=4k"), compressed_writes(15, grain=4 * KIB)),
    "compressed by a guest, then used": after(
        created("cluster_size=64k,compression_type=zstd"),
        compressed_writes(16, grain=64 * KIB),
        guest(16, grain=4 * KIB),
    ),
    "convert -c, then used": after(converted("-c", "-o", "cluster_size=4k"), guest(17, grain=4 * KIB)),
    "crashed": after(
        converted("-o", "lazy_refcounts=on,cluster_size=4k"), killed("write -P 1 1M 300k", "discard 2M 1M")
    ),
    "crashed and repaired": after(
        converted("-o", "lazy_refcounts=on,cluster_size=4k"), killed("write -P 1 1M 300k", "discard 2M 1M"), repaired()
    ),
}
"""All of them, by what was done."""


class Shelf:
    """Images of these layouts, each made when it is asked for and not again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.raw = raw_image(folder / "source.raw", size=SIZE)
        self._made: dict[str, Path] = {}

    def image(self, layout: str) -> Path:
        """Return the image."""
        if layout not in self._made:
            path = self._folder / f"{len(self._made)}.qcow2"
            LAYOUTS[layout](self.raw, path)
            output("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(path.with_suffix(".disk")))
            self._made[layout] = path
        return self._made[layout]

    def disk(self, layout: str) -> bytes:
        """Return the bytes of its disk as QEMU reads them."""
        return self.image(layout).with_suffix(".disk").read_bytes()
