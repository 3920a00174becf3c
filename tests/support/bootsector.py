"""A disk with a boot sector that needs no system, and says that it runs."""

from __future__ import annotations

from pathlib import Path

# Writes the text at 0x7c40 to the first serial port, echoes one character, then stops. With interrupts on, SeaBIOS
# writes what it has left to say from its timer's, in the midst of the text.
_CODE = bytes.fromhex(
    "fa 31c0 8ed8"  # cli; xor ax, ax; mov ds, ax
    "ba f803"  # mov dx, 0x3f8
    "be 407c"  # mov si, 0x7c40
    "ac 84c0 7403 ee ebf8"  # next: lodsb; test al, al; jz wait; out dx, al; jmp next
    "ba fd03 ec a801 74f8"  # wait: mov dx, 0x3fd; in al, dx; test al, 1; jz wait
    "ba f803 ec ee"  # mov dx, 0x3f8; in al, dx; out dx, al
    "f4 ebfd"  # stop: hlt; jmp stop
)
MARKER = "a machine that boots"


def disk(path: Path) -> Path:
    """Make it."""
    code = _CODE.ljust(0x40, b"\0") + MARKER.encode() + b"\0"
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return path
