"""A second opinion on which partitions hold a system: os-prober's own probes, on our partitions alone.

os-prober itself looks at every disk of the machine, and mounts what it finds. Its probes are small programs that look
at one mounted file system each. They run here on the file systems that they are meant for, read-only, in a mount
namespace that ends with them, as the user "nobody", with bounded memory and not longer than a deadline. Their root
directory has this machine's programs and nothing else of it: a link in the image that leads to a device, or to a file
of this machine, finds none.

Its second half, which lists kernels, is left out: the last of its probes hands names of files in the image to the
shell's ``eval`` (os-prober 1.81, linux-boot-probes/mounted/90fallback). Whoever names a kernel ``vmlinuz-$(command)``
has that command run, as root.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.errors import Cancelled, DiskError
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.boot import image_entries
from libironic_disk.machine.process import Limits
from libironic_disk.machine.trees.mounts import released, require_alone, safe_options, wait_until_released
from libironic_disk.pure.boot import grubcfg
from libironic_disk.pure.boot.menurecord import Place
from libironic_disk.units import MIB

PROBES: Final = Path("/usr/lib/os-probes/mounted")
_USED: Final = ("20microsoft", "40lsb", "70hurd", "90linux-distro")
# The names come as arguments: nothing of them is ever a part of the script. The probes count systems in a file below
# /var/lib/os-prober.
_SCRIPT: Final = """\
node=$1 type=$2 options=$3 folder=$4 probes=$5; shift 5
mount -t tmpfs -o mode=755,size=1m none "$folder" && cd "$folder" || exit 2
for each in bin sbin lib lib32 lib64 libx32 usr; do
  if [ -L "/$each" ]; then
    cp -P "/$each" "$each" || exit 2
  elif [ -d "/$each" ]; then
    mkdir "$each" && mount --rbind "/$each" "$each" || exit 2
  fi
done
mkdir -p dev target && mknod -m 666 dev/null c 1 3 && mkdir -p -m 1777 tmp var/lib/os-prober || exit 2
[ -e ".$probes" ] || { mkdir -p ".$probes" && mount --bind "$probes" ".$probes"; } || exit 2
mount -t "$type" -o "$options" "$node" target || exit 2
ended=1
for probe; do
  chroot . setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all \
    "$probe" "$node" /target "$type"
  case $? in 0) exit 0 ;; 1) ;; *) ended=2 ;; esac
done
exit $ended
"""
_NOTHING_FOUND: Final = 1
# A shell keeps in memory all that it reads of a file of the image.
_LIMITS: Final = Limits(address_space=256 * MIB, cpu_seconds=60)
# Not nosymfollow: Debian's loader of programs, by which the probes know a system, is itself a link.
_ALWAYS: Final = ("ro", "nosuid", "nodev", "noexec")
_RELEASE_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A system that os-prober's probes found; ``title`` is theirs, ``kind`` such as ``linux`` or ``chain``."""

    node: str
    title: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OsProberReport:
    """What was found, and what kept the probes from finding more; both are for a report, and decide nothing.

    ``unseen`` are the devices that they could not look at: that nothing was found there says nothing.
    """

    found: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    unseen: frozenset[str] = frozenset()


def probe(
    nodes: Mapping[str, Place], *, timeout: float = 20.0, cancel: Cancellation | None = None, probes: Path = PROBES
) -> OsProberReport:
    """Let os-prober's probes look at some unmounted file systems.

    Args:
        nodes: devices, and the roots on them.
        timeout: seconds for each of them.
        cancel: ends the probes.
        probes: where they are.

    Raises:
        Cancelled: the caller wished so. Whatever else goes wrong is a problem in the report.
    """
    used = [str(probes / name) for name in _USED if (probes / name).is_file()]
    if not used:
        return OsProberReport(problems=("os-prober isn't installed: its opinion is missing",), unseen=frozenset(nodes))
    found: list[Found] = []
    problems: dict[str, str] = {}
    for node, place in nodes.items():
        if cancel is not None:
            cancel.check("os-prober's probes")
        try:
            found += _parse(node, _run(node, place, probes, used, timeout, cancel))
        except Cancelled:
            raise
        except (DiskError, OSError) as error:
            problems[node] = f"os-prober could not look at {node}: {error}"
    return OsProberReport(found=tuple(found), problems=tuple(problems.values()), unseen=frozenset(problems))


def _run(
    node: str, place: Place, probes: Path, used: Sequence[str], timeout: float, cancel: Cancellation | None
) -> str:
    """Run the probes; whatever became of them, the kernel has let go of the device when this returns."""
    own = image_entries.mount_options(place)
    options = ",".join((*_ALWAYS, *safe_options(place.filesystem, read_only=True), *own))
    # A device that somebody uses isn't looked at.
    wait_until_released(node, 0.0)
    require_alone(node)
    # The death of the probes only begins the end of their mount.
    with released(node, _RELEASE_TIMEOUT), tempfile.TemporaryDirectory(prefix="libironic_disk-") as outer:
        folder = Path(outer, "root")
        folder.mkdir()
        done = process.run(
            # With a PID namespace the deadline ends the probes too, not only what started them.
            *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL"),
            *("sh", "-c", _SCRIPT, "sh", node, place.filesystem.value, options, str(folder), str(probes), *used),
            timeout=timeout,
            limits=_LIMITS,
            ok=(0, _NOTHING_FOUND),
            cancel=cancel,
        )
    return done.stdout.decode(errors="replace")


def _parse(node: str, said: str) -> list[Found]:
    """Read lines such as ``/dev/sda1:Debian GNU/Linux 12 (bookworm):Debian:linux``."""
    found = []
    for line in said.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[0] == node:
            # A colon in a title is none between fields.
            title = grubcfg.title(":".join(fields[1:-2]))
            found.append(Found(node=node, title=title, kind=fields[-1]))
    return found
