"""What an image is, from what it looks like and what it is said to be."""

from __future__ import annotations

import pytest

from libironic_disk.errors import DiskError, FormatMismatch, ImageRefused
from libironic_disk.pure.images.inspection import ImageFormat, settle

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


@pytest.mark.parametrize(
    ("found", "declared", "settled"),
    [
        ({"raw"}, None, RAW),
        ({"raw"}, RAW, RAW),
        ({"gpt"}, None, RAW),
        ({"gpt"}, RAW, RAW),
        ({"iso"}, RAW, RAW),
        ({"iso", "gpt"}, RAW, RAW),
        ({"luks"}, RAW, RAW),
        ({"qcow2"}, None, QCOW2),
        ({"qcow2"}, QCOW2, QCOW2),
    ],
)
def test_what_is_written(found: set[str], declared: ImageFormat | None, settled: ImageFormat) -> None:
    assert settle(frozenset(found), declared, image="i") is settled


@pytest.mark.parametrize(
    ("found", "declared", "error", "words"),
    [
        ({"qcow2"}, RAW, FormatMismatch, "declared as raw but its bytes are qcow2"),
        ({"vmdk"}, RAW, FormatMismatch, "declared as raw but its bytes are vmdk"),
        ({"vhdx"}, RAW, FormatMismatch, "vhdx"),
        ({"raw"}, QCOW2, FormatMismatch, "declared as qcow2 but its bytes are raw"),
        ({"vdi"}, QCOW2, FormatMismatch, "vdi"),
        ({"iso", "gpt"}, QCOW2, FormatMismatch, "gpt and iso"),
        ({"vmdk"}, None, ImageRefused, "vmdk images are not written"),
        ({"vmdk"}, ImageFormat.VMDK, ImageRefused, "vmdk images are not written"),
        ({"raw"}, ImageFormat.VHD, ImageRefused, "vhd images are not written"),
        ({"luks"}, None, ImageRefused, "declare it as raw"),
        ({"iso"}, None, ImageRefused, "declare it as raw"),
        ({"iso", "gpt"}, None, ImageRefused, "declare it as raw"),
        ({"qcow2", "gpt"}, QCOW2, ImageRefused, "gpt and qcow2 at once"),
        ({"qcow2", "iso"}, None, ImageRefused, "at once"),
        ({"qcow2", "iso"}, RAW, ImageRefused, "at once"),
        ({"qcow2", "vmdk"}, None, ImageRefused, "at once"),
        ({"some-future-format"}, RAW, FormatMismatch, "some-future-format"),
        ({"some-future-format"}, None, ImageRefused, "some-future-format"),
    ],
)
def test_what_is_refused(found: set[str], declared: ImageFormat | None, error: type[DiskError], words: str) -> None:
    with pytest.raises(error) as refused:
        settle(frozenset(found), declared, image="i")
    assert words in str(refused.value)
