from __future__ import annotations

import pytest

from libironic_disk.pure.boot.references import replace_uuid

OLD, NEW = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    "text",
    [
        "UUID={} / ext4 defaults 0 1",
        'UUID="{}" / ext4',
        "search --no-floppy --fs-uuid --set=root {}\n",
        "linux /vmlinuz root=UUID={} ro",
        "/dev/disk/by-uuid/{} /srv xfs",
        "options root=UUID={},x",
    ],
)
def test_a_uuid_is_replaced_wherever_it_is_a_word(text: str) -> None:
    assert replace_uuid(text.format(OLD), OLD, NEW) == text.format(NEW)
    assert replace_uuid(text.format(OLD.upper()), OLD, NEW) == text.format(NEW)


def test_a_longer_word_is_another_one() -> None:
    text = f"UUID={OLD}0 UUID=0{OLD} UUID={OLD}-x"
    assert replace_uuid(text, OLD, NEW) == text


def test_a_short_uuid_of_fat_is_not_found_inside_of_words() -> None:
    assert replace_uuid("UUID=1A2B-3C4D 01A2B-3C4D", "1A2B-3C4D", r"\1") == r"UUID=\1 01A2B-3C4D"


def test_no_uuid_is_nowhere() -> None:
    assert replace_uuid("UUID= / ext4", "", NEW) == "UUID= / ext4"
