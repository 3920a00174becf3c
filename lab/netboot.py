"""A network to boot from: QEMU's DHCP and TFTP, a web server that answers ranges, a system that says what it got.

QEMU's DHCP names one boot file to whoever asks. To the machine, the host's loopback is at :data:`HOST`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab import cache_directory
from lab.initramfs import with_busybox
from lab.listening import answering
from lab.qemu import DISK_BOOT_INDEX
from lab.testmachine import debian_packages, kernel_version

HOST = "10.0.2.2"
MAC = "52:54:00:aa:bb:01"
SAYS = "NETWORK BOOT"

# In digits: letters of a serial line that a loader or a terminal may have an opinion of aren't what is tested.
_INIT = f"""\
echo "{SAYS} CMDLINE $(hexdump -v -e '/1 "%02x"' /proc/cmdline) END"
echo o >/proc/sysrq-trigger
read -r forever </dev/console
"""
_SAID = re.compile(rf"{SAYS} CMDLINE ([0-9a-f]+) END")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A machine's one network card.

    Attributes:
        tftp: the directory that TFTP serves; None for no TFTP.
        boot_file: what DHCP names.
        own_rom: whether the card has QEMU's ROM, which is an iPXE; else it has the firmware's own driver.
    """

    tftp: Path | None = None
    boot_file: str = ""
    own_rom: bool = True

    def arguments(self) -> tuple[str, ...]:
        """Return QEMU's arguments."""
        # Without IPv6, a firmware doesn't ask for a minute whether anybody boots it by that.
        user = "user,id=network,ipv6=off"
        if self.tftp is not None:
            user += f",tftp={self.tftp}"
        if self.boot_file:
            user += f",bootfile={self.boot_file}"
        # Before the disk.
        card = f"virtio-net-pci,netdev=network,mac={MAC},bootindex={DISK_BOOT_INDEX - 1}"
        if not self.own_rom:
            card += ",romfile="
        return ("-netdev", user, "-device", card)


def kernel_and_ramdisk(directory: Path) -> tuple[Path, Path]:
    """Put Debian's kernel and a RAM disk there that says its command line on the console; return both."""
    packages = debian_packages(cache_directory())
    version = kernel_version(packages)
    kernel, ramdisk = directory / "vmlinuz", directory / "initrd.img"
    kernel.write_bytes((packages / "boot" / f"vmlinuz-{version}").read_bytes())
    ramdisk.write_bytes(with_busybox(packages, version, _INIT, modules=("virtio_pci",)))
    return kernel, ramdisk


def command_line(said: str) -> str:
    """Return the command line that the RAM disk said."""
    found = _SAID.search(said)
    if found is None:
        raise ValueError(f"no command line in {said[-1000:]!r}")
    return bytes.fromhex(found[1]).decode().rstrip("\n")


class _Ranges(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, directory: Path, asked: list[str]) -> None:
        self._directory = directory
        self._asked = asked
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(is_head=True)

    def do_GET(self) -> None:
        """Answer with a file or a range of it."""
        self._answer(is_head=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: what was asked for is kept."""

    def _answer(self, *, is_head: bool) -> None:
        self._asked.append(self.path)
        path = (self._directory / self.path.lstrip("/")).resolve()
        if not path.is_relative_to(self._directory) or not path.is_file():
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        start, stop = 0, size
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if found:
            start, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if found else HTTPStatus.OK)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if is_head:
            return
        with path.open("rb") as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(_PIECE, stop - start))):
                start += len(piece)
                self.wfile.write(piece)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a machine that is turned off hangs up."""


@contextmanager
def web_server(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a directory to this host alone; give its URL as a machine has it, and the list of what is asked for."""
    asked: list[str] = []
    handler = partial(_Ranges, directory=directory.resolve(), asked=asked)
    with _Server(("127.0.0.1", 0), handler) as server, answering(server):
        yield f"http://{HOST}:{server.server_port}/", asked
