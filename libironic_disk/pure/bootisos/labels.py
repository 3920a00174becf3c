r"""A volume id inside the configuration of boot loaders, where it says on which medium to look: found and replaced.

It is named in kernel parameters (``inst.stage2=hd:LABEL=...``, ``root=live:CDLABEL=...``, ``archisolabel=...``) and in
GRUB's ``search --label`` or ``-l``. A space in it is written ``\x20`` in the former and needs quotes in the latter.
"""

from __future__ import annotations

import re
from typing import Final

_IN_PARAMETERS: Final = rb"label=['\"]?"
_IN_SEARCH: Final = rb"[ \t='\"]"
_AFTER: Final = rb"(?=['\"\s:;,/}]|\Z)"
_SEARCH: Final = re.compile(rb"(?<![^\s;{&|])search[ \t]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._+-]{1,32}")


def is_plain(volume_id: str) -> bool:
    """Whether a volume id is the same word in every loader's syntax, in quotes or not."""
    return _PLAIN.fullmatch(volume_id) is not None


def renamed(text: bytes, old: str, new: str) -> bytes:
    """Return a configuration that looks for a medium called ``new`` where it looked for ``old``.

    It is the text itself where it looked for no such medium. ``new`` is plain.
    """
    if not old:
        return text
    plain, searching = (_pattern(before, old) for before in (_IN_PARAMETERS, _IN_SEARCH))
    lines = text.splitlines(keepends=True)
    return b"".join(
        (searching if _SEARCH.search(line) else plain).sub(lambda match: match["before"] + new.encode(), line)
        for line in lines
    )


def _pattern(before: bytes, volume_id: str) -> re.Pattern[bytes]:
    spaces = rb"(?:[ ]|\\{1,2}x20|\\[ ])"
    wanted = spaces.join(re.escape(part.encode()) for part in volume_id.split(" "))
    return re.compile(b"(?P<before>" + before + b")" + wanted + _AFTER, re.IGNORECASE)
