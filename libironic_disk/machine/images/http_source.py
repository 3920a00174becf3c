"""An image on an HTTP server, or on several.

It is identified once, when its first bytes are read for inspection. Whoever opens it later gets that very image, from
its first byte to its last in one pass, or an error, however often connections break on the way: a part is taken from a
server only if that server shows that it belongs to the same version. Where it can't, all is read again from the start,
and what was already given away is compared by its digest and not given away again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from libironic_disk.errors import SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.http import HttpPolicy, Passing
from libironic_disk.machine.images.http_client import Body, Location
from libironic_disk.machine.images.http_identity import Version, check_plain, part_of, version
from libironic_disk.machine.images.http_line import Line
from libironic_disk.machine.images.http_mirrors import Mirror, Mirrors
from libironic_disk.machine.images.http_reading import OpenHttpImage
from libironic_disk.machine.images.sources import Delivered
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.units import MIB

IMAGE_POLICY: Final = HttpPolicy(total_timeout=4 * 60 * 60, attempts=8)
"""For images: four hours for all of it, and a minute of patience with a server that is being restarted."""

HEAD_SIZE: Final = 4 * MIB
"""How many first bytes are read to identify an image: all that inspection needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpImage:
    """An image as it was when :func:`http_image` looked at it.

    Attributes:
        locations: where it is, the place that was looked at first.
        size: its bytes; None where the server doesn't say.
        head: its first bytes, :data:`HEAD_SIZE` unless it has fewer.
        random_access: whether the server was seen to give parts of exactly this version.
        policy: how patient to be.
        max_bytes: how many bytes are read at most.
        known: how the first place tells this version from others.
    """

    locations: tuple[Location, ...]
    size: int | None
    head: bytes = field(repr=False)
    random_access: bool
    policy: HttpPolicy
    max_bytes: int | None
    known: Version = field(repr=False)

    @property
    def name(self) -> str:
        """What it is called in errors: its first URL, without credentials and query."""
        return self.locations[0].name

    @property
    def access(self) -> MetadataAccess:
        """Each part costs a request, if there are any."""
        return MetadataAccess.LAZY if self.random_access else MetadataAccess.NEVER

    @contextmanager
    def opened(
        self, *, cancel: Cancellation | None = None, delivered: Delivered | None = None
    ) -> Iterator[OpenHttpImage]:
        """Open it for one reading from the start. Nothing is asked of a server yet.

        Args:
            cancel: ends a waiting reader within a fraction of a second.
            delivered: asked when reading has to begin anew, from the thread that reads, for the digest of all that was
                given to the caller so far. Without one, a digest is kept here where it may be needed.
        """
        with (
            Line(self.name, self.policy, cancel) as line,
            closing(OpenHttpImage(self, line, cancel, delivered)) as image,
        ):
            yield image


def http_image(
    *locations: Location,
    policy: HttpPolicy = IMAGE_POLICY,
    cancel: Cancellation | None = None,
    head_size: int = HEAD_SIZE,
    max_bytes: int | None = None,
) -> HttpImage:
    """Look at an image: read its first bytes, and find out how long it is and what its server can do.

    Args:
        locations: places of the same image; the first that answers is taken, the others are for when it fails.
        policy: how patient to be.
        cancel: asked all the time.
        head_size: how many first bytes to read.
        max_bytes: how many it may have.

    Raises:
        ServerRefused: the last location's server answered so.
        SourceTimedOut: not in the policy's time.
        SourceFailed: it can't be read, or has more than ``max_bytes``.
        Cancelled: the caller wished so.
    """
    with Line(locations[0].name, policy, cancel) as line, closing(Mirrors(locations, policy, line)) as mirrors:
        while True:
            mirror = mirrors.current
            try:
                known, head, gives_parts = _look(mirror, head_size)
                break
            except (Passing, SourceFailed) as failure:
                mirrors.failed(failure, 0)
    if max_bytes is not None and max(known.size or 0, len(head)) > max_bytes:
        raise SourceFailed(source=mirror.name, reason=f"it has more than the {max_bytes} bytes that it may have")
    return HttpImage(
        locations=(mirror.location, *(each for each in locations if each is not mirror.location)),
        size=known.size,
        head=head,
        random_access=gives_parts and known.condition is not None,
        policy=policy,
        max_bytes=max_bytes,
        known=known,
    )


def fetch(
    location: Location, *, limit: int, policy: HttpPolicy = IMAGE_POLICY, cancel: Cancellation | None = None
) -> bytes:
    """Read something small, or its first ``limit`` + 1 bytes: the caller sees from the length that there is more.

    Raises:
        ServerRefused, SourceTimedOut, SourceFailed, Cancelled: as :func:`http_image`.
    """
    return http_image(location, policy=policy, cancel=cancel, head_size=limit + 1).head


def _look(mirror: Mirror, head_size: int) -> tuple[Version, bytes, bool]:
    """Return the version, the first bytes, and whether the server gives parts."""
    client = mirror.client
    response = client.get({"Range": f"bytes=0-{head_size - 1}"})
    part = part_of(response) if response.status == 206 else None
    if part is not None and (part.start, part.end) != (0, min(head_size, part.total)):
        part = None
    if part is None and response.status != 200:
        response = client.get({})
    check_plain(response, source=mirror.name)
    known = version(response)
    head = memoryview(bytearray(head_size))
    length = Body(client, response, part.end if part else known.size).read_whole(head)
    if known.size is None and length < head_size:
        known = replace(known, size=length)
    return known, bytes(head[:length]), part is not None
