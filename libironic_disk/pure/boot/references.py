"""UUIDs of file systems in the text of configuration files."""

from __future__ import annotations

import re
from typing import Final

_EDGE: Final = r"[0-9A-Za-z-]"


def replace_uuid(text: str, old: str, new: str) -> str:
    """Put one UUID in the place of another wherever it stands as a whole word, in either case of letters.

    That is how fstab, crypttab, menus of GRUB, loader entries and kernel command lines refer to a file system:
    ``UUID=…``, ``/dev/disk/by-uuid/…``, or bare behind ``search --fs-uuid``. A longer word with the UUID in it is
    another one. A file system that had no UUID is referred to nowhere.
    """
    if not old:
        return text
    return re.sub(rf"(?<!{_EDGE}){re.escape(old)}(?!{_EDGE})", lambda _: new, text, flags=re.IGNORECASE)
