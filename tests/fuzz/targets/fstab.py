"""fstab: every line is kept as it was or read as findmnt reads it, and joining twice is joining once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.fstab import Line, Other
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, drawn, sampled, text_of
from tests.unit.pure.boot.test_fstab import OURS, ROOT, as_findmnt_reads, fields

_ONE_IN = 150
_LIKE_MOUNTINFO = re.compile(r"\s*[-+]?\d+\s+[-+]?\d")
_KNOWN = frozenset({ROOT, "LABEL=data", "/dev/mapper/vg-root"})
_SEED = f"""\
# /etc/fstab
UUID={ROOT} / ext4 errors=remount-ro 0 1
LABEL=data /srv/my\\040data xfs defaults,nofail 0 2 # data
/dev/disk/by-uuid/{ROOT.upper()} /boot auto
PARTUUID="1234-01" none swap sw 0 0
tmpfs /tmp tmpfs size=50% 0 0
server:/export /mnt nfs ro
"""


class _Fstab(Plain):
    words = words_of(
        b" |\t|\n|\r\n|#|\\040|\\012|\\134|\\|UUID=|LABEL=|PARTUUID=|/dev/disk/by-id/|/dev/|none|swap|/",
        b'//|/./|..|0|"|,|\xff|\0',
        b"\xc3\xa9|\\303\\251|99999999999|\xe2\x80\xa8|\xc2\xa0",
        ROOT.encode(),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        yield _SEED.encode()
        yield fstab.render(OURS).encode()
        for text in drawn(fields, random, 60):
            yield f"{Line(spec=text, mount=text, kind=text, options=text)}\n".encode()

    def examine(self, data: bytes) -> str:
        text = text_of(data)
        lines = fstab.parse(text)
        assert len(lines) == text.count("\n") + (not text.endswith("\n") and bool(text))
        written = fstab.render(lines)
        assert fstab.parse(written) == lines
        assert all(str(line) in text for line in lines if isinstance(line, Other))
        for keep in (True, False):
            merged = fstab.merge(text, OURS, keep=keep, known=_KNOWN)
            again = fstab.merge(merged.text, OURS, keep=keep, known=_KNOWN)
            assert again.text == merged.text
            ours = [line for line in fstab.parse(merged.text) if isinstance(line, Line) and line.mount == "/"]
            assert ours == [line for line in OURS if line.mount == "/"]
        mounting = [line for line in lines if isinstance(line, Line)]
        if mounting and sampled(data, _ONE_IN) and not set("\0\r") & set(written):
            expected = fstab.render(mounting).encode(errors="surrogateescape").decode(errors="replace")
            # A file that begins with two numbers is taken for /proc/self/mountinfo by libmount.
            if "\ufffd" not in expected and not _LIKE_MOUNTINFO.match(expected):
                assert as_findmnt_reads(expected) == mounting
        return f"{min(len(mounting), 3)} mounts"


TARGET = _Fstab()
